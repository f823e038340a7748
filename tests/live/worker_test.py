#!/usr/bin/env python3
"""The worker replica-apply: accounts described, what the source's log says applied on the destination, and errands.

Needs root; REPLICA_BUILD_DIR names the build directory, REPLICA_KEEP=1 keeps the folders with log and mail.
"""

import email
import email.policy
import os
import pathlib
import random
import shutil
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from live import worker_client as wire  # noqa: E402
from live.fake_agent import NO_GUID  # noqa: E402
from live.plugin_host import MAIL  # noqa: E402
from live.worker_site import WorkerTest, randomly, setUpModule  # noqa: E402, F401 (unittest calls it), F401 (unittest calls it)
from support.waiting import wait_until  # noqa: E402


class Facts(WorkerTest):
    def test_an_account_is_described_without_being_changed(self):
        self.imap(mails=3)
        facts = self.worker(self.source).inspect(self.user)["facts"]
        self.assertTrue(facts["exists"])
        self.assertEqual((facts["user"], facts["uid"], facts["unfit"]), (self.user, str(self.source.uid), ""))
        self.assertEqual(facts["mail_root"], str(self.source.folder / "mail" / self.user / "mail"))
        self.assertEqual(facts["device"], os.stat(facts["mail_root"]).st_dev)
        self.assertIn("layout=index", facts["settings"].splitlines())
        self.assertEqual([s["object"] for s in facts["objects"][:2]], [("", NO_GUID), ("Archive/", NO_GUID)])
        inbox, = [s for s in facts["objects"] if s["name"] == ["INBOX"]]
        self.assertEqual((inbox["mails"], inbox["mark"]), (3, ((0, 0), False)))

    def test_inspecting_a_fresh_account_makes_no_mailbox(self):
        facts = self.worker(self.target).inspect(self.user)["facts"]
        self.assertEqual([s for s in facts["objects"] if s["object"][1] != NO_GUID], [])

    def test_the_role_is_written_with_this_boot_and_removed_again(self):
        worker = self.worker(self.target)
        reply = worker.set_role(self.user, "destination", 7)
        self.assertEqual(reply["verdict"], "applied", reply)
        state = pathlib.Path(reply["facts"]["mail_root"]) / ".replica" / "state"
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text()
        self.assertEqual(state.read_text(), f"1 destination 7 {boot}")
        self.assertEqual((state.parent.stat().st_mode & 0o777, state.stat().st_uid), (0o700, self.target.uid))
        worker.set_role(self.user, "none")
        self.assertFalse(state.exists())

    def test_without_a_role_nothing_is_applied(self):
        reply = self.worker(self.target).apply(self.user, [wire.create((1, 1), (0, 0), os.urandom(16), ["a"])])
        self.assertEqual((reply["verdict"], reply["changes"]), ("failed", []))

    def test_a_blob_is_written_and_read_by_name(self):
        worker = self.worker(self.source)
        self.assertEqual(worker.probe(self.user, "probe-1", b"content")["verdict"], "applied")
        self.assertEqual(worker.probe(self.user, "probe-1")["content"], b"content")
        self.assertEqual(worker.probe(self.user, "absent")["verdict"], "failed")

    def test_a_flush_covers_what_is_there_and_what_is_gone(self):
        worker = self.worker(self.target)
        self.assertEqual(worker.flush([str(self.target.folder / "mail"), "/nonexistent/deep/root"])["verdict"], "applied")
        self.assertEqual(worker.flush(["relative"])["verdict"], "failed")


