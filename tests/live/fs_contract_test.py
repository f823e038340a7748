#!/usr/bin/env python3
"""The contract of a store of bodies (tests/contract): on posix, on S3, and on S3 behind what networks and servers do to it."""

import shutil
import subprocess
import unittest

from support import s3
from support.fs_stores import S3Test, contract, doveadm_fs
from support.mailsite import scratch_folder

PARTS = f"&multipart={5 << 20}"
SMALL = {"CONTRACT_FILES": 20, "CONTRACT_LARGE": 12 << 20}
FAULTS = {
    "overloaded": ("status", 503, "SlowDown"),
    "too many requests": ("status", 429, "TooManyRequests"),
    "broken inside": ("status", 500, "InternalError"),
    "a proxy's page": ("html", 502),
    "cut before the request": ("cut-before",),
    "cut in the request": ("cut-request",),
    "cut instead of the answer": ("cut-answer",),
    "cut in the answer": ("cut-body",),
    "an answer that ends early": ("truncated",),
    "a flipped byte on the way there": ("flipped-request",),
}


class Posix(unittest.TestCase):
    def setUp(self):
        self.folder = scratch_folder()
        self.addCleanup(shutil.rmtree, self.folder)

    def test_the_contract(self):
        self.assertEqual({"AHashThatIsWrongRefusesTheWrite", "MetadataIsKept"}, contract(self, f"posix:prefix={self.folder}/"))

    def test_doveadm_fs(self):
        use_doveadm_fs(self, self.folder, f"posix:prefix={self.folder}/")


class S3(S3Test):
    def test_the_contract(self):
        self.assertEqual(set(), contract(self, self.location(url=self.server.url)))

    def test_what_it_wrote_another_client_reads_and_the_other_way_round(self):
        location = self.location(prefix="shared")
        body = bytes(range(256)) * 100
        (self.folder / "body").write_bytes(body)
        self.assertEqual(0, doveadm_fs(self.folder, location, "put", self.folder / "body", "a b/ours")[0])
        client = self.server.client()
        self.assertEqual(body, client.get_object(Bucket=s3.BUCKET, Key="shared/a b/ours")["Body"].read())
        client.put_object(Bucket=s3.BUCKET, Key="shared/a b/theirs", Body=body)
        self.assertEqual((0, body), doveadm_fs(self.folder, location, "get", "a b/theirs")[:2])

    def test_doveadm_fs(self):
        use_doveadm_fs(self, self.folder, self.location())

    def test_the_contract_holds_when_every_seventh_request_goes_wrong(self):
        for name, fault in FAULTS.items():
            with self.subTest(name):
                self.proxy.set(*fault, every=7)
                contract(self, self.location(prefix=name.replace(" ", "-"), options=PARTS), **SMALL)
                self.assertGreater(self.proxy.counts()["faults"], 20)

    def test_a_body_that_comes_damaged_is_asked_for_again(self):
        """But a part of one has no checksum of its own: cbox has one for the trailer that it reads so."""
        self.proxy.set("flipped", every=3, methods=["GET"], path="/contract-")
        contract(self, self.location(), "--gtest_filter=-*Large*:*ReadAnywhere*:*Listed*:*Many*", **SMALL)
        self.assertGreater(self.proxy.counts()["faults"], 20)

    def test_the_contract_holds_on_a_server_that_is_slow(self):
        self.proxy.set("late", 30)
        contract(self, self.location(options=PARTS), **SMALL)

    def test_no_part_of_a_broken_upload_is_left(self):
        contract(self, self.location(), "--gtest_filter=*Large*:*Aborted*")
        uploads = self.server.client().list_multipart_uploads(Bucket=s3.BUCKET)
        self.assertEqual([], uploads.get("Uploads", []))


class S3Tls(S3Test):
    @classmethod
    def make_server(cls):
        cls.ca = cls.folder / "ca.pem"
        key = cls.folder / "key.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext",
                        "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cls.ca], check=True, capture_output=True)
        cls.server = s3.Server.up(cls.folder / "s3", certificate=cls.ca, key=key)

    def test_the_contract(self):
        contract(self, self.location(url=self.server.url), CONTRACT_FILES=20, CONTRACT_CA=self.ca)

    def test_doveadm_fs(self):
        use_doveadm_fs(self, self.folder, self.location(url=self.server.url), ca=self.ca)

    def test_a_certificate_that_nobody_vouches_for_is_refused(self):
        code, _, said = doveadm_fs(self.folder, self.location(url=self.server.url), "get", "a")
        self.assertEqual(75, code)
        self.assertRegex(said, "(?i)certificate")


def use_doveadm_fs(test, folder, location, **options):
    body = bytes(range(256)) * 1000
    (folder / "body").write_bytes(body)

    def fs(verb, *arguments, expect=0):
        code, out, said = doveadm_fs(folder, location, verb, *arguments, **options)
        test.assertEqual(expect, code, said)
        return out

    for name in ("x/one", "x/two", "y/three"):
        fs("put", folder / "body", name)
    test.assertEqual(body, fs("get", "x/one"))
    test.assertEqual(b"x/two size=256000", fs("stat", "x/two").strip())
    test.assertEqual(["one", "two"], sorted(fs("iter", "x").decode().split()))
    test.assertEqual({"x", "y"}, {"x", "y"} & set(fs("iter-dirs", "").decode().split()))
    fs("copy", "x/one", "x/copied")
    test.assertEqual(body, fs("get", "x/copied"))
    fs("delete", "x/one")
    fs("get", "x/one", expect=68)
    fs("stat", "x/one", expect=68)
    fs("delete", "-R", "x")
    test.assertEqual(b"", fs("iter", "x").strip())
    test.assertEqual(body, fs("get", "y/three"))


if __name__ == "__main__":
    unittest.main()
