#!/usr/bin/env python3
"""Promotions back and forth under load, and from a source that is killed: one source, and nothing that was acknowledged is missing."""

import time
import unittest

from support import replica
from support.compare import assert_equal_stores
from support.faults import LoadTest
from support.waiting import wait_until


class PromotionTest(LoadTest):
    site_options = {"accounts": 4}

    def sources(self, seen_by=None):
        """{account: (source, epoch, state)}"""
        return {row["account"]: (row["mailHost"], row["epoch"], row["state"]) for row in replica.status(seen_by or self.one)}

    def agreed(self):
        """What every store says, if all say the same and every account is active; else None."""
        views = [self.sources(store) for store in self.site.stores]
        good = all(view == views[0] for view in views) and len(views[0]) == len(self.users)
        return views[0] if good and all(state == "active" for _, _, state in views[0].values()) else None

    def settled(self, timeout=90):
        """The one store at which all accounts are active, when every store says so."""
        def one():
            names = {name for name, _, _ in (self.agreed() or {}).values()}
            return names.pop() if len(names) == 1 else None
        return self.site.part(wait_until(one, timeout, "one active source", 0.05))

    def takes_mail(self, store):
        with store.lmtp() as lmtp:
            return [lmtp.deliver([user], b"Subject: x\r\n\r\n")[user].startswith("250") for user in self.users]

    def assert_one_source(self, source):
        wait_until(lambda: all(self.takes_mail(source)), 60, f"{source.name} takes mail for all")
        for store in self.site.stores:
            if store is not source:
                self.assertFalse(any(self.takes_mail(store)), f"{store.name} takes mail, too")
        for store in self.site.stores:
            if store is not source:
                assert_equal_stores(self.site, self.users, first=source.name, second=store.name)


class BackAndForth(PromotionTest):
    def test_under_load(self):
        """The clients of both stores go on all the time: who is not the source refuses them."""
        self.start(self.one, deliverers=2)
        self.start(self.two, deliverers=2, readers=False, seed=50)
        times = []
        for turn in range(10):
            target = (self.two, self.one)[turn % 2]
            self.work(40)
            begun = time.monotonic()
            replica.promote(target, self.users)
            times.append(time.monotonic() - begun)
            other = (self.one, self.two)[turn % 2]
            wait_until(lambda: replica.complete(target, other, self.users), 60, "the old source follows")
        print("promotions of 4 accounts under load took " + ", ".join(f"{seconds:.2f}" for seconds in times) + " s")
        self.work(40)
        self.stop()
        assert_equal_stores(self.site, self.users)
        self.assert_journal_holds(self.one)
        self.assert_one_source(self.one)

    def test_from_kill_to_promoted(self):
        self.start(self.one, deliverers=2)
        self.work(100)
        instant = self.site.kill("store1")
        self.end_workers()
        replica.promote(self.two, self.users)
        promoted = time.monotonic() - instant
        wait_until(lambda: all(self.takes_mail(self.two)), 30, "store2 takes mail")
        print(f"from the kill of the source to promoted: {promoted:.2f} s, to mail for all: {time.monotonic() - instant:.2f} s")
        self.assert_journal_holds(self.two)
        self.site.start("store1")
        self.assert_one_source(self.two)


if __name__ == "__main__":
    unittest.main()
