#!/usr/bin/env python3
"""What the doveadm replica commands refuse: with a sentence, a failing exit, and nothing done for any account."""

import grp
import os
import unittest

from live.command_site import BAD_DATA, USAGE, CommandTest, delivered
from support import replica
from support.waiting import wait_until


class Commands(CommandTest):
    def add_alias(self, name, user):
        with open(self.site.folder / "users", "a", encoding="utf-8") as users:
            users.write(f"{name}:{{PLAIN}}x::::::userdb_user={user}\n")

    def test_bad_input_is_refused_with_a_sentence_and_nothing_is_done(self):
        first, second, third = self.users[:3]
        two, three = self.two.name, self.three.name
        replica.replicate(self.one, self.two, [first])
        self.assertTrue(delivered(self.one, second))

        # the words
        self.refused(USAGE, "write: setAccountDestination", "setAccountDestination")
        self.refused(USAGE, "write: setAccountDestination", "setAccountDestination", two)
        self.refused(USAGE, "write either `accounts", "setAccountDestination", two, 10)
        self.refused(USAGE, "`accounts` needs a value", "setAccountDestination", two, 10, "accounts")
        self.refused(USAGE, "`surplus` is not expected", "setAccountDestination", two, 10, "accounts", second, "surplus")
        self.refused(USAGE, "`surplus` is not expected", "setAccountDestination", two, 10, "surplus", "accounts", second)
        self.refused(USAGE, "`accounts` is given twice", "setAccountDestination", two, 10, "accounts", second, "accounts", third)
        self.refused(USAGE, "write either `accounts", "setAccountDestination", two, 10, "accounts", second, "input_file", "/dev/null")
        self.refused(USAGE, "write: removeAccountDestination", "removeAccountDestination")
        self.refused(USAGE, "write `accounts", "promoteAccounts")
        self.refused(USAGE, "not both", "promoteAccounts", "accounts", first, "source_mail_host", self.one.name)
        self.refused(USAGE, "`force` is `yes` or `no`", "promoteAccounts", "accounts", first, "force", "perhaps")
        self.refused(USAGE, "`surplus` is not expected", "getAccountStatus", "surplus")
        self.refused(USAGE, "`replicaStatus` is `available` or `unavailable`", "getAccountStatus", "replicaStatus", "good")
        self.refused(USAGE, "takes no argument", "operations", "surplus")
        self.refused(USAGE, "takes no argument", "stores", "surplus")
        for priority in ("first", "-1", "1.5", "", "99999999999"):
            self.refused(USAGE, "is not a whole number", "setAccountDestination", two, priority, "accounts", second)

        # the lists
        self.refused(USAGE, "empty name", "setAccountDestination", two, 10, "accounts", f"{second},,{third}")
        self.refused(USAGE, f"names {second} twice", "setAccountDestination", two, 10, "accounts", f"{second},{second}")
        self.refused(USAGE, "No such file", "setAccountDestination", two, 10, "input_file", self.folder / "missing")
        self.refused(USAGE, "names no account", "setAccountDestination", two, 10, "input_file", self.file(b"# nothing\n\n"))
        self.refused(USAGE, "is a binary file", "setAccountDestination", two, 10, "input_file", self.file(second.encode() + b"\n\0\1\2"))
        self.refused(USAGE, "is not a regular file", "setAccountDestination", two, 10, "input_file", self.folder)
        self.refused(USAGE, f"names {third} twice", "promoteAccounts", "input_file", self.file(f"{third}\n{third}\n".encode()))
        for name in ("john*", "u000?@example.com", "^u.*", "u[0-9]@example.com"):
            self.refused(BAD_DATA, [name, "wildcards and regular expressions are not taken"], "setAccountDestination", two, 10, "accounts", name)
            self.refused(BAD_DATA, [name, "wildcards and regular expressions are not taken"], "removeAccountDestination", two, "accounts", name)
            self.refused(BAD_DATA, [name, "wildcards and regular expressions are not taken"], "promoteAccounts", "accounts", name)
        self.refused(BAD_DATA, "no control characters", "setAccountDestination", two, 10, "accounts", "bell\a@example.com")

        # accounts
        self.add_alias("alias@example.com", second)
        self.refused(BAD_DATA, ["alias@example.com is an alias or a list", second], "setAccountDestination", two, 10, "accounts", "alias@example.com")
        self.refused(BAD_DATA, ["nobody@example.com", "does not know it"], "setAccountDestination", two, 10, "accounts", "nobody@example.com")
        self.refused(BAD_DATA, ["nobody@example.com", "does not know it", "nothing was done"],
                     "setAccountDestination", two, 10, "accounts", f"{second},nobody@example.com,{third}")
        self.refused(BAD_DATA, [f"{second}: it has no replica"], "promoteAccounts", "accounts", f"{first},{second}")
        self.refused(BAD_DATA, [f"{second}: it has no replica"], "removeAccountDestination", two, "accounts", f"{first},{second}")
        self.refused(BAD_DATA, "it has no replica", "promoteAccounts", "accounts", "nobody@example.com")
        self.refused(BAD_DATA, [f"{second}: {self.one.name} holds 1 mail"], "setAccountDestination", self.one.name, 10, "accounts", second, store=self.three)

        # stores
        self.refused(BAD_DATA, "store nowhere.example.com is unknown", "setAccountDestination", "nowhere.example.com", 10, "accounts", second)
        self.refused(BAD_DATA, "store nowhere.example.com is unknown", "promoteAccounts", "accounts", first, "target", "nowhere.example.com")
        self.refused(BAD_DATA, "is the source of no account", "promoteAccounts", "source_mail_host", "nowhere.example.com")
        self.refused(BAD_DATA, "nowhere.example.com is not a destination", "removeAccountDestination", "nowhere.example.com", "accounts", first)
        self.refused(BAD_DATA, "cannot be its destination too", "setAccountDestination", self.one.name, 10, "accounts", second)
        self.refused(BAD_DATA, "cannot be its destination too", "setAccountDestination", self.one.name, 10, "accounts", first, store=self.two)
        self.refused(BAD_DATA, f"priority 10 is taken by {two}", "setAccountDestination", three, 10, "accounts", first)
        self.refused(BAD_DATA, f"{three} is not a destination of it", "promoteAccounts", "accounts", first, "target", three)
        self.refused(BAD_DATA, "is its source already", "promoteAccounts", "accounts", first, "target", self.one.name)
        self.site.freeze(three)
        self.addCleanup(self.site.thaw, three)
        wait_until(lambda: three not in self.alive(self.one), 30, f"{three} is silent")
        self.refused(BAD_DATA, f"store {three} is silent", "setAccountDestination", three, 20, "accounts", first)

    def test_a_store_with_an_account_in_other_rights_or_another_blob_store_is_refused(self):
        user = self.users[0]
        known = self.site.folder / "users"
        users = self.two.folder / "users"
        gid = str(grp.getgrnam("mail").gr_gid)
        lines = [line.split(":") for line in known.read_text().splitlines()]
        users.write_text("".join(":".join(line[:3] + [gid if line[0] == user else line[3]] + line[4:]) + "\n" for line in lines))
        os.chown(users, known.stat().st_uid, known.stat().st_gid)
        text = self.two.config.read_text()
        self.two.config.write_text(text.replace(str(known), str(users)))
        self.two.reload()
        self.refused(BAD_DATA, [user, "gid differs"], "setAccountDestination", self.two.name, 10, "accounts", f"{self.users[1]},{user}")
        blobs = self.three.folder / "blobs"
        blobs.mkdir()
        os.chown(blobs, (self.site.folder / "blobs").stat().st_uid, -1)
        text = self.three.config.read_text()
        self.three.config.write_text(text.replace(f"prefix={self.site.folder}/blobs/", f"prefix={blobs}/"))
        self.three.reload()
        self.refused(BAD_DATA, [user, "both must use the same blob store"], "setAccountDestination", self.three.name, 10, "accounts", user)

    def test_brokers_that_do_not_answer_are_named_and_nothing_is_done(self):
        user = self.users[0]
        replica.replicate(self.one, self.two, [user])
        self.site.kill("broker1")
        wait_until(lambda: all(int(row["silent_seconds"]) > 3 for row in self.stores(self.one)), 120, "no heartbeat comes any more")
        for words in (("setAccountDestination", self.two.name, 10, "accounts", self.users[1]),
                      ("removeAccountDestination", self.two.name, "accounts", user),
                      ("promoteAccounts", "accounts", user)):
            self.refused(BAD_DATA, "brokers", *words)
        self.assertEqual("no", replica.status(self.one)[0]["available"])
        self.one.reload()  # the next agent cannot read the control log
        wait_until(lambda: self.one.doveadm("replica", "getAccountStatus", check=False).returncode == BAD_DATA, 30, "the new agent answers")
        self.assertIn("brokers", self.one.doveadm("replica", "getAccountStatus", check=False).stderr)
        text = self.one.config.read_text()
        self.one.config.write_text(text.replace("replica_brokers = ", "#replica_brokers = "))
        self.one.reload()
        wait_until(lambda: "replica_brokers is not set" in self.one.doveadm("replica", "getAccountStatus", check=False).stderr, 30,
                   "an agent without brokers says so")


if __name__ == "__main__":
    unittest.main()
