#!/usr/bin/env python3
"""The worker replica-apply: the mailbox list, change by change and merged from a snapshot.

Needs root; REPLICA_BUILD_DIR names the build directory, REPLICA_KEEP=1 keeps the folders with log and mail.
"""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from live import worker_client as wire  # noqa: E402
from live.fake_agent import NO_GUID  # noqa: E402
from live.plugin_host import MAIL  # noqa: E402
from live.worker_site import WorkerTest, setUpModule  # noqa: E402, F401 (unittest calls it)


class Lists(WorkerTest):
    """List changes by hand, on the destination alone."""

    def setUp(self):
        super().setUp()
        self.apply = self.worker(self.target)
        self.apply.set_role(self.user, "destination")
        self.last = (0, 0)
        self.guids = [bytes([i]) * 16 for i in range(1, 10)]

    def do(self, make, *arguments, verdict="applied"):
        number = (1, self.last[1] + 1)
        reply = self.apply.apply(self.user, [make(number, self.last, *arguments)])
        self.assertEqual(reply["changes"], [verdict], reply)
        if verdict == "applied":
            self.last = number

    def merge(self, *mailboxes, subscriptions=()):
        self.do(wire.list_snapshot, [(guid, path.split("/"), 7) for guid, path in mailboxes],
                [path.split("/") for path in subscriptions])
        names = {s["object"][1]: "/".join(s["name"]) for s in self.apply.inspect(self.user)["facts"]["objects"]
                 if s["object"] != ("", NO_GUID) and s["object"] != ("Archive/", NO_GUID)}
        self.assertEqual(names, dict(mailboxes))
        listed = self.target.doveadm("mailbox", "list", "-u", self.user).stdout
        self.assertNotIn("replica-aside", listed)
        subscribed = self.target.doveadm("mailbox", "list", "-s", "-u", self.user).stdout.split()
        self.assertEqual(set(subscribed) - {"Auto"}, set(subscriptions))

    def test_create_rename_delete_by_guid(self):
        a, b = self.guids[:2]
        self.do(wire.create, a, ["A"])
        self.do(wire.create, b, ["A", "b"])
        self.do(wire.rename, a, ["A"], ["B"])
        self.do(wire.create, NO_GUID, ["dir"])
        self.do(wire.rename, NO_GUID, ["dir"], ["dir2"])
        self.do(wire.subscription, ["B", "b"], True)
        listed = self.target.doveadm("mailbox", "list", "-u", self.user).stdout.split()
        self.assertEqual(set(listed) - {"Auto", "INBOX", "Archive"}, {"B", "B/b", "dir2"})
        self.do(wire.delete, NO_GUID, ["dir2"])
        self.do(wire.delete, b, ["B", "b"])
        self.do(wire.delete, self.guids[5], ["never"])
        self.do(wire.rename, self.guids[5], ["never"], ["ever"], verdict="wanted")

    def test_a_new_mailbox_has_the_number_of_its_creation(self):
        self.do(wire.create, self.guids[0], ["A"])
        state, = [s for s in self.apply.inspect(self.user)["facts"]["objects"] if s["name"] == ["A"]]
        self.assertEqual(state["mark"], ((1, 1), False))

    def test_a_merge_renames_in_circles(self):
        a, b, c, d = self.guids[:4]
        self.merge((a, "A"), (b, "B"), (c, "A/c"), subscriptions=["A", "A/c"])
        self.merge((a, "B"), (b, "A"), (c, "A/c"), subscriptions=["B"])
        self.merge((a, "A/c"), (b, "B"), (c, "A"))
        self.merge((a, "x/y"), (d, "x"), (c, "x/y/z"))
        self.merge((c, "x"))
        self.merge()

    def test_a_merge_gives_an_empty_inbox_the_sources_guid(self):
        self.target.imap(self.user).logout()  # makes the INBOX and Auto
        self.merge((self.guids[0], "INBOX"), (self.guids[1], "Auto"))

    def test_a_merge_exchanges_an_inbox_that_the_source_made_anew(self):
        self.merge((self.guids[0], "INBOX"), (self.guids[1], "old"))
        self.merge((self.guids[2], "INBOX"), (self.guids[0], "old"))

    def test_mails_that_the_log_does_not_know_are_kept(self):
        imap = self.target.imap(self.user)
        self.assertEqual(self.apply.set_role(self.user, "none")["verdict"], "applied")
        imap.append("INBOX", MAIL % (1, 1))
        imap.logout()
        self.apply.set_role(self.user, "destination")
        self.do(wire.list_snapshot, [(self.guids[0], ["INBOX"], 7)], [], verdict="diverged")

    def test_a_name_that_is_taken_by_mails_is_diverged(self):
        self.do(wire.create, self.guids[0], ["A"])
        self.do(wire.create, self.guids[1], ["A"], verdict="diverged")

    def test_a_gap_in_the_list_makes_it_wanted(self):
        self.do(wire.create, self.guids[0], ["A"])
        reply = self.apply.apply(self.user, [wire.create((1, 9), (1, 8), self.guids[1], ["B"])])
        self.assertEqual(reply["changes"], ["wanted"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
