#!/usr/bin/env python3
"""Prefetch: on a store that answers late a FETCH of many bodies asks for several at once, and for each once; what is wrong with one of
them is wrong with that one only."""

import unittest

from support.live import SiteTest
from support.s3_faults import FaultProxy

MAILS, AHEAD, LATE_MS = 60, 16, 10
BAD = ("Panic", "Fatal", "assert", "orrupt")


def body(number):
    return b"Subject: %d\r\n\r\n" % number + b"line %d\r\n" % number * 500


class Prefetch(SiteTest):
    site_options = {"accounts": 1, "stores": 1, "brokers": 0, "replica": False, "bodies": "s3",
                    "extra": f"mail_prefetch_count = {AHEAD}\n"}

    def setUp(self):
        super().setUp()
        self.store, self.user = self.site.stores[0], self.users[0]
        self.proxy = FaultProxy(self.site.s3.address)
        self.addCleanup(self.proxy.close)
        self.store.stop()
        self.store.config.write_text(self.store.config.read_text().replace(self.site.s3.address, self.proxy.address))
        self.store.start()
        self.store.wait_ready()
        with self.store.imap(self.user) as imap:
            for number in range(1, MAILS + 1):
                self.assertTrue(imap.append("INBOX", body(number)).ok)
        self.proxy.set("late", LATE_MS)
        self.addCleanup(self.assert_clean_log)

    def assert_clean_log(self):
        for line in self.store.log.read_text(errors="replace").splitlines():
            self.assertFalse(any(word in line for word in BAD), line)

    def blob_key(self, uid):
        out = self.store.doveadm("fetch", "-u", self.user, "storageid", "mailbox", "INBOX", "uid", str(uid)).stdout
        blob = out.split()[-1]
        client = self.site.s3.client()
        keys = [item["Key"] for page in client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket())
                for item in page.get("Contents", ())]
        return client, next(key for key in keys if key.endswith(blob))

    def bucket(self):
        return self.site.s3.client().list_buckets()["Buckets"][0]["Name"]

    def test_many_are_asked_for_at_once_and_each_once(self):
        before = self.proxy.counts()["requests"]
        with self.store.imap(self.user) as imap:
            imap.select("INBOX")
            bodies = [mail["BODY[]"] for mail in imap.fetch("1:*", "(BODY.PEEK[])")]
        self.assertEqual([body(number) for number in range(1, MAILS + 1)], bodies)
        counts = self.proxy.counts()
        self.assertEqual(MAILS, counts["requests"] - before)
        self.assertGreaterEqual(counts["at_once"], AHEAD // 2)

    def test_what_the_cache_has_asks_for_no_body(self):
        with self.store.imap(self.user) as imap:
            imap.select("INBOX")
            imap.fetch("1:*", "(ENVELOPE)")
            before = self.proxy.counts()["requests"]
            imap.fetch("1:*", "(UID FLAGS RFC822.SIZE INTERNALDATE ENVELOPE)")
        self.assertEqual(before, self.proxy.counts()["requests"])

    def test_one_that_is_missing_stops_no_other(self):
        client, key = self.blob_key(20)
        client.delete_object(Bucket=self.bucket(), Key=key)
        with self.store.imap(self.user) as imap:
            imap.select("INBOX")
            response = imap.command("FETCH 1:* (UID BODY.PEEK[])")
            self.assertEqual(("NO", True), (response.status, "UID 20" in response.text))
            self.assertEqual(MAILS - 1, sum(1 for line in response.named("FETCH") if "BODY[]" in line[1]))
            imap.expect("NOOP")

    def test_a_client_that_goes_away_leaves_nothing_behind(self):
        for _ in range(5):
            imap = self.store.imap(self.user)
            imap.select("INBOX")
            imap.begin("FETCH 1:* (BODY.PEEK[])")
            imap.line()
            imap.close()
        with self.store.imap(self.user) as imap:
            imap.select("INBOX")
            self.assertEqual(MAILS, len(imap.fetch("1:*", "(BODY.PEEK[])")))


if __name__ == "__main__":
    unittest.main()
