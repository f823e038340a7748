#!/usr/bin/env python3
"""fs_s3 as the wire and cbox see it: how requests go out, how answers that come in pieces are taken, keys exchanged under a session, and
bodies behind a wrapper."""
import gzip
import json
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cbox_site import BAD_LOG, Site, build_dir, mail_user, message, run, wait_for  # noqa: E402
from support import s3  # noqa: E402
from support.fs_stores import doveadm_fs  # noqa: E402
from support.mailsite import scratch_folder  # noqa: E402

ETAG = 'ETag: "d41d8cd98f00b204e9800998ecf8427e"\r\n'


def list_page(number, last):
    more = "" if number == last else "<NextContinuationToken>%d</NextContinuationToken>" % number
    return ("<ListBucketResult><IsTruncated>%s</IsTruncated><Contents><Key>key%d</Key></Contents>%s</ListBucketResult>"
            % ("true" if more else "false", number, more)).encode()


class Answering(threading.Thread):
    """Takes one connection after the other. Each request: (head, body, what its first read brought, when), answered by `answer`, a list of
    pieces that are sent one by one, with Nagle's algorithm on."""

    def __init__(self, answer):
        super().__init__(daemon=True)
        self.answer, self.requests, self.connections = answer, [], 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.start()

    def run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            with connection:
                while self.serve(connection):
                    pass

    def serve(self, connection):
        first = data = connection.recv(1 << 20)
        if not data:
            return False
        came = time.monotonic()
        while b"\r\n\r\n" not in data:
            data += connection.recv(1 << 20)
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        while length and len(body) < int(length[1]):
            body += connection.recv(1 << 20)
        self.requests.append((head.decode(), body, len(first), came))
        for piece in self.answer(len(self.requests)):
            connection.sendall(piece)
        return True

    def close(self):
        self.listener.close()


