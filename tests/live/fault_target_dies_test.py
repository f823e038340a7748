#!/usr/bin/env python3
"""The store that is to be the new source dies at any moment of a promotion, while the old one lives and acknowledges."""

import random
import threading
import unittest

from fault_promotion_test import PromotionTest
from support import replica
from support.compare import assert_equal_stores
from support.faults import agent_of, send_signal
from support.waiting import wait_until


class TheTargetDies(PromotionTest):
    """Once for each moment, from before its first step to behind its last: the promotion goes on by itself or did not begin."""

    def promotion_with_a_death(self, target, after, die):
        command = threading.Thread(target=lambda: target.doveadm("replica", "promoteAccounts", "accounts", ",".join(self.users), check=False))
        command.start()
        self.assertFalse(threading.Event().wait(after))  # the moment itself: what is done to it is the test
        die(target)
        command.join(120)
        target.wait_ready()  # it knows what it has to go on with
        wait_until(lambda: replica.operations_over(target), 90, "the promotion ended, or never began", 0.05)

    def kill_agent(self, store):
        send_signal([agent for agent in [agent_of(store)] if agent])

    def kill_store(self, store):
        self.site.kill(store.name)
        self.site.start(store.name)

    def test_at_many_moments(self):
        source, target = self.one, self.two
        self.start(source, deliverers=2)
        self.work(50)
        moments = random.Random(1)
        promoted = 0
        for turn in range(12):
            die = self.kill_store if turn % 4 == 3 else self.kill_agent
            after = moments.uniform(0, 0.5)
            self.promotion_with_a_death(target, after, die)
            now = self.settled()
            print(f"turn {turn}: {die.__name__} after {after * 1000:.0f} ms: the source is {now.name}")
            if now is target:
                promoted += 1
                self.stop()
                source, target = target, source
                wait_until(lambda: replica.complete(source, target, self.users), 60, "the old source follows")
                self.start(source, deliverers=2, seed=100 * turn)
            self.work(30)
        self.stop()
        self.assertGreater(promoted, 0)
        assert_equal_stores(self.site, self.users)
        self.assert_journal_holds(source)
        self.assert_one_source(source)


if __name__ == "__main__":
    unittest.main()
