#!/usr/bin/env python3
"""What an administrator reads when something is wrong with S3 or with what he wrote: one sentence that names it; no secret in it."""

import re
import subprocess
import unittest

from support import s3
from support.fs_stores import S3Test, doveadm_fs

TEMPORARY = 75
QUICK = "&timeout=1&deadline=2"
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


class Errors(S3Test):
    def setUp(self):
        super().setUp()
        self.server.client().put_object(Bucket=s3.BUCKET, Key=f"{self.id().rpartition('.')[2]}/there", Body=b"content")

    def assert_says(self, words, location=None, code=TEMPORARY, verb="get", path="there", **environment):
        """doveadm fs ends so, with one line that says it, and with the secret in none, not even when debugging."""
        arguments = [self.folder / "body", path] if verb == "put" else [path]
        got, _, said = doveadm_fs(self.folder, location or self.location(options=QUICK), verb, *arguments, **environment)
        complaints = [line for line in said.splitlines() if "Error: " in line or "Fatal: " in line]
        self.assertEqual((code, 1), (got, len(complaints)), said)
        self.assertRegex(complaints[0], words)
        self.assertNotIn(self.server.owner[1], said)
        return complaints[0]

    def with_credentials(self, access, secret, token=None, **changed):
        file = s3.write_credentials(self.folder / "other", access, secret, token=token)
        return self.location(credentials=file, options=QUICK, **changed)

    def test_all_is_well_without_a_mistake(self):
        self.assertEqual((0, b"content", ""), doveadm_fs(self.folder, self.location(), "get", "there"))

    def test_a_wrong_secret_key(self):
        self.assert_says(f"signature is wrong.*secret key in the file {self.folder}/other",
                         self.with_credentials(self.server.owner[0], "something else"))

    def test_a_wrong_access_key(self):
        self.assert_says(f"access key in the file {self.folder}/other is not known", self.with_credentials("who", "whoever"))

    def test_a_policy_that_does_not_allow_it(self):
        self.server.add_user("outsider", "outsider's secret")
        self.assert_says("access is denied.*policy", self.with_credentials("outsider", "outsider's secret"))

    def test_a_session_token_that_is_not_known_or_has_expired(self):
        self.assert_says("session token in .* is not valid", self.with_credentials(*self.server.owner, token="unknown"))
        self.proxy.set("status", 400, "ExpiredToken")
        self.assert_says("session token in .* has expired")

    def test_a_bucket_that_is_not_there_is_no_missing_object(self):
        self.assert_says("there is no bucket elsewhere", self.location(bucket="elsewhere", options=QUICK))

    def test_a_wrong_region(self):
        self.assert_says("region eu-nowhere-1 is wrong: the server says us-east-1", self.location(region="eu-nowhere-1", options=QUICK))

    def test_a_clock_that_is_off(self):
        """Ours, by Debian's faketime; the server is strict about it."""
        self.assert_says("clocks differ.*(59|60) minutes ahead of.*NTP", LD_PRELOAD=FAKETIME, FAKETIME="+1h")
        self.assert_says("clocks differ.*(60|61) minutes behind.*NTP", LD_PRELOAD=FAKETIME, FAKETIME="-1h")

    def test_a_date_that_some_proxy_made_up_does_not_matter(self):
        self.proxy.set("dated", 7200)
        self.assertEqual((0, b"content", ""), doveadm_fs(self.folder, self.location(), "get", "there"))

    def test_a_missing_object_is_just_that(self):
        self.assert_says("doesn't exist", code=68, path="nothing")

    def test_a_server_that_is_not_there_or_has_no_name(self):
        self.assert_says("(?i)no connection.*refused", self.location(url="http://127.0.0.1:1", options=QUICK))
        self.assert_says("name cannot be resolved", self.location(url="http://nowhere.invalid", options=QUICK))

    def test_a_server_that_never_answers(self):
        self.proxy.set("stall")
        self.assert_says("no answer in time")

    def test_a_server_that_is_overloaded_or_broken_for_longer_than_the_deadline(self):
        for fault, words in ((("status", 503, "SlowDown"), "overloaded.*SlowDown"), (("status", 429, "TooManyRequests"), "overloaded.*TooMany"),
                             (("status", 500, "InternalError"), "server failed.*InternalError"), (("cut-answer",), "connection was lost")):
            self.proxy.set(*fault)
            self.assert_says(words)

    def test_a_server_that_is_full(self):
        (self.folder / "body").write_bytes(b"x" * 1000)
        self.proxy.set("status", 507, "InsufficientStorage", methods=["PUT"])
        self.assert_says("storage is full", verb="put", path="new")

    def test_a_page_of_some_proxy(self):
        for status in (200, 403, 404, 502):
            self.proxy.set("html", status)
            self.assert_says("not S3's.*proxy", verb="get")

    def test_an_object_that_comes_damaged_every_time(self):
        self.proxy.set("flipped", methods=["GET"])
        self.assert_says("damaged|checksum")
        self.proxy.set("truncated", methods=["GET"])
        self.assert_says("lost|ended early|not whole|closed")

    def test_what_is_written_wrong_in_the_setting(self):
        mine = f"region=us-east-1&credentials={self.credentials}"
        for text, words in (("s3:ftp://host/bucket?" + mine, "begin with https:// or http://"),
                            (f"s3:{self.server.url}?" + mine, "bucket is missing"),
                            (f"s3:{self.server.url}/mail?credentials={self.credentials}", "region is missing"),
                            (f"s3:{self.server.url}/mail?{mine}&connnections=3", "connnections is not known"),
                            (f"s3:{self.server.url}/mail?{mine}&deadline=never", "deadline takes a number"),
                            (f"s3:{self.server.url}/mail?region=us-east-1&credentials=/nowhere", "/nowhere cannot be read"),
                            (f"s3:{self.server.url}/mail?region=us-east-1", "no credentials")):
            with self.subTest(text):
                got, _, said = doveadm_fs(self.folder, text, "get", "there")
                self.assertNotEqual(0, got)
                self.assertRegex(said, words)
                self.assertNotRegex(said, "Panic|Raw backtrace")

    def test_credentials_from_the_environment_and_none_in_the_process_title(self):
        access, secret = self.server.owner
        location = re.sub("&credentials=[^&]*", "", self.location())
        code, out, said = doveadm_fs(self.folder, location, "get", "there", AWS_ACCESS_KEY_ID=access, AWS_SECRET_ACCESS_KEY=secret)
        self.assertEqual((0, b"content"), (code, out), said)

    def test_nothing_secret_is_in_a_debug_log(self):
        code, _, said = doveadm_fs(self.folder, self.location(), "get", "there", debug=True)
        self.assertEqual(0, code, said)
        self.assertIn("Debug: ", said)
        self.assertNotIn(self.server.owner[1], said)


class Names(S3Test):
    """TLS with a certificate of another name."""

    @classmethod
    def make_server(cls):
        cls.ca, key = cls.folder / "ca.pem", cls.folder / "key.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=other.example.com", "-addext",
                        "subjectAltName=DNS:other.example.com", "-keyout", key, "-out", cls.ca], check=True, capture_output=True)
        cls.server = s3.Server.up(cls.folder / "s3", certificate=cls.ca, key=key)

    def test_a_certificate_of_somebody_else(self):
        code, _, said = doveadm_fs(self.folder, self.location(url=self.server.url, options=f"&ca={self.ca}" + QUICK), "get", "a")
        self.assertEqual(TEMPORARY, code)
        self.assertRegex(said, "TLS failed")

    def test_https_where_only_http_is_spoken(self):
        code, _, said = doveadm_fs(self.folder, self.location(url=self.proxy.url.replace("http:", "https:"), options=QUICK), "get", "a")
        self.assertEqual(TEMPORARY, code)
        self.assertRegex(said, "(?i)TLS|SSL|connection")


if __name__ == "__main__":
    unittest.main()