class Changes(WorkerTest):
    def test_every_kind_of_change_makes_both_stores_equal(self):
        imap = self.begin(mails=3)
        self.initialise()
        self.assert_equal_stores()
        imap.expect("CREATE box/below")
        imap.expect("SUBSCRIBE box/below")
        imap.select("INBOX")
        for command in ("STORE 1 +FLAGS (\\Seen)", "STORE 2 +FLAGS (kw $Forwarded)", "COPY 1:2 box/below",
                        "STORE 3 +FLAGS (\\Deleted)", "EXPUNGE", "MOVE 1 box/below",
                        'SETMETADATA INBOX (/private/comment "c")'):
            imap.expect(*command.split(" ", 1))
            self.follow()
            self.assert_equal_stores()
        imap.expect("RENAME box other")
        imap.expect("CREATE Archive/2024")
        imap.expect("UNSUBSCRIBE box/below")
        self.assertNotIn("wanted", self.follow())
        self.assert_equal_stores()
        imap.expect("DELETE other/below")
        self.follow()
        self.assert_equal_stores()

    def test_any_suffix_of_the_log_may_be_applied_again(self):
        imap = self.begin(mails=2)
        self.initialise()
        randomly(imap, random.Random(1), 60)
        self.follow()
        before = self.target.state(self.user)
        self.assertEqual(before, self.source.state(self.user))
        records = self.log.of(self.user)
        for start in random.Random(2).sample(range(len(records)), 10):
            reply = self.apply.apply(self.user, records[start:])
            self.assertEqual(set(reply["changes"]), {"skipped"})
        self.assertEqual(self.target.state(self.user), before)

    def test_a_gap_makes_the_object_wanted_and_a_snapshot_heals_it(self):
        imap = self.begin(mails=2)
        self.initialise()
        imap.select("INBOX")
        imap.expect("STORE 1 +FLAGS (\\Seen)")
        self.applied = self.log.of(self.user)[-1]["number"]  # lost
        imap.expect("STORE 2 +FLAGS (\\Seen)")
        self.assertEqual(self.follow(), ["wanted"])
        inbox = self.log.of(self.user)[-1]["object"]
        self.snapshot_mailbox(inbox)
        self.assert_equal_stores()

    def test_a_mailbox_that_is_not_there_is_skipped_or_its_list_is_wanted(self):
        imap = self.begin(mails=1)
        self.initialise()
        imap.expect("CREATE gone")
        imap.append("gone", MAIL % (1, 1))
        imap.expect("DELETE gone")
        self.follow()
        records = self.log.of(self.user)
        append = next(r for r in reversed(records) if r["kind"] == "mailbox")
        self.assertEqual(self.apply.apply(self.user, [append])["changes"], ["skipped"])
        later = {**append, "number": (1, 10 ** 6), "object": ("", os.urandom(16))}
        self.assertEqual(self.apply.apply(self.user, [later])["changes"], ["list_wanted"])

    def test_the_driver_never_reads_a_body_and_needs_no_right_to_the_blobs(self):
        blobs = self.target.folder / "mail" / self.user / "blobs"
        blobs.mkdir()
        blobs.chmod(0)
        imap = self.begin(mails=3)
        self.initialise()
        imap.append("INBOX", MAIL % (9, 9))
        imap.expect("CREATE box")
        imap.select("INBOX")
        imap.expect("COPY 1:2 box")
        self.follow()
        self.assert_equal_stores()
        self.assertEqual(list(blobs.iterdir()), [])

    def test_the_source_rolls_forward_what_it_did_not_commit(self):
        imap = self.begin(mails=1)
        self.initialise()
        self.log.obey(on_change=lambda connection, frame: (self.log.number(connection, frame, answer=False),
                                                           connection.close()))
        self.assertFalse(imap.append("INBOX", MAIL % (5, 5)).ok)
        self.log.obey()
        self.assertEqual(self.follow(), ["applied"])
        roll = self.worker(self.source)
        self.assertEqual(roll.apply(self.user, self.log.of(self.user)[-1:])["changes"], ["applied"])
        self.assert_equal_stores()
        wait_until(lambda: imap.append("INBOX", MAIL % (6, 6)).ok, 60, "an append after the roll-forward")
        self.follow()
        self.assert_equal_stores()
        self.source.new_log()  # has the refusal


class Others(WorkerTest):
    def test_sessions_of_the_account_are_ended_and_no_others(self):
        mine, other = self.imap(mails=1), self.source.imap("other@example.com")
        mine.select("INBOX")
        reply = self.worker(self.source).kick(self.user)
        self.assertEqual(reply["verdict"], "applied", reply)
        with self.assertRaises((OSError, EOFError, RuntimeError, ValueError)):
            for _ in range(100):
                mine.expect("NOOP")
        other.expect("NOOP")
        other.logout()

    def test_one_account_that_cannot_be_opened_is_an_answer(self):
        worker = self.worker(self.target)
        worker.set_role(self.user, "destination")
        root = self.target.folder / "mail" / self.user / "mail"
        shutil.rmtree(root)
        root.write_text("not a directory")
        self.assertIn(worker.inspect(self.user)["verdict"], ("failed", "retry"))
        self.target.add_user("healthy@example.com")
        self.assertEqual(worker.set_role("healthy@example.com", "destination")["verdict"], "applied")
        self.target.new_log()

    def test_a_mail_goes_through_the_submission_host(self):
        reply = self.worker(self.target).notify("admin@example.com", "Replica complete: ü", "first line\nsecond line")
        self.assertEqual(reply["verdict"], "applied", reply)
        sender, recipients, message = self.target.mails.get(timeout=60)
        self.assertEqual((sender, recipients), ("<>", ["<admin@example.com>"]))
        mail = email.message_from_string(message, policy=email.policy.default)
        self.assertEqual((mail["Subject"], mail["To"], mail["Auto-Submitted"]),
                         ("Replica complete: ü", "admin@example.com", "auto-generated"))
        self.assertEqual(mail.get_content().splitlines(), ["first line", "second line"])

    def test_a_mail_goes_nowhere_without_a_way_and_says_so(self):
        reply = self.worker(self.source).notify("admin@example.com", "subject", "text")
        self.assertEqual(reply["verdict"], "failed")
        self.assertIn("sendmail_path", reply["text"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
