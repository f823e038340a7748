#!/usr/bin/env python3
"""What the plugin costs: an account without a replica, and the weight of an imap process."""

import os
import pathlib
import shutil
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from live.plugin_host import MAIL, Host, PluginTest, setUpModule, tearDownModule  # noqa: E402,F401


class WithoutAReplica(PluginTest):
    def test_nothing_is_asked_and_an_absent_agent_is_not_missed(self):
        self.agent.stop()
        user, imap = self.session(role=None, mails=1)
        imap.expect("CREATE box")
        imap.expect("SUBSCRIBE box")
        imap.select("INBOX")
        imap.expect("STORE 1 +FLAGS (\\Seen k)")
        imap.expect("COPY 1 box")
        imap.expect("STORE 1 +FLAGS (\\Deleted)")
        imap.expect("EXPUNGE")
        imap.expect('SETMETADATA INBOX (/private/comment "c")')
        imap.expect("RENAME box other")
        imap.expect("UNSUBSCRIBE box")
        imap.expect("DELETE other")
        self.assertEqual(self.agent.take(), [])
        self.assertNotIn("replica", self.host.new_log())

    def test_a_replica_that_is_set_up_later_is_seen_by_a_running_session(self):
        user, imap = self.session(role=None, mails=1)
        self.assertEqual(self.agent.take(), [])
        self.host.set_role(user, "source")
        self.assertTrue(imap.append("INBOX", MAIL % (1, 1)).ok)
        change, = self.changes()
        self.assertEqual(change["previous"], (0, 0))


class Weight(PluginTest):
    LIMIT_KB = 300

    @staticmethod
    def private_dirty_kb(pid):
        return sum(int(line.split()[1]) for line in open(f"/proc/{pid}/smaps_rollup") if line.startswith("Private_Dirty"))

    def test_an_imap_process_grows_little_and_has_one_thread(self):
        plain = Host(replica=False)
        plain.start()
        try:
            without = min(self.private_dirty_kb(self.imap_pid(plain, None)) for _ in range(3))
            pids = [self.imap_pid(self.host, "source") for _ in range(3)]
            grown = min(map(self.private_dirty_kb, pids)) - without
            print(f"private dirty memory: {without} kB, with the plugin {grown} kB more")
            self.assertLess(grown, self.LIMIT_KB)
            for pid in pids:
                self.assertEqual(len(os.listdir(f"/proc/{pid}/task")), 1)
        finally:
            plain.stop()
            shutil.rmtree(plain.folder)

    def imap_pid(self, host, role):
        """An imap process that did a bit of everything, and lives until the end of the test."""
        before = set(self.imap_pids(host))
        user = host.user(role)
        imap = host.imap(user)
        self.assertTrue(imap.append("INBOX", MAIL % (1, 1)).ok)
        imap.expect("CREATE box")
        imap.select("INBOX")
        imap.expect("STORE 1 +FLAGS (\\Seen)")
        pid, = set(self.imap_pids(host)) - before
        self.addCleanup(imap.logout)
        return pid

    @staticmethod
    def imap_pids(host):
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                stat = (process / "stat").read_text().rpartition(")")[2].split()
                if int(stat[1]) == host.pid and os.readlink(process / "exe").endswith("/imap"):
                    yield int(process.name)
            except OSError:
                continue


if __name__ == "__main__":
    unittest.main(verbosity=2)