class Wire(unittest.TestCase):
    def setUp(self):
        self.folder = scratch_folder()
        self.addCleanup(shutil.rmtree, self.folder)
        self.credentials = s3.write_credentials(self.folder / "credentials", "AKEY", "hidden")

    def serve(self, answer):
        server = Answering(answer)
        self.addCleanup(server.close)
        return server

    def location(self, server, more=""):
        return "s3:http://127.0.0.1:%d/mail?region=eu-1&credentials=%s%s" % (server.port, self.credentials, more)

    def test_a_request_goes_out_in_one_piece(self):
        body = os.urandom(20_000)
        (self.folder / "body").write_bytes(body)
        server = self.serve(lambda _: [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nETag: \"x-1\"\r\n\r\n"])
        self.assertEqual((0, b"", ""), doveadm_fs(self.folder, self.location(server), "put", self.folder / "body", "a"))
        head, sent, first_size, _ = server.requests[0]
        self.assertTrue(head.startswith("PUT /mail/a HTTP/1.1"))
        self.assertEqual(body, sent)
        self.assertEqual(len(head) + 4 + len(body), first_size)

    def test_an_answer_in_two_pieces_is_not_held_back_by_a_late_acknowledgement(self):
        pages = 60

        def answer(number):
            page = list_page(number, pages)
            return [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(page), page[:20], page[20:]]

        server = self.serve(answer)
        code, out, said = doveadm_fs(self.folder, self.location(server), "iter", "")
        self.assertEqual((0, pages), (code, len(out.split())), said)
        self.assertEqual(1, server.connections)
        came = [request[3] for request in server.requests]
        between = [later - earlier for earlier, later in zip(came[pages // 2:], came[pages // 2 + 1:])]
        self.assertLess(statistics.median(between), 0.03)  # the kernel's delay is 0.04

    def test_style_virtual_puts_the_bucket_in_the_host_name(self):
        hosts = self.folder / "hosts"
        hosts.write_text("127.0.0.1 localhost mail.s3.example.com\n")
        server = self.serve(lambda _: [b"HTTP/1.1 404 Not Found\r\nContent-Length: 38\r\n\r\n<Error><Code>NoSuchKey</Code></Error>\r\n"])
        (self.folder / "conf").write_text("log_path = /dev/stderr\nssl = no\n")
        url = "http://s3.example.com:%d/mail/p?region=eu-1&credentials=%s&style=virtual" % (server.port, self.credentials)
        done = subprocess.run(["unshare", "--mount", "bash", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', hosts, "doveadm", "-c",
                               self.folder / "conf", "fs", "get", "s3", url, "a b"], capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(68, done.returncode, done.stderr)
        head = server.requests[0][0]
        self.assertTrue(head.startswith("GET /p/a%20b HTTP/1.1"), head)
        self.assertIn("\r\nhost: mail.s3.example.com:%d\r\n" % server.port, head)
        self.assertNotIn("hidden", head)

    def test_an_answer_that_never_was_s3s_is_no_success(self):
        (self.folder / "body").write_bytes(b"x")
        server = self.serve(lambda _: [b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n<html>hi</html>"])
        location = self.location(server, "&timeout=1&deadline=1")
        for verb, *arguments in (("put", self.folder / "body", "a"), ("get", "a"), ("stat", "a"), ("iter", ""), ("copy", "a", "b")):
            code, _, said = doveadm_fs(self.folder, location, verb, *arguments)
            self.assertEqual(75, code, (verb, said))
            self.assertRegex(said, "is not S3's|cannot be read", verb)


class WithServer(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = scratch_folder()
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.server = s3.Server.up(cls.folder / "s3")
        cls.addClassCleanup(cls.server.kill)


class OnS3(WithServer):
    def site(self, wrappers=""):
        """A Dovecot whose bodies are in the bucket, under the test's name."""
        self.prefix = self.id().rpartition(".")[2]
        self.credentials = self.folder / self.prefix
        self.write_credentials(*self.server.owner)
        location = wrappers + self.server.location(self.credentials, self.prefix) + "&timeout=2&deadline=4"
        site = Site(build_dir(), plugin_settings="cbox_blobs = " + location,
                    extra="protocol imap {\n  imap_fetch_failure = no-after\n}\n").start()
        self.addCleanup(site.remove)
        self.addCleanup(lambda: self.assertNotRegex(site.log(), BAD_LOG))
        return site

    def write_credentials(self, access, secret):
        new = s3.write_credentials(str(self.credentials) + ".new", access, secret, mail_user())
        new.rename(self.credentials)

    def objects(self):
        client = self.server.client()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=s3.BUCKET, Prefix=self.prefix + "/")
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        return {key: client.get_object(Bucket=s3.BUCKET, Key=key)["Body"].read() for key in keys}


class OverCbox(OnS3):
    def test_keys_are_exchanged_while_a_session_is_open(self):
        site = self.site()
        imap = site.imap("user")
        imap.append("INBOX", message("first"))
        imap.append("INBOX", message("second"))
        imap.close()
        self.write_credentials("nobody", "wrong")
        imap = site.imap("user")
        imap.ok("SELECT INBOX")
        self.assertNotIn("OK", imap.command("APPEND INBOX", message("third"))[1][:3])
        self.assertIn(str(self.credentials), site.log())
        self.write_credentials(*self.server.owner)
        imap.append("INBOX", message("third"))
        self.assertIn("Subject: second", " ".join(imap.ok("FETCH 2 BODY.PEEK[]")[0]))
        self.assertNotIn(self.server.owner[1], site.log())
        self.assertEqual(["first", "second", "third"],
                         re.findall(r"^hdr.subject: (.*)$", site.doveadm("fetch", "-u", "user", "hdr.subject", "all"), re.M))

    def test_bodies_behind_a_wrapper(self):
        site = self.site("compress:gz:6:")
        text = message("packed", "a line that is there often\r\n" * 1000)
        self.assertEqual({}, site.deliver(text, "user"))
        imap = site.imap("user")
        imap.ok("SELECT INBOX")
        self.assertEqual(1000, " ".join(imap.ok("FETCH 1 BODY.PEEK[]")[0]).count("a line that is there often"))
        stored = [gzip.decompress(body) for body in self.objects().values() if body.startswith(b"\x1f\x8b")]
        self.assertTrue(any(b"Subject: packed" in body for body in stored))

    def test_bodies_of_all_sizes_come_back_as_they_went(self):
        site = self.site()
        imap = site.imap("user")
        sizes = [0, 1, 20_000, 1 << 20, 17 << 20]  # the last ones: a temporary file, several parts
        for size in sizes:
            imap.append("INBOX", message("size", "x" * size))
        imap.ok("SELECT INBOX")
        for number, size in enumerate(sizes, 1):
            fetched = " ".join(imap.ok("FETCH %d BODY.PEEK[TEXT]" % number)[0])
            self.assertEqual(size, fetched.count("x"), size)
        self.assertEqual([], self.server.client().list_multipart_uploads(Bucket=s3.BUCKET).get("Uploads", []))


class Away(OnS3):
    def test_a_command_over_many_mails_waits_for_a_server_that_is_away_once(self):
        site = self.site()
        imap = site.imap("user")
        for number in range(20):
            imap.append("INBOX", message("mail%d" % number))
        imap.ok("SELECT INBOX")
        self.server.kill()
        started = time.monotonic()
        self.assertTrue(imap.command("FETCH 1:* BODY.PEEK[TEXT]")[1].startswith("NO"))
        self.assertLess(time.monotonic() - started, 2 * 4)  # the deadline is 4 s
        self.assertEqual(19, len(re.findall("blob .*not tried, as the server did not answer a moment ago: no connection", site.log())))
        self.server.start()
        wait_for(lambda: imap.command("APPEND INBOX", message("again"))[1].startswith("OK"), "the same session saves again")
        imap = site.imap("user")
        imap.ok("SELECT INBOX")
        self.assertEqual(21, len(imap.ok("FETCH 1:* BODY.PEEK[TEXT]")[0]))


class Policy(WithServer):
    """The policy that docs/operating/s3.md gives: each key may do what it says, and nothing else."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        page = pathlib.Path(__file__).parents[2] / "docs" / "operating" / "s3.md"
        policy = re.search(r"```json\n(.*?)```", page.read_text(), re.S)[1]
        for user in ("source", "destination", "sweep", "stranger"):
            cls.server.add_user(user, user + "-secret")
            s3.write_credentials(cls.folder / user, user, user + "-secret")
        cls.server.client(*cls.server.root).put_bucket_policy(Bucket=s3.BUCKET, Policy=json.dumps(json.loads(policy)))
        (cls.folder / "small").write_bytes(b"small")
        (cls.folder / "large").write_bytes(b"large" * 2_000_000)

    def fs(self, user, verb, *arguments):
        """OK, or what the log would say."""
        location = self.server.location(self.folder / user) + "&multipart=5242880"
        code, _, said = doveadm_fs(self.folder, location, verb, *arguments)
        return "OK" if code == 0 else said

    def test_each_key_may_do_its_work_and_no_more(self):
        denied, missing = "access is denied: the policy", "there is no such object"
        for user, may in (("source", {"put", "get", "iter"}), ("destination", {"get", "iter"}),
                          ("sweep", {"put", "get", "iter", "delete"}), ("stranger", set())):
            self.assertEqual("OK", self.fs("source", "put", self.folder / "small", "x/there"))
            for verb, *arguments in (("put", self.folder / "small", "x/" + user), ("get", "x/there"), ("iter", "x"), ("delete", "x/there")):
                with self.subTest(user=user, verb=verb):
                    said = self.fs(user, verb, *arguments)
                    self.assertIn("OK" if verb in may else denied, said)
            with self.subTest(user=user, verb="get what is missing"):
                self.assertIn(missing if "iter" in may else denied, self.fs(user, "get", "x/missing"))
        self.assertEqual("OK", self.fs("source", "put", self.folder / "large", "x/large"))
        self.assertEqual("OK", self.fs("source", "copy", "x/large", "x/copied"))


if __name__ == "__main__":
    run()
