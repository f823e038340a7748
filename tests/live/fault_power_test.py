#!/usr/bin/env python3
"""The source loses its power: its index files are as old as what the last flush wrote, the agent's state is that of the flush, the
host has another boot id. No client sees a mailbox before it is rolled forward; then everything that was acknowledged is there."""

import shutil
import signal
import subprocess
import unittest
import uuid

from support.clients import Refused
from support.compare import assert_equal_stores
from support.faults import LoadTest, agent_of, send_signal, start_in_namespace
from support.waiting import wait_until

BOOT_ID = "/proc/sys/kernel/random/boot_id"


class PowerLoss(LoadTest):
    def copy_of_what_a_flush_made_durable(self):
        """The agent stands still, so nothing is committed and its state is that of its last flush: of the indexes as they are now
        a power loss may take what is younger than the flush, and nothing else."""
        saved = self.folder / "saved"
        agent = agent_of(self.one)
        send_signal([agent], signal.SIGSTOP)
        for name in ("mail", "replica"):
            subprocess.run(["cp", "-a", self.one.folder / name, saved / name], check=True)
        send_signal([agent], signal.SIGCONT)
        return saved

    def start_after_a_boot(self):
        """The store alone sees another boot id, in a mount namespace of its own."""
        boot = self.folder / "boot_id"
        boot.write_text(f"{uuid.uuid4()}\n")
        boot.chmod(0o444)
        start_in_namespace(self.one, f"mount --bind {boot} {BOOT_ID}")

    def login(self):
        """What a client sees of INBOX; None if it is not let in."""
        try:
            with self.one.imap(self.users[0]) as imap:
                imap.select("INBOX", readonly=True)
                return [int(mail["UID"]) for mail in imap.fetch("1:*", "(UID)")]
        except (OSError, Refused):
            return None

    def test_is_rolled_forward_before_a_client_looks(self):
        (self.folder / "saved").mkdir()
        self.start(self.one)
        self.work(300)
        saved = self.copy_of_what_a_flush_made_durable()
        self.work(300)
        self.stop()
        assert_equal_stores(self.site, self.users)
        before = self.login()
        self.site.kill("store1")
        for name in ("mail", "replica"):
            shutil.rmtree(self.one.folder / name)
            subprocess.run(["cp", "-a", saved / name, self.one.folder / name], check=True)
        broker, = self.site.brokers
        self.site.freeze(broker.name)  # so that nothing can be rolled forward for a while
        self.start_after_a_boot()
        said = "is not brought up to date from its log yet"
        wait_until(lambda: self.login() is None and said in self.one.log.read_text(), 30, "a login is refused")
        self.assertIsNone(self.login())
        self.site.thaw(broker.name)
        seen = wait_until(self.login, 60, "a login succeeds", 0.2)
        self.assertEqual(before, seen)
        assert_equal_stores(self.site, self.users)
        self.assertTrue(all(self.one.lmtp().deliver([user], b"Subject: later\n\n")[user].startswith("250") for user in self.users))
        assert_equal_stores(self.site, self.users)
        log = self.one.log.read_text()
        self.assertIn("rolled_forward", log)
        self.assertNotRegex(log, "roll_forward_stopped|diverged|Panic")


if __name__ == "__main__":
    unittest.main()
