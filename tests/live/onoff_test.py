#!/usr/bin/env python3
"""Turning it off and on: what changed while the plugin was not loaded is `unlogged`, and is snapshotted when it is loaded again;
accounts that have mail get a replica; after everything was removed the mail is as usable as before."""

import os
import unittest

from support import replica
from support.compare import assert_equal_stores, compare_stores, read_account
from support.live import SiteTest
from support.waiting import wait_until

MAIL = b"Subject: %d\r\n\r\nbody\r\n"
ON, OFF = "mail_plugins = cbox replica\n", "mail_plugins = cbox\n"


class OnOff(SiteTest):
    site_options = {"accounts": 3}

    def setUp(self):
        super().setUp()
        self.one, self.two = self.site.stores
        self.number = 0

    def switch(self, old, new):
        for store in self.site.stores:
            text = store.config.read_text()
            self.assertEqual(1, text.count(old))
            store.config.write_text(text.replace(old, new))
            store.reload()
        for store in self.site.stores:
            store.wait_ready()

    def deliver(self, user, store=None):
        self.number += 1
        return (store or self.one).lmtp().deliver(user, MAIL % self.number)[user].startswith("250")

    def change(self, user, store=None):
        """Something of everything that a client does."""
        store = store or self.one
        self.assertTrue(self.deliver(user, store))
        with store.imap(user) as imap:
            box = f"box{self.number}"
            imap.expect("CREATE", box)
            imap.expect("SUBSCRIBE", box)
            imap.select("INBOX")
            self.assertTrue(imap.append("INBOX", MAIL % 0, "\\Flagged word").ok)
            imap.expect("UID COPY * ", box)
            imap.expect("UID STORE 1 +FLAGS (\\Answered)")
            self.assertTrue(imap.append("INBOX", MAIL % 1, "\\Deleted").ok)
            imap.expect("EXPUNGE")
            imap.expect("RENAME", box, f"renamed{self.number}")

    def note(self, user, store=None):
        return (store or self.one).folder / "mail" / user / "mail" / ".replica" / "unlogged"

    def test_what_changed_while_the_plugin_was_off_is_snapshotted_when_it_is_on_again(self):
        user, quiet = self.users[:2]
        for name in self.users:
            self.change(name)
        replica.replicate(self.one, self.two, self.users)
        self.change(user)
        assert_equal_stores(self.site, self.users)
        self.switch(ON, OFF)
        self.change(user)
        self.assertTrue(self.deliver(quiet))  # and nobody touches it afterwards
        self.assertTrue(self.note(user).exists())
        self.assertTrue(compare_stores(self.site, [user]))
        self.switch(OFF, ON)
        assert_equal_stores(self.site, self.users, timeout=120)
        wait_until(lambda: not self.note(user).exists() and not self.note(quiet).exists(), 60, "nothing is unlogged any more")
        self.change(user)
        self.change(quiet)
        assert_equal_stores(self.site, self.users)
        wait_until(lambda: replica.complete(self.two, self.two, self.users), 60, "complete again")
        replica.promote(self.two, self.users)
        for name in self.users:
            self.change(name, self.two)
        assert_equal_stores(self.site, self.users)

    def test_a_promotion_asks_the_source_for_what_changed_while_the_plugin_was_off(self):
        quiet = self.users[1]
        replica.replicate(self.one, self.two, self.users)
        self.switch(ON, OFF)
        self.assertTrue(self.deliver(quiet))  # and nobody looks at it, but the promotion

        def promote():
            return self.two.doveadm("replica", "promoteAccounts", "accounts", quiet, "target", self.two.name, check=False)

        refused = promote()
        self.assertNotEqual(0, refused.returncode)
        self.assertRegex(refused.stdout + refused.stderr, f"{quiet}: {self.two.name} cannot take over: .* what no log has yet")
        self.switch(OFF, ON)
        wait_until(lambda: promote().returncode == 0, 60, "promoted, once the target has the snapshot", 0.2)
        wait_until(lambda: replica.active(self.two, [quiet]), 60, "active")
        assert_equal_stores(self.site, [quiet], first=self.two.name, second=self.one.name)

    def test_existing_accounts_get_a_replica_and_everything_can_be_removed_again(self):
        self.switch(ON, OFF)
        for name in self.users:
            self.change(name)
            self.change(name)
        self.switch(OFF, ON)
        user = self.users[0]
        before = {name: self.picture(name) for name in self.users}
        self.assertFalse((self.one.folder / "mail" / user / "mail" / ".replica" / "state").exists())
        replica.replicate(self.one, self.two, self.users)
        assert_equal_stores(self.site, self.users)
        self.assertEqual(before, {name: self.picture(name) for name in self.users})
        self.one.doveadm("replica", "removeAccountDestination", self.two.name, "accounts", ",".join(self.users))
        for name in self.users:
            state = self.one.folder / "mail" / name / "mail" / ".replica" / "state"
            wait_until(lambda path=state: not path.exists(), 60, "no role is left")
        for store in self.site.stores:
            text = store.config.read_text().replace(ON, OFF)
            store.config.write_text("".join(line + "\n" for line in text.splitlines() if "90-replica.conf" not in line and " replica_" not in line))
            store.replica = False
            self.site.stop(store.name)
            self.site.start(store.name)
        self.assertFalse(os.path.exists(self.one.folder / "run" / "replica-control") and self.one.doveadm("replica", "stores", check=False).returncode == 0)
        self.assertEqual(before, {name: self.picture(name) for name in self.users})
        for name in self.users:
            self.change(name)
            self.assertNotEqual(before[name], self.picture(name))

    def picture(self, user):
        return read_account(self.one, user)


if __name__ == "__main__":
    unittest.main()
