#!/usr/bin/env python3
"""Two stores are told to take the same accounts at the same time: all agree on one source for each, and nothing is missing."""

import collections
import threading
import unittest

from fault_promotion_test import PromotionTest
from support import replica
from support.compare import assert_equal_stores
from support.waiting import wait_until


class Race(PromotionTest):
    site_options = {"accounts": 4, "stores": 3}

    def test_of_two_targets(self):
        two, three = self.site.stores[1:]
        replica.set_destination(self.one, three, self.users, priority=20)
        wait_until(lambda: replica.complete(self.one, three, self.users), 60, "three is complete")
        source = self.one
        for turn in range(4):
            targets = [store for store in self.site.stores if store is not source]
            self.start(source, deliverers=2, seed=1000 * turn)
            self.work(30)
            commands = [threading.Thread(target=lambda store=store: store.doveadm("replica", "promoteAccounts", "accounts", ",".join(self.users),
                                                                                   "target", store.name, check=False)) for store in targets]
            for command in commands:
                command.start()
            for command in commands:
                command.join(120)
            self.stop()
            view = wait_until(self.agreed, 60, "all stores agree on an active source for each account")
            winners = collections.Counter(name for name, _, _ in view.values())
            print(f"turn {turn}: {dict(winners)}, epochs {sorted({epoch for _, epoch, _ in view.values()})}")
            source = targets[0]  # all together again, for the next turn
            for loser in {name for name, _, _ in view.values()} - {source.name}:
                users = [user for user in self.users if view[user][0] == loser]
                wait_until(lambda: replica.complete(self.site[loser], source, users), 60, f"{source.name} follows {loser}")
                replica.promote(source, users)
            for store in self.site.stores:
                if store is not source:
                    wait_until(lambda: replica.complete(source, store, self.users), 60, f"{store.name} follows")
        for store in self.site.stores:
            if store is not source:
                assert_equal_stores(self.site, self.users, first=source.name, second=store.name)
        self.assert_journal_holds(source)
        self.assert_one_source(source)


if __name__ == "__main__":
    unittest.main()
