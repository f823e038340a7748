#!/usr/bin/env python3
"""Brokers die, stand still, come back, and lose the tail of a log, under load: what cannot be logged is refused in clear words and in
time, nothing that was acknowledged is lost, and an outage ends by itself."""

import re
import time
import unittest

from support import replica
from support.compare import assert_equal_stores
from support.faults import LoadTest
from support.waiting import wait_until

ACK_TIMEOUT = 2.0
SLACK = 1.5  # two busy cores
BODY = b"Subject: x\r\n\r\nbody\r\n"


class OutageTest(LoadTest):
    def deliver(self, user=None):
        """(answer, seconds)"""
        begun = time.monotonic()
        with self.one.lmtp() as lmtp:
            answer = lmtp.deliver([user or self.users[0]], BODY)
        return next(iter(answer.values())), time.monotonic() - begun

    def refused_once_in_time_then_at_once(self):
        answer, seconds = self.deliver()
        self.assertTrue(answer.startswith("451"), answer)
        self.assertLess(seconds, ACK_TIMEOUT + SLACK)
        wait_until(lambda: "outage: changes are refused" in self.one.log.read_text(), 10, "the agent says so")
        times = []
        for user in self.users:
            answer, seconds = self.deliver(user)
            self.assertTrue(answer.startswith("451"), answer)
            times.append(seconds)
        print(f"in an outage: {answer!r} after {min(times) * 1000:.0f} to {max(times) * 1000:.0f} ms")
        self.assertLess(sorted(times)[len(times) // 2], 0.5)

    def ends_by_itself(self):
        begun = time.monotonic()
        wait_until(lambda: all(self.deliver(user)[0].startswith("250") for user in self.users), 60, "deliveries succeed again")
        print(f"{time.monotonic() - begun:.1f} s after the brokers were back all accounts took mail")


class OneBroker(OutageTest):
    site_options = {"accounts": 4, "settings": {"replica_ack_timeout": f"{ACK_TIMEOUT:g}s"}}

    def test_killed_paused_and_robbed_of_a_log_tail(self):
        broker, = self.site.brokers
        self.start(self.one)
        self.work(200)
        with self.subTest("killed"):
            self.site.kill(broker.name)
            self.refused_once_in_time_then_at_once()
            self.site.start(broker.name)
            self.ends_by_itself()
            self.work(100)
        with self.subTest("paused"):
            self.site.freeze(broker.name)
            self.refused_once_in_time_then_at_once()
            self.site.thaw(broker.name)
            self.ends_by_itself()
            self.work(100)
        self.stop()
        assert_equal_stores(self.site, self.users)
        self.assert_journal_holds(self.one)


class ALostTail(OutageTest):
    """A broker that loses the tail of a log loses what was acknowledged: what stood there is damaged and says so. The producer, which is
    dead then, is replaced; the accounts of other places go on."""

    site_options = {"accounts": 2, "stores": 3, "settings": {"replica_partitions": 64}}
    replicated = False

    def test_a_dead_producer_is_replaced(self):
        broker, = self.site.brokers
        hit, spared = self.users
        replica.replicate(self.one, self.site["store2"], [hit])
        tail, = (log for log in broker.data.glob("replica.changes.store1*/*.log") if log.stat().st_size)
        replica.replicate(self.one, self.site["store3"], [spared])
        for user in self.users:
            self.assertTrue(self.deliver(user)[0].startswith("250"))
        assert_equal_stores(self.site, [hit])
        self.site.kill(broker.name)
        with open(tail, "r+b") as file:
            file.truncate(tail.stat().st_size - 50)
        self.site.start(broker.name)
        wait_until(lambda: all(any(word in self.deliver(hit)[0] for word in ("451", "250")) for _ in range(5)), 60)
        wait_until(lambda: self.deliver(spared)[0].startswith("250"), 60, "the other account takes mail")
        wait_until(lambda: "the producer died: a new one" in self.one.log.read_text(), 10, "the producer is replaced")
        damaged = f"account={hit}: stopped: .*damaged"  # once the brokers tell where the place ends
        wait_until(lambda: re.search(damaged, self.one.log.read_text()), 10, "what stood there is damaged")
        self.assertTrue(self.deliver(hit)[0].startswith("451"))
        assert_equal_stores(self.site, [spared], second="store3")


class ThreeBrokers(OutageTest):
    site_options = {"accounts": 4, "brokers": 3}

    def test_one_of_three_dies_and_returns(self):
        self.start(self.one)
        self.work(200)
        before = self.journal.count("refused")
        for broker in self.site.brokers:
            instant = self.site.kill(broker.name)
            self.work(50)
            print(f"{broker.name} killed: 50 operations more after {time.monotonic() - instant:.1f} s, "
                  f"{self.journal.count('refused') - before} refused so far")
            self.site.start(broker.name)
            self.work(50)
        self.stop()
        assert_equal_stores(self.site, self.users)
        self.assert_journal_holds(self.one)


if __name__ == "__main__":
    unittest.main()
