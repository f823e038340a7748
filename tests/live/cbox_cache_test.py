#!/usr/bin/env python3
"""The local cache of bodies: a second read does not go to the store of bodies, and nothing that happens to the cache is seen by anybody."""
import os
import random
import re
import shutil
import subprocess
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cbox_site import OnSite, Site, build_dir, message, run  # noqa: E402

CACHE_BYTES = 1 << 20
LARGE = "a long line of a large mail\r\n" * 20000  # is not read at once


class Cache(OnSite):
    settings = OnSite.settings + "  cbox_body_wait = 0\n  cbox_cache = %s\n  cbox_cache_size = %s\n"

    @classmethod
    def setUpClass(cls):
        cls.cache = "/tmp/cbox-cache-%d" % os.getpid()
        cls.site = cls.new_site("1G")
        cls.site.start()

    @classmethod
    def new_site(cls, size):
        site = Site(build_dir(), plugins=cls.plugins, plugin_settings=cls.settings % (cls.cache, size))
        shutil.rmtree(cls.cache, ignore_errors=True)
        os.mkdir(cls.cache, 0o700)
        site.own(cls.cache)
        return site

    @classmethod
    def tearDownClass(cls):
        cls.site.remove()
        shutil.rmtree(cls.cache, ignore_errors=True)

    def setUp(self):
        super().setUp()
        self.site.answer("off")
        self.imap = self.site.imap(self.user)
        self.addCleanup(self.imap.close)

    def append(self, *bodies):
        """Their blobs' files."""
        for number, body in enumerate(bodies):
            self.imap.append("INBOX", message("mail %d" % number, body))
        out = self.site.doveadm("fetch", "-u", self.user, "storageid", "mailbox", "INBOX")
        files = {os.path.basename(path): path for path in self.site.blob_files()}
        return [files[blob] for blob in re.findall(r"storageid: (\w+)", out)]

    def fetch(self, user=None):
        imap = self.site.imap(user or self.user)
        imap.ok("SELECT INBOX")
        lines, tagged = imap.command("FETCH 1:* BODY.PEEK[TEXT]")
        imap.close()
        return lines, tagged.split()[0]  # the rest says how long it took

    def cached(self, blob):
        return "%s/%s/%s" % (self.cache, os.path.basename(blob)[:2], os.path.basename(blob))

    def cached_bytes(self):
        return sum(os.path.getsize(os.path.join(d, f)) for d, _, files in os.walk(self.cache) for f in files)

    def test_a_second_read_does_not_go_to_the_store_of_bodies(self):
        blobs = self.append("small\r\n", LARGE)
        first = self.fetch()
        for blob in blobs:
            self.assertTrue(os.path.exists(self.cached(blob)))
            os.unlink(blob)
        self.assertTrue(first == self.fetch())

    def test_what_is_damaged_in_it_is_removed_and_read_anew(self):
        blobs = self.append("small\r\n", LARGE)
        first = self.fetch()
        for damage in (lambda f: f.write(b"X"), lambda f: f.truncate(50), lambda f: f.truncate(0),
                       lambda f: (f.seek(-30, os.SEEK_END), f.write(b"X"))):
            for blob in blobs:
                with open(self.cached(blob), "r+b") as f:
                    damage(f)
            self.assertTrue(first == self.fetch())
            for blob in blobs:  # whole again
                with open(self.cached(blob), "rb") as kept, open(blob, "rb") as source:
                    self.assertEqual(source.read(), kept.read())

    def test_another_mails_body_in_it_is_not_handed_out(self):
        blobs = self.append("one\r\n", "two\r\n")
        first = self.fetch()
        shutil.copy(self.cached(blobs[0]), self.cached(blobs[1]))
        self.assertTrue(first == self.fetch())

    def test_a_damaged_body_does_not_come_into_it(self):
        blob = self.append("small\r\n")[0]
        if os.path.exists(self.cached(blob)):  # whoever logs a save may have read it
            os.unlink(self.cached(blob))
        with open(blob, "r+b") as f:
            f.write(b"X")
        self.fetch()
        self.assertFalse(os.path.exists(self.cached(blob)))

    def test_it_may_be_deleted_at_any_time(self):
        self.append(*["body %d\r\n" % number * 50 for number in range(20)], LARGE)
        first, stop, wrong = self.fetch(), threading.Event(), []

        def read():
            while not stop.is_set():
                if (seen := self.fetch()) != first:
                    wrong.append(seen)
        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        for _ in range(60):
            for name in os.listdir(self.cache):
                shutil.rmtree(self.cache + "/" + name, ignore_errors=True)
        stop.set()
        for reader in readers:
            reader.join()
        self.assertEqual(0, len(wrong))

    def test_one_that_cannot_be_used_is_none(self):
        self.append("small\r\n", LARGE)
        os.chmod(self.cache, 0)
        try:
            self.assertEqual("OK", self.fetch()[1])
        finally:
            os.chmod(self.cache, 0o700)

    def test_a_reader_killed_in_the_middle_leaves_nothing_that_is_read(self):
        self.append(*["body %d\r\n" % number * 500 for number in range(30)])
        first = self.fetch()
        random.seed(3)
        for _ in range(15):
            for name in os.listdir(self.cache):
                shutil.rmtree(self.cache + "/" + name, ignore_errors=True)
            subprocess.run(["strace", "-f", "-o", "/dev/null", "-e", "trace=write,rename", "-e",
                            "inject=write,rename:signal=KILL:when=%d" % random.randrange(1, 60), "doveadm", "-c", self.site.config,
                            "fetch", "-u", self.user, "text", "mailbox", "INBOX"], check=False, capture_output=True)
            self.assertTrue(first == self.fetch())

    def test_its_size_is_bounded_and_what_was_used_last_stays(self):
        other = self.new_site("1M")
        try:
            other.start()
            imap = other.imap("many")
            for number in range(1500):
                imap.append("INBOX", message("mail %d" % number, "x" * 70 + "\r\n" + "y" * 900 + "\r\n"))
            imap.ok("SELECT INBOX")
            for _ in range(3):
                lines, _ = imap.ok("FETCH 1:* BODY.PEEK[TEXT]")
                self.assertEqual(1500, len(lines))
            self.assertTrue(CACHE_BYTES / 2 < self.cached_bytes() < CACHE_BYTES * 9 / 8, self.cached_bytes())
            imap.append("INBOX", message("too large for it", "z" * 6000 + "\r\n"))
            largest = max(other.blob_files(), key=os.path.getsize)
            imap.ok("FETCH 1501 BODY.PEEK[TEXT]")
            self.assertFalse(os.path.exists(self.cached(largest)))
        finally:
            other.remove()


if __name__ == "__main__":
    run()
