#!/usr/bin/env python3
"""tests/support/s3_faults itself, as a client that is not ours meets it: what the tests of fs_s3 stand on."""

import shutil
import time
import unittest
import warnings

from support import s3
from support.mailsite import scratch_folder
from support.s3_faults import FaultProxy

BODY = bytes(range(256)) * 80


class Faults(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        warnings.simplefilter("ignore", ResourceWarning)
        folder = scratch_folder()
        cls.addClassCleanup(shutil.rmtree, folder)
        cls.server = s3.Server.up(folder / "s3")
        cls.addClassCleanup(cls.server.kill)

    def setUp(self):
        self.proxy = FaultProxy(self.server.address)
        self.addCleanup(self.proxy.close)
        self.client = s3.reference_client(self.proxy.url, *self.server.owner)
        self.put()

    def put(self, body=BODY, key="key"):
        return self.client.put_object(Bucket=s3.BUCKET, Key=key, Body=body)

    def get(self, key="key", client=None):
        return (client or self.client).get_object(Bucket=s3.BUCKET, Key=key)["Body"].read()

    def raises(self, call, words, *fault, **which):
        self.proxy.set(*fault, **which)
        with self.assertRaisesRegex(Exception, words):
            call()
        self.proxy.clear()

    def test_errors_come_without_the_server(self):
        self.raises(self.get, "SlowDown", "status", 503, "SlowDown")
        self.raises(self.put, "AccessDenied", "status", 403, "AccessDenied")
        self.raises(lambda: self.client.head_object(Bucket=s3.BUCKET, Key="key"), "404", "status", 404, "NoSuchKey")
        self.raises(self.get, "GetObject", "html", 502)
        self.proxy.set("html", 200)
        self.assertIn(b"<html>", self.get())

    def test_what_was_cut_before_the_server_had_it_was_not_done_and_what_was_cut_after_was(self):
        for number, (fault, done) in enumerate((("cut-before", False), ("cut-request", False), ("cut-answer", True))):
            key = f"new-{number}"
            self.raises(lambda key=key: self.put(key=key), "[Cc]onnection", fault)
            found = self.client.list_objects_v2(Bucket=s3.BUCKET, Prefix=key)["KeyCount"]
            self.assertEqual(int(done), found, fault)

    def test_an_answer_is_broken_in_its_middle(self):
        self.raises(self.get, "[Cc]onnection|Incomplete", "cut-body")
        self.raises(self.get, "Incomplete", "truncated")

    def test_a_byte_is_flipped(self):
        self.raises(self.put, "SHA256|Digest|[Cc]hecksum", "flipped-request")
        self.assertEqual(BODY, self.get(client=self.server.client()))
        self.proxy.set("flipped")
        raw = self.client.get_object(Bucket=s3.BUCKET, Key="key")["Body"]._raw_stream.read()  # below botocore's own check
        self.assertEqual(1, sum(a != b for a, b in zip(BODY, raw, strict=True)))

    def test_an_answer_is_late(self):
        self.proxy.set("late", 300, methods=["GET"])
        started = time.monotonic()
        self.get()
        self.assertGreaterEqual(time.monotonic() - started, 0.3)

    def test_only_some_requests_meet_it(self):
        self.proxy.set("status", 500, "InternalError", methods=["GET"], path="/key", every=2, times=1)
        self.put()
        self.assertEqual(BODY, self.get())
        with self.assertRaisesRegex(Exception, "InternalError"):
            self.get()
        for _ in range(3):
            self.get()
        self.assertEqual(1, self.proxy.counts()["faults"])


if __name__ == "__main__":
    unittest.main()
