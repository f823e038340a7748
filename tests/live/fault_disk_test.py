#!/usr/bin/env python3
"""A destination's disk does not take what was written, once: later flushes are not trusted, nothing is promoted there before a boot, and
after it the replica goes on from what the disk is known to have."""

import shutil
import unittest
import uuid

from support import replica
from support.compare import assert_equal_stores
from support.faults import agent_of, preloaded, send_signal, start_in_namespace
from support.live import SiteTest
from support.mailsite import scratch_folder
from support.waiting import wait_until

PRELOAD = "libfail_syncfs.so"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
SAID = "its disk did not take what was written"


class DiskFails(SiteTest):
    def setUp(self):
        folder = scratch_folder()
        self.addCleanup(shutil.rmtree, folder)
        self.order = folder / "order"
        self.site_options = {"accounts": 2, "extra": preloaded(folder, PRELOAD, "FAIL_SYNCFS", self.order)}
        super().setUp()
        self.one, self.two = self.site.stores
        replica.replicate(self.one, self.two, self.users)

    def deliver(self):
        for user in self.users:
            self.assertTrue(self.one.lmtp().deliver([user], b"Subject: x\r\n\r\n")[user].startswith("250"))

    def assert_not_promoted(self):
        said = self.two.doveadm("replica", "promoteAccounts", "accounts", ",".join(self.users), "target", self.two.name, check=False)
        self.assertNotEqual(0, said.returncode)
        self.assertIn(SAID, said.stdout + said.stderr)

    def test_nothing_is_promoted_there_before_a_boot(self):
        self.order.touch()
        self.deliver()
        wait_until(lambda: SAID in self.two.log.read_text(), 60, "the flush fails")
        self.order.unlink()
        self.deliver()
        assert_equal_stores(self.site, self.users)
        self.assert_not_promoted()
        killed = agent_of(self.two)
        send_signal([killed])
        wait_until(lambda: agent_of(self.two) not in (None, killed), 60, "another agent")
        self.two.wait_ready()
        assert_equal_stores(self.site, self.users)
        self.assert_not_promoted()

        self.site.kill("store2")
        boot = self.folder / "boot_id"
        boot.write_text(f"{uuid.uuid4()}\n")
        boot.chmod(0o444)
        start_in_namespace(self.two, f"mount --bind {boot} {BOOT_ID}")
        self.two.wait_ready()
        wait_until(lambda: replica.complete(self.two, self.two, self.users), 60, "complete")
        wait_until(lambda: self.one.name in replica.living(self.two), 30, "the stores hear each other")
        replica.promote(self.two, self.users)
        assert_equal_stores(self.site, self.users)


if __name__ == "__main__":
    unittest.main()
