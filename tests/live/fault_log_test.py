#!/usr/bin/env python3
"""The log is written by others, read by others, and the workers cannot read bodies: the first record of a number counts and nothing else
is acknowledged; what is not authentic is named and passed by; the brokers' disks tell nothing; apply and snapshot need no body."""

import base64
import os
import pathlib
import re
import shutil
import subprocess
import threading
import unittest

from support import replica
from support.clients import Refused
from support.compare import assert_equal_stores, compare_stores
from support.faults import in_namespace, start_in_namespace
from support.held_proxy import HeldProxy
from support.live import SiteTest
from support.waiting import wait_until

PLANT = pathlib.Path(os.environ.get("REPLICA_BUILD_DIR", "build/release")) / "tests" / "support" / "plant"
PRODUCE, TOPIC = b"\0\0", b"replica.changes.store1"
MAIL = b"Subject: %s\r\n\r\nbody\r\n"


class LogTest(SiteTest):
    def setUp(self):
        super().setUp()
        self.one, self.two = self.site.stores
        self.broker, = self.site.brokers
        self.user = self.users[0]

    def plant(self, user, *verb):
        done = subprocess.run([PLANT, self.site.folder / "replica.key", self.broker.address, f"replica.changes.{self.one.name}", user, *verb],
                              check=True, capture_output=True, text=True, timeout=30)
        print(done.stdout.rstrip())

    def deliver(self, user, subject):
        self.assertTrue(self.one.lmtp().deliver([user], MAIL % subject)[user].startswith("250"))


class AnotherRecordIsFirst(LogTest):
    site_options = {"accounts": 1}

    def setUp(self):
        super().setUp()
        self.proxy = HeldProxy(self.broker.address)
        self.site.kill(self.broker.name)
        settings = self.broker.folder / "server.properties"
        settings.write_text(settings.read_text().replace(f"advertised.listeners=PLAINTEXT://{self.broker.address}",
                                                         f"advertised.listeners=PLAINTEXT://{self.proxy.address}"))
        self.site.start(self.broker.name)
        replica.replicate(self.one, self.two, self.users)

    def test_the_change_that_came_second_is_not_acknowledged(self):
        self.deliver(self.user, b"one")
        with self.one.imap(self.user) as imap:
            imap.select("INBOX")
            self.proxy.hold()
            answers = []
            client = threading.Thread(target=lambda: answers.append(imap.command("UID STORE", "1", "+FLAGS (\\Answered)")))
            client.start()
            wait_until(lambda: any(data[4:6] == PRODUCE and TOPIC in data for data in self.proxy.held()), 4, "the agent has produced it", 0.005)
            self.plant(self.user, "keyword", "planted")
            self.proxy.release()
            client.join()
            print(f"the client that came second: {answers[0].status} [{answers[0].code}] {answers[0].text}")
            self.assertEqual("NO", answers[0].status)
            seen = wait_until(lambda: (imap.expect("NOOP"), imap.fetch("1", "(UID FLAGS)"))[1], 10)
            flags = wait_until(lambda: "planted" in (flags := imap.fetch("1", "(UID FLAGS)")[0]["FLAGS"]) and flags, 20, f"rolled forward: {seen}")
            self.assertNotIn("\\Answered", flags)
        assert_equal_stores(self.site, self.users)
        self.deliver(self.user, b"two")
        assert_equal_stores(self.site, self.users)
        self.assertIn("rolled_forward", self.one.log.read_text())


class NotAuthentic(LogTest):
    site_options = {"accounts": 2}

    def test_is_quarantined_by_name_and_the_rest_goes_on(self):
        replica.replicate(self.one, self.two, self.users)
        for user in self.users:
            self.deliver(user, b"one")
        for _ in range(3):
            self.plant(self.user, "garbage")
            for user in self.users:
                self.deliver(user, b"two")
        assert_equal_stores(self.site, self.users)
        for store in self.site.stores:
            log = store.log.read_text()
            self.assertRegex(log, f"account={self.user}: quarantined, not applied: replica.changes.store1")
            self.assertNotRegex(log, f"quarantined.*{self.users[1]}|stopped|Panic")
        for store in ("store1", "store2"):  # read again from the stored positions
            self.site.kill(store)
            self.site.start(store)
        self.deliver(self.user, b"three")
        assert_equal_stores(self.site, self.users)


