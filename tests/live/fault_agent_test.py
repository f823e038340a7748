#!/usr/bin/env python3
"""The source's agent and mail processes die, again and again, and Dovecot is reloaded, all under load.

The rate of deliveries during the reloads is what the machine gives; with REPLICA_HOLD_RATE in the environment, on one that has nothing else to
do, the test fails below 200/s.
"""

import os
import random
import time
import unittest

from support.compare import assert_equal_stores
from support.faults import LoadTest, agent_of, processes_of, send_signal
from support.waiting import wait_until

DELIVERIES_PER_SECOND = 200
DELIVERERS = 16


class AgentDies(LoadTest):
    def test_again_and_again(self):
        self.start(self.one)
        self.work(100)
        for kill in range(6):
            killed = agent_of(self.one)
            self.assertEqual(1, send_signal([killed]))
            begun = time.monotonic()
            wait_until(lambda: agent_of(self.one) not in (None, killed), 90, "another agent", 0.01)
            born = time.monotonic()
            self.work(100, 30)
            print(f"kill {kill}: the next agent after {born - begun:.2f} s, 100 operations {time.monotonic() - born:.2f} s later")
        self.stop()
        assert_equal_stores(self.site, self.users)
        self.assert_journal_holds(self.one)


class MailProcessesDie(LoadTest):
    def test_many_times_under_load(self):
        self.start(self.one)
        self.work(100)
        chance = random.Random(1)
        kills = 0
        while kills < 60:
            pids = sorted(processes_of(self.one, "imap", "lmtp"))
            kills += send_signal(chance.sample(pids, min(2, len(pids))))
            self.work(chance.randint(1, 20))
        self.stop()
        assert_equal_stores(self.site, self.users)
        self.assert_journal_holds(self.one)


class Reload(LoadTest):
    def test_twenty_times_under_load_loses_nothing_and_refuses_almost_nothing(self):
        self.start(self.one, DELIVERERS, readers=False, pace=DELIVERERS / DELIVERIES_PER_SECOND)
        self.work(DELIVERIES_PER_SECOND)
        begun, before = time.monotonic(), self.journal.count("acknowledged")
        for _ in range(20):
            agent = agent_of(self.one)
            self.one.reload()
            wait_until(lambda old=agent: agent_of(self.one) != old and not send_signal([old], 0), 30, "the old agent is gone", 0.01)
            self.work(DELIVERIES_PER_SECOND)
        held = "REPLICA_HOLD_RATE" in os.environ
        rate = (self.journal.count("acknowledged") - before) / (time.monotonic() - begun)
        self.stop()
        done = [operation for operation in self.journal.operations]
        slowest = sorted((operation.ended - operation.sent for operation in done), reverse=True)
        # 421 and a closed connection are what Dovecot's own lmtp processes do at a reload, to whoever is not in mid-delivery.
        refused = {text: count for text, count in self.journal.refusals().items() if not text.startswith("421")}
        print(f"{len(done)} deliveries, {rate:.0f}/s, refused: {refused}; "
              f"the slowest took {', '.join(f'{seconds * 1000:.0f}' for seconds in slowest[:20])} ms")
        self.assertLessEqual(sum(refused.values()), len(done) / 1000)
        self.assertGreaterEqual(rate, DELIVERIES_PER_SECOND * 0.95 if held else 0)
        assert_equal_stores(self.site, self.users)
        self.assert_journal_holds(self.one)


if __name__ == "__main__":
    unittest.main()
