#!/usr/bin/env python3
"""A source that lost a mailbox's index: the loss never becomes the truth of a replica by itself. Who decides is the administrator, by
promoting a replica, or by taking what the bodies still tell."""

import re
import unittest

from support import replica
from support.compare import assert_equal_stores
from support.live import SiteTest
from support.waiting import wait_until

MAIL = b"Subject: %d\r\n\r\nbody\r\n"


class LostIndex(SiteTest):
    site_options = {"accounts": 2}

    def setUp(self):
        super().setUp()
        self.one, self.two = self.site.stores
        self.number = 0
        self.user, self.other = self.users
        for name in self.users:
            for _ in range(3):
                self.assertTrue(self.deliver(name))
        with self.one.imap(self.user) as imap:
            imap.select("INBOX")
            imap.expect("UID STORE 1 +FLAGS (\\Seen)")
        replica.replicate(self.one, self.two, self.users)
        assert_equal_stores(self.site, self.users)

    def deliver(self, user, store=None):
        self.number += 1
        return (store or self.one).lmtp().deliver(user, MAIL % self.number)[user].startswith("250")

    def subjects(self, store):
        return sorted(re.findall(r"subject: (\d+)", store.doveadm("fetch", "-u", self.user, "hdr.subject", "mailbox", "INBOX").stdout))

    def lose(self, quiet):
        """INBOX's index, while nobody has it open; `quiet`: when nothing of the mailbox has to be rolled forward."""
        guid = re.search(r"guid=(\w+)", self.one.doveadm("mailbox", "status", "-u", self.user, "guid", "INBOX").stdout).group(1)
        (self.site.stop if quiet else self.site.kill)(self.one.name)
        for path in (self.one.folder / "mail" / self.user / "mail" / "mailboxes" / guid).iterdir():
            path.unlink()
        self.site.start(self.one.name)
        self.one.wait_ready()

    def lost_is_not_the_truth(self):
        self.assertFalse(self.deliver(self.user), "what follows the loss is not acknowledged")
        self.assertTrue(self.deliver(self.other), "another account is not affected")
        self.assertEqual(3, len(self.subjects(self.two)), "the replica has it all")

    def promoted(self):
        replica.promote(self.two, [self.user])
        self.assertEqual(3, len(self.subjects(self.two)))
        self.assertTrue(self.deliver(self.user, self.two))

    def resynced(self):
        before = self.subjects(self.two)
        self.one.doveadm("force-resync", "-u", self.user, "INBOX")
        self.assertEqual(before, self.subjects(self.one))
        wait_until(lambda: self.deliver(self.user), 60, "deliveries are acknowledged again")
        assert_equal_stores(self.site, self.users, timeout=60)
        self.assertIn(str(self.number), self.subjects(self.two))

    def test_of_a_quiet_mailbox_and_a_promotion(self):
        self.lose(quiet=True)
        self.lost_is_not_the_truth()
        self.assertIn("lost its index", self.one.log.read_text())
        self.promoted()

    def test_of_a_quiet_mailbox_and_force_resync(self):
        self.lose(quiet=True)
        self.lost_is_not_the_truth()
        self.resynced()

    def test_of_a_busy_mailbox_and_force_resync(self):
        self.assertTrue(self.deliver(self.user))
        wait_until(lambda: len(self.subjects(self.two)) == 4, 60, "the replica has it")
        self.lose(quiet=False)
        self.assertFalse(self.deliver(self.user))
        self.assertIn("cannot be rolled forward", self.one.log.read_text())
        self.resynced()


if __name__ == "__main__":
    unittest.main()