class BlindQueue(LogTest):
    site_options = {"accounts": 2, "settings": {"replica_admin": "secretadmin@example.com"}}

    def test_the_brokers_files_tell_nothing_of_the_mail(self):
        self.deliver(self.user, b"earliersecret")
        replica.replicate(self.one, self.two, self.users)
        self.deliver(self.user, b"latersecret")
        with self.one.imap(self.user) as imap:
            imap.expect("CREATE", "boxsecret")
            imap.expect("SUBSCRIBE", "boxsecret")
            imap.append("boxsecret", MAIL % b"appendsecret", "\\Seen keywordsecret")
            imap.expect("SETMETADATA", "boxsecret", '(/private/comment "metasecret")')
            imap.select("INBOX")
            imap.expect("UID STORE", "1", "+FLAGS (\\Flagged flagsecret)")
        assert_equal_stores(self.site, self.users)
        replica.promote(self.two, self.users)
        words = ["earliersecret", "latersecret", "boxsecret", "appendsecret", "keywordsecret", "metasecret", "flagsecret", "secretadmin",
                 *self.users, *(user.split("@")[0] for user in self.users), "INBOX", "\\Flagged", "private/comment"]
        data = {path: path.read_bytes() for path in self.broker.data.rglob("*") if path.is_file()}
        self.assertTrue(any(b"replica.changes.store1" in content for content in data.values()), "the files are the right ones")
        self.assertGreater(sum(len(content) for path, content in data.items() if "replica.changes" in str(path) and path.suffix == ".log"), 1000)
        for path, content in data.items():
            for word in words:
                for shape in (word.encode(), word.encode("utf-16-le"), base64.b64encode(word.encode()).rstrip(b"=")[:-1]):
                    self.assertEqual(-1, content.lower().find(shape.lower()) if shape.isalpha() else content.find(shape), f"{word} in {path}")


class NoRightToBodies(LogTest):
    """Each store has a mount namespace of its own, in which the bodies can be taken away."""

    site_options = {"accounts": 1}

    def setUp(self):
        super().setUp()
        self.nothing = self.folder / "nothing"
        self.nothing.mkdir(mode=0o700)  # root's
        for store in self.site.stores:
            self.site.stop(store.name)
            start_in_namespace(store)
            store.wait_ready()
        for number in range(20):
            self.deliver(self.user, b"%d" % number)

    def close(self, store):
        in_namespace(store, "mount", "--bind", self.nothing, self.site.folder / "blobs")

    def open(self, store):
        in_namespace(store, "umount", self.site.folder / "blobs")

    def test_apply_and_snapshot_go_on(self):
        replica.replicate(self.one, self.two, self.users)
        self.close(self.two)
        self.deliver(self.user, b"applied")
        with self.one.imap(self.user) as imap:
            imap.expect("CREATE", "box")
            imap.select("INBOX")
            imap.expect("UID COPY", "1:5", "box")
            imap.expect("UID STORE", "2:6", "+FLAGS (\\Seen work)")
        assert_equal_stores(self.site, self.users, bodies=False, pop3=False)

        # the destination begins anew, and now nobody of either store can read a body
        self.site.kill("store2")
        shutil.rmtree(self.two.folder / "mail" / self.user)
        for path in (self.two.folder / "replica").iterdir():
            path.unlink()
        self.close(self.one)
        start_in_namespace(self.two)
        self.close(self.two)
        wait_until(lambda: not compare_stores(self.site, self.users, bodies=False, pop3=False), 60, "a snapshot without a body")
        with self.two.imap(self.user) as imap:
            imap.select("INBOX", readonly=True)
            with self.assertRaises((ConnectionError, Refused)):
                imap.expect("UID FETCH", "1", "(BODY.PEEK[])")
        for store in self.site.stores:
            self.open(store)
        assert_equal_stores(self.site, self.users)


if __name__ == "__main__":
    unittest.main()
