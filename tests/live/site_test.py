#!/usr/bin/env python3
"""tests/support/site itself: what the other live tests stand on. Stock Dovecot, no replica."""

import json
import pathlib
import shutil
import subprocess
import unittest
import warnings

from support import processes, s3
from support.compare import compare_stores
from support.corpus import hostile_mails
from support.journal import Journal, Verdict, judge, observe
from support.load import Deliverer, Reader
from support.mailsite import Site, scratch_folder

TOOL = pathlib.Path(__file__).resolve().parents[1] / "support" / "site"


class SiteTool(unittest.TestCase):
    def setUp(self):
        warnings.simplefilter("ignore", ResourceWarning)
        self.folder = scratch_folder()
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.described = json.loads(self.site("up", "--driver", "sdbox", "--accounts", "4").stdout)
        self.addCleanup(self.site, "down", check=False)

    def site(self, verb, *arguments, check=True):
        return subprocess.run([TOOL, verb, "--dir", self.folder / "s", *arguments], check=check, capture_output=True, text=True, timeout=300)

    def loaded(self):
        return Site.load(self.folder / "s")

    def test_what_is_printed_serves_imap_pop3_lmtp_and_doveadm(self):
        self.assertEqual(["store1.example.com", "store2.example.com"], [store["name"] for store in self.described["stores"]])
        site = self.loaded()
        for store in site.stores:
            self.assertTrue(store.lmtp().deliver(site.user(1), b"Subject: x\n\nbody\n")[site.user(1)].startswith("250"))
            with store.imap(site.user(1)) as imap:
                imap.select("INBOX")
                self.assertTrue(imap.fetch("1", "(BODY.PEEK[])")[0]["BODY[]"].endswith(b"Subject: x\r\n\r\nbody\r\n"))
            self.assertEqual(1, len(store.pop3(site.user(1)).uidls()))
            self.assertEqual(67, store.doveadm("user", "nobody@example.com", check=False).returncode)

    def test_a_frozen_store_answers_when_thawed_a_killed_one_when_started(self):
        site = self.loaded()
        store = site["store1"]
        imap = store.imap(site.user(1))
        self.site("freeze", "store1")
        tag = imap.begin("NOOP")
        imap.socket.settimeout(0.3)
        with self.assertRaises(TimeoutError):
            imap.socket.recv(1)
        self.site("thaw", "store1")
        imap.socket.settimeout(30)
        self.assertTrue(imap.finish(tag).ok)
        pids = store.processes()
        self.site("kill", "store1")
        self.assertFalse([pid for pid in pids if processes.alive(pid)])
        with self.assertRaises(OSError):
            imap.command("NOOP")
        self.site("start", "store1")
        self.assertTrue(self.loaded()["store1"].imap(site.user(1)).command("NOOP").ok)
        self.site("reload", "store1")
        self.assertIn("SIGHUP", self.site("logs", "store1").stdout)

    def test_down_leaves_no_process_and_no_file(self):
        pids = {pid for store in self.loaded().stores for pid in store.processes()}
        self.assertGreater(len(pids), 10)
        self.site("down")
        self.assertFalse([pid for pid in pids if processes.alive(pid)])
        self.assertFalse((self.folder / "s").exists())

    def test_bodies_on_s3_bring_a_server_that_is_a_part_like_others(self):
        described = json.loads(self.site("up", "--dir", self.folder / "s3", "--bodies", "s3", "--replica", "off", "--stores", "1").stdout)
        site = Site.load(self.folder / "s3")
        self.addCleanup(site.down)
        client = s3.reference_client(described["s3"]["url"], described["s3"]["access"], described["s3"]["secret"])
        client.put_object(Bucket=described["s3"]["bucket"], Key="a", Body=b"kept")
        site.kill("s3")
        with self.assertRaises(Exception):
            client.get_object(Bucket=described["s3"]["bucket"], Key="a")
        site.start("s3")
        self.assertEqual(b"kept", client.get_object(Bucket=described["s3"]["bucket"], Key="a")["Body"].read())
        site.s3.add_user("reader", "reader's secret")
        reader = site.s3.client("reader", "reader's secret")
        with self.assertRaisesRegex(Exception, "AccessDenied"):
            reader.get_object(Bucket=s3.BUCKET, Key="a")
        site.s3.allow("reader", "s3:GetObject")
        self.assertEqual(b"kept", reader.get_object(Bucket=s3.BUCKET, Key="a")["Body"].read())
        with self.assertRaisesRegex(Exception, "AccessDenied"):
            reader.put_object(Bucket=s3.BUCKET, Key="b", Body=b"")

    def test_bad_arguments_are_answered_with_a_sentence(self):
        for arguments, sentence in ((("kill", "store7"), "no part of this site"), (("up",), "has a site already"),
                                    (("start", "store1"), "is running")):
            done = self.site(*arguments, check=False)
            self.assertEqual(1, done.returncode)
            self.assertIn(sentence, done.stderr)

    def test_the_judge_finds_each_kind_of_loss(self):
        """A journal of real work is right about the store that did it, and notices every change made to the picture."""
        site = self.loaded()
        store, user = site["store1"], site.user(1)
        journal = Journal(self.folder / "journal", [user])
        mails = [content for _, content in hostile_mails(1000)]
        workers = [Reader(journal, store, mails, user, ["Sent"], 1), Deliverer(journal, store, mails, [user], 2)]
        for worker in workers:
            worker.start()
        site.wait_until(lambda: journal.count("acknowledged") > 300 and "Sent" in journal.accounts[user].mailboxes, 120)
        for worker in workers:
            worker.stopping.set()
        for worker in workers:
            worker.join()
            self.assertIsNone(worker.failure)
        journal.close_doubts()

        def faults(change=lambda seen: None):
            seen, verdict = observe(store, user), Verdict()
            change(seen)
            judge(journal.accounts[user], seen, verdict)
            return {name for name, count in verdict.counts.items() if count and name not in ("mails", "present")}

        self.assertEqual(set(), faults())
        identity = next(iter(observe(store, user)["INBOX"][1]))

        def put(change):
            def apply(seen):
                seen["INBOX"][1][identity] = [change(*mail) for mail in seen["INBOX"][1][identity]]
            return apply

        known = next(key for key, mail in journal.accounts[user].mails.items() if key[0] == "INBOX" and mail.uid)[1]
        self.assertEqual({"missing"}, faults(lambda seen: seen["INBOX"][1].pop(identity)))
        self.assertEqual({"twice"}, faults(lambda seen: seen["INBOX"][1].update({identity: seen["INBOX"][1][identity] * 2})))
        self.assertEqual({"flags"}, faults(put(lambda uid, flags, sha: (uid, flags | {"other"}, sha))))
        self.assertEqual({"body"}, faults(put(lambda uid, flags, sha: (uid, flags, "0"))))
        identity = known
        self.assertEqual({"uid"}, faults(put(lambda uid, flags, sha: (uid + 1000, flags, sha))))
        self.assertEqual({"unexpected"}, faults(lambda seen: seen["INBOX"][1].update({"0": seen["INBOX"][1][known]})))
        self.assertIn("mailboxes", faults(lambda seen: seen.pop("Sent")))

    def test_comparing_two_stores_names_what_differs(self):
        site = self.loaded()
        self.assertEqual([], compare_stores(site, [site.user(1)], second="store1"))
        site["store1"].lmtp().deliver(site.user(1), b"Subject: x\n\nbody\n")
        found = "\n".join(compare_stores(site, [site.user(1)]))
        for word in ("messages", "uidnext", "mails/1", "uidls", "x-guid"):
            self.assertIn(word, found)


if __name__ == "__main__":
    unittest.main()
