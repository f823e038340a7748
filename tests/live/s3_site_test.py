#!/usr/bin/env python3
"""The main job with all bodies on S3, and what users feel when S3 is away, slow or says no: temporary failures; nothing is lost, nothing
is marked corrupt, and what needs no body goes on."""

import hashlib
import re
import time
import unittest

from support import processes, replica, s3
from support.compare import assert_equal_stores
from support.faults import LoadTest
from support.waiting import wait_until

BAD = re.compile(r"Panic|Fatal(?!.*killed with signal 9)|[Cc]orrupt|fscking|assert")
ANSWER_MAX = 60  # no client waits longer for a store whose S3 is away
MESSAGE = b"From: a@example.net\r\nSubject: s3\r\n\r\n" + b"line\r\n" * 1000


class OnS3(LoadTest):
    site_options = {"accounts": 4, "bodies": "s3"}

    def setUp(self):
        super().setUp()
        self.addCleanup(self.assert_clean_logs)

    def assert_clean_logs(self):
        for store in self.site.stores:
            self.assertNotRegex(store.log.read_text(errors="replace"), BAD)

    def deliver(self, store=None, user=None):
        user = user or self.users[0]
        with (store or self.one).lmtp(ANSWER_MAX) as lmtp:
            return lmtp.deliver(user, MESSAGE)[user]

    def bodies_at(self, store, user):
        with store.imap(user, ANSWER_MAX) as imap:
            imap.select("INBOX")
            return imap.command("FETCH 1:* (UID BODY.PEEK[])")

    # --- the main job ---

    def test_followed_and_promoted_from_a_source_that_dies_under_load(self):
        self.start(self.one)
        self.work(300)
        self.stop()
        assert_equal_stores(self.site, self.users)
        self.start(self.one)
        self.work(200)
        self.site.freeze(self.two.name)
        self.work(50)
        killed = self.site.kill(self.one.name)
        self.end_workers()
        self.site.thaw(self.two.name)
        replica.promote(self.two, self.users)
        self.assertGreater(len(self.journal.under_way_at(killed)), 0)
        self.assert_journal_holds(self.two)
        self.assertEqual([], list((self.site.folder).glob("blobs/*")))

    # --- S3 is away ---

    def test_while_s3_is_away_nothing_is_lost_and_what_needs_no_body_goes_on(self):
        self.assertTrue(self.deliver().startswith("250"))
        self.start(self.one, readers=False)
        self.work(100)
        self.site.kill("s3")
        refusals = self.journal.count("refused")
        wait_until(lambda: self.journal.count("refused") >= refusals + 3, 3 * ANSWER_MAX, "deliveries are refused")
        self.assertEqual({"451"}, {answer.split()[0] for answer in self.journal.refusals() if "upgraded" not in answer})
        with self.one.imap(self.users[0], ANSWER_MAX) as imap:
            imap.select("INBOX")
            self.assertEqual("NO", imap.append("INBOX", MESSAGE).status)
            for command in ("STORE 1 +FLAGS (work)", "COPY 1 INBOX", "FETCH 1 (FLAGS UID)"):  # 1 is not the journal's
                self.assertTrue(imap.command(command).ok, command)
            self.assertEqual("NO", imap.command("FETCH 1 BODY.PEEK[]").status)
            self.assertTrue(imap.command("NOOP").ok, "the session goes on")
        self.site.start("s3")
        self.work(100)
        self.stop()
        assert_equal_stores(self.site, self.users)
        self.assert_journal_holds(self.one)

    def test_a_frozen_s3_is_waited_for_and_then_refused_and_then_goes_on(self):
        self.start(self.one)
        self.work(100)
        self.site.freeze("s3")
        started = time.monotonic()
        wait_until(lambda: self.journal.count("refused") > 0, ANSWER_MAX, "somebody is refused")
        self.assertGreater(time.monotonic() - started, 1, "it was waited for")
        self.site.thaw("s3")
        self.work(100)
        self.stop()
        assert_equal_stores(self.site, self.users)
        self.assert_journal_holds(self.one)

    def test_a_mail_process_that_dies_while_it_writes_to_s3_leaves_nothing_half(self):
        self.start(self.one)
        for _ in range(5):
            self.work(40)
            for pid in self.one.processes():
                if processes.alive(pid) and "lmtp" in self.program(pid):
                    processes.kill(lambda pid=pid: {pid} if processes.alive(pid) else set())
        self.work(40)
        self.stop()
        assert_equal_stores(self.site, self.users)
        self.assert_journal_holds(self.one)

    @staticmethod
    def program(pid):
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().decode(errors="replace")

    # --- somebody else in the bucket ---

    def test_a_body_that_somebody_replaced_or_cut_or_deleted_is_named_and_no_other_mail_suffers(self):
        client, user = self.site.s3.client(), self.users[0]
        for _ in range(3):
            self.assertTrue(self.deliver().startswith("250"))
        account = hashlib.sha256(user.encode()).hexdigest()[:32]
        found = client.list_objects_v2(Bucket=s3.BUCKET, Prefix=account + "/")["Contents"]
        key = max(found, key=lambda entry: entry["Size"])["Key"]
        good = client.get_object(Bucket=s3.BUCKET, Key=key)
        body, metadata = good["Body"].read(), good["Metadata"]

        def readable():
            """In a session of its own: Dovecot ends one that asks for the same broken mail again."""
            with self.one.imap(user, ANSWER_MAX) as imap:
                imap.select("INBOX")
                return [imap.command(f"FETCH {number} BODY.PEEK[]").status for number in (1, 2, 3)].count("OK")

        self.assertEqual(3, readable())
        for bad in (body[:-1000], body[:-1000] + b"x" * 1000, b"<html>another's</html>", None):
            if bad is None:
                client.delete_object(Bucket=s3.BUCKET, Key=key)
            else:
                client.put_object(Bucket=s3.BUCKET, Key=key, Body=bad, Metadata=metadata)
            logged = self.one.log.stat().st_size
            self.assertEqual(2, readable())
            wait_until(lambda since=logged: key.rpartition("/")[2].encode() in self.one.log.read_bytes()[since:], 10, "the log names it")
        client.put_object(Bucket=s3.BUCKET, Key=key, Body=body, Metadata=metadata)
        self.assertEqual(3, readable())

    # --- rights ---

    def test_a_replica_without_rights_applies_and_reads_once_it_has_them(self):
        self.site.s3.add_user("second", "second's secret")
        self.site.give_credentials(self.two, "second", "second's secret")
        self.site.stop(self.two.name)
        self.site.start(self.two.name)
        for user in self.users:
            self.assertTrue(self.deliver(user=user).startswith("250"))
        wait_until(lambda: self.counts(self.two) == self.counts(self.one), 60, "the replica has every mail")
        self.assertEqual("NO", self.bodies_at(self.two, self.users[0]).status)
        self.site.s3.allow("second", "s3:GetObject", "s3:PutObject", "s3:ListBucket")
        replica.promote(self.two, self.users)
        for user in self.users:
            answer = self.bodies_at(self.two, user)
            self.assertTrue(answer.ok, answer)
        self.assertTrue(self.deliver(self.two).startswith("250"))

    def test_a_source_needs_no_more_than_to_write_read_and_list(self):
        self.site.s3.add_user("first", "first's secret")
        self.site.give_credentials(self.one, "first", "first's secret")
        self.assertTrue(self.deliver().startswith("451"))
        self.site.s3.allow("first", "s3:PutObject", "s3:GetObject", "s3:ListBucket", "s3:AbortMultipartUpload")
        user = self.users[0]
        large = MESSAGE + (b"x" * 76 + b"\r\n") * 300_000  # in parts
        with self.one.lmtp(ANSWER_MAX) as lmtp:
            for message in (MESSAGE, large):
                answers = lmtp.deliver(self.users[:2], message)  # the second's is a copy inside S3
                self.assertEqual([], [answer for answer in answers.values() if not answer.startswith("250")])
        with self.one.imap(user, ANSWER_MAX) as imap:
            imap.select("INBOX")
            self.assertEqual([MESSAGE, large], [mail["BODY[]"][-len(sent):] for mail, sent in
                                                zip(imap.fetch("1:*", "(BODY.PEEK[])"), (MESSAGE, large), strict=True)])
        self.assertTrue(self.bodies_at(self.one, self.users[1]).ok)
        assert_equal_stores(self.site, self.users)

    def counts(self, store):
        return [store.doveadm("-f", "flow", "mailbox", "status", "-u", user, "messages", "INBOX").stdout for user in self.users]


if __name__ == "__main__":
    unittest.main()
