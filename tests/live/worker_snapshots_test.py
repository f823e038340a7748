#!/usr/bin/env python3
"""The worker replica-apply: snapshots, changes that come during them, and workers that are killed at any instant.

Needs root; REPLICA_BUILD_DIR names the build directory, REPLICA_KEEP=1 keeps the folders with log and mail.
"""

import contextlib
import os
import pathlib
import random
import signal
import sys
import threading
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from live import worker_client as wire  # noqa: E402
from live.plugin_host import MAIL  # noqa: E402
from live.worker_site import WorkerTest, randomly, setUpModule  # noqa: E402, F401 (unittest calls it)


class Snapshots(WorkerTest):
    def test_changes_that_come_during_a_snapshot_are_applied_after_it(self):
        imap = self.begin(mails=20)
        self.snapshot_list()
        inbox, = [s["object"] for s in self.unmarked() if s["name"] == ["INBOX"]]
        snapshot, number, bulk = self.take_snapshot(inbox)
        self.assertIn("wanted", self.follow())
        imap.select("INBOX")
        imap.expect("STORE 1:5 +FLAGS (\\Deleted)")
        imap.expect("EXPUNGE")
        self.assertTrue(imap.append("INBOX", MAIL % (77, 77)).ok)
        self.assertEqual(set(self.follow()), {"applied"})
        for record in bulk:
            self.assertEqual(self.apply.collect(self.user, record)["verdict"], "applied")
            self.assertEqual(self.apply.collect(self.user, record)["verdict"], "skipped")
        self.assertEqual(self.apply.build(self.user, inbox, snapshot, number)["verdict"], "applied")
        self.assertEqual(self.apply.build(self.user, inbox, snapshot, number)["verdict"], "skipped")
        for state in self.unmarked():
            self.snapshot_mailbox(state["object"])
        self.assert_equal_stores()
        root = self.target.folder / "mail" / self.user / "mail" / ".replica"
        self.assertEqual([p.name for p in root.iterdir()], ["state"])

    def test_an_unknown_or_broken_snapshot_is_wanted(self):
        self.begin(mails=3)
        self.snapshot_list()
        inbox, = [s["object"] for s in self.unmarked() if s["name"] == ["INBOX"]]
        snapshot, number, bulk = self.take_snapshot(inbox)
        self.assertEqual(self.apply.collect(self.user, bulk[0])["verdict"], "wanted")
        self.follow()
        self.assertEqual(self.apply.build(self.user, inbox, os.urandom(16), number)["verdict"], "wanted")
        self.assertEqual(self.apply.build(self.user, inbox, snapshot, number)["verdict"], "wanted")  # without bulk
        self.assertEqual(self.apply.collect(self.user, bulk[0])["verdict"], "wanted")

    def test_what_was_committed_past_the_log_is_cleared_by_a_snapshot(self):
        imap = self.begin(mails=1)
        self.initialise()
        self.origin.set_role(self.user, "none")
        imap.append("INBOX", MAIL % (3, 3))
        note = self.source.folder / "mail" / self.user / "mail" / ".replica" / "unlogged"
        self.assertTrue(note.exists())
        self.origin.set_role(self.user, "source")
        unlogged = [s for s in self.origin.inspect(self.user)["facts"]["objects"] if s["mark"][1]]
        self.assertEqual([s["name"] for s in unlogged], [["INBOX"]])
        _, _, bulk = self.take_snapshot(unlogged[0]["object"])
        self.assertFalse(note.exists())
        self.assertFalse([s for s in self.origin.inspect(self.user)["facts"]["objects"] if s["mark"][1]])


class Killed(WorkerTest):
    """The worker dies at any instant; the agent asks again."""

    def setUp(self):
        super().setUp()
        self.kills = 0

    def insist(self, ask):
        """Until it is answered, over as many workers as that takes."""
        while True:
            try:
                return ask(self.apply)
            except wire.Lost:
                self.kills += 1
                self.apply = self.reconnect()

    def reconnect(self):
        self.apply.close()
        while True:
            with contextlib.suppress(wire.Lost):
                return self.worker(self.target)

    def killing(self, done, longest):
        rng = random.Random(1)
        while not done.wait(rng.uniform(0.001, longest)):
            longest *= 1.01  # on a machine so busy that no request gets through, one does in the end
            for pid in self.target.processes("replica-apply"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def under_fire(self, work, longest):
        """`longest`: how long the worker is let alone; more than the longest single request, or it is never done."""
        done = threading.Event()
        killer = threading.Thread(target=self.killing, args=(done, longest))
        killer.start()
        try:
            work()
        finally:
            done.set()
            killer.join()
        self.target.new_log()  # full of what was killed

    def rounds(self, least):
        """So many, and more until some requests were answered by another worker than they were sent to."""
        done = 0
        while done < least or self.kills <= 3:
            done += 1
            yield done

    def test_in_the_middle_of_changes(self):
        imap = self.begin(mails=3)
        self.initialise()
        randomly(imap, random.Random(3), 150)
        records = self.log.of(self.user, self.applied)

        def work():
            for _ in self.rounds(4):
                for i in range(0, len(records), 8):
                    reply = self.insist(lambda worker, i=i: worker.apply(self.user, records[i:i + 8]))
                    self.assertLessEqual(set(reply["changes"]), {"applied", "skipped"}, reply)
        self.under_fire(work, longest=0.03)
        self.assert_equal_stores()

    def test_in_the_middle_of_collecting_and_building(self):
        imap = self.begin(mails=1)
        for i in range(39):
            imap.append("INBOX", MAIL % (i, i))
        imap.select("INBOX")
        for _ in range(5):
            imap.expect("COPY 1:* INBOX")
            imap.expect("NOOP")
        self.snapshot_list()
        objects = [s["object"] for s in self.unmarked()]
        self.assertTrue(objects)

        def snapshot(object_):
            before = self.log.of(self.user)[-1]["number"]
            snapshot, number, bulk = self.take_snapshot(object_)
            opening = self.log.of(self.user, before)
            self.insist(lambda worker: worker.apply(self.user, opening))
            imap.expect("STORE 1:10 +FLAGS (\\Answered)")
            imap.expect("STORE 1:10 -FLAGS (\\Answered)")
            live = self.log.of(self.user, number)
            for record in bulk:
                reply = self.insist(lambda worker: worker.collect(self.user, record))
                self.assertIn(reply["verdict"], ("applied", "skipped"))
            reply = self.insist(lambda worker: worker.apply(self.user, live))
            self.assertIn(reply["verdict"], ("applied",), reply)
            reply = self.insist(lambda worker: worker.build(self.user, object_, snapshot, number))
            self.assertIn(reply["verdict"], ("applied", "skipped"), reply)

        def work():
            for _ in self.rounds(12):
                for object_ in objects:
                    snapshot(object_)
                    self.applied = self.log.of(self.user)[-1]["number"]
                imap.expect("STORE 11 +FLAGS (\\Flagged)")  # lost: wanted again
                imap.expect("STORE 11 -FLAGS (\\Flagged)")
                lost = self.log.of(self.user, self.applied)[1:]
                reply = self.insist(lambda worker: worker.apply(self.user, lost))
                self.assertEqual(set(reply["changes"]), {"wanted"})
            for object_ in objects:
                snapshot(object_)
        self.under_fire(work, longest=0.3)
        self.assert_equal_stores()


if __name__ == "__main__":
    unittest.main(verbosity=2)
