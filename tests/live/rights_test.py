#!/usr/bin/env python3
"""The agent's socket is open to every process of the system: it hears only root and whose the mail is. One process that becomes
several mail users in turn (LMTP) is heard as each of them."""

import os
import pwd
import socket
import struct
import unittest

from live.fake_agent import ANSWER, CLEAR, HELLO, NO_GUID, REASONS, Reader, blob
from support import replica
from support.compare import assert_equal_stores
from support.live import SiteTest
from support.store import MAIL_USER
from support.waiting import wait_until

MAIL = b"Subject: one\r\n\r\nbody\r\n"


def exchange(path, data, uid):
    """What the socket answers to a process of this uid: one frame, without its length."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(uid)
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(60)
                client.connect(str(path))
                client.sendall(data)
                length, = struct.unpack(">I", client.recv(4, socket.MSG_WAITALL))
                os.write(writes, client.recv(length, socket.MSG_WAITALL))
        finally:
            os._exit(0)
    os.close(writes)
    with os.fdopen(reads, "rb") as answer:
        said = answer.read()
    os.waitpid(child, 0)
    return said


def frame(kind, body):
    return struct.pack(">IB", len(body) + 1, kind) + body


class Rights(SiteTest):
    site_options = {"accounts": 3}

    def setUp(self):
        self.site_options = {**self.site_options, "settings": {"cbox_blobs": "posix:prefix=/var/empty/"}}
        super().setUp()
        self.one, self.two = self.site.stores
        mail = pwd.getpwnam(MAIL_USER)
        self.uids = {user: mail.pw_uid + 20000 + number for number, user in enumerate(self.users)}
        users = self.site.folder / "users"
        lines = [line.split(":") for line in users.read_text().splitlines()]
        users.write_text("".join(":".join([line[0], line[1], str(self.uids[line[0]]), *line[3:]]) + "\n" for line in lines))
        for user, uid in self.uids.items():
            for place in (self.site.folder / "b", *(store.folder / "mail" for store in self.site.stores)):
                place.mkdir(exist_ok=True)
                (place / user).mkdir()
                os.chown(place / user, uid, mail.pw_gid)
        for store in self.site.stores:
            text = store.config.read_text()
            store.config.write_text(text.replace("prefix=/var/empty/", f"prefix={self.site.folder}/b/%u/"))
            store.reload()

    def ask_as(self, uid, user):
        asked = frame(HELLO, struct.pack(">I", 1) + blob("test") + struct.pack(">I", 1))
        asked += frame(CLEAR, struct.pack(">Q", 7) + blob(user) + blob("") + NO_GUID + struct.pack(">QQ", 0, 0) + bytes(1))
        path = self.one.folder / "run" / "replica"
        answer = Reader(wait_until(lambda: exchange(path, asked, uid), 60, "an answer"))  # an agent that ends closes without one
        self.assertEqual((ANSWER, 7), (answer.u8(), answer.u64()))
        return REASONS[answer.u8()]

    def test_only_root_and_the_owner_of_the_mail_are_heard(self):
        first, second = self.users[:2]
        replica.replicate(self.one, self.two, self.users)
        self.assertIn(self.ask_as(self.uids[first], first), ("none", "behind"))
        self.assertIn(self.ask_as(0, first), ("none", "behind"))
        for _ in range(2):
            self.assertEqual("protocol", self.ask_as(self.uids[second], first))
            self.assertEqual("protocol", self.ask_as(65534, first))
        lines = [line for line in self.one.log.read_text().splitlines() if "asked for changes to it and was refused" in line]
        self.assertEqual(2, len(lines), lines)
        self.assertIn(f"account={first}: a process of uid {self.uids[second]} ", lines[0])
        self.one.reload()
        wait_until(lambda: self.ask_as(65534, first) == "protocol", 60, "the next agent knows it")
        self.assertIn(self.ask_as(self.uids[first], first), ("none", "behind"))

    def test_one_lmtp_process_delivers_to_users_of_several_uids(self):
        replica.replicate(self.one, self.two, self.users)
        with self.one.lmtp() as lmtp:
            for _ in range(3):
                answers = lmtp.deliver(self.users, MAIL)
                self.assertEqual({user: "250" for user in self.users}, {user: answer[:3] for user, answer in answers.items()})
        for user in self.users:
            with self.one.imap(user) as imap:
                imap.select("INBOX")
                imap.expect("UID STORE 1 +FLAGS (\\Seen)")
        assert_equal_stores(self.site, self.users)


if __name__ == "__main__":
    unittest.main()
