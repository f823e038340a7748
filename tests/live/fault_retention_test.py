#!/usr/bin/env python3
"""Kafka has dropped what a destination lacks: it is lost, says so, and is initialised again by itself, while its users go on."""

import unittest

from support import replica
from support.compare import assert_equal_stores
from support.faults import LoadTest
from support.waiting import wait_until

PARTITIONS = 8


class BeyondRetention(LoadTest):
    site_options = {"accounts": 4, "settings": {"replica_partitions": PARTITIONS}}

    def test_a_destination_that_was_away_begins_anew(self):
        self.start(self.one, deliverers=2)
        self.work(50)
        self.site.kill("store2")
        self.work(100)
        self.stop()  # the source has read what is dropped, as it has within a week
        self.site.brokers[0].delete_records(f"replica.changes.{self.one.name}", PARTITIONS)
        self.start(self.one, deliverers=2, seed=2)
        self.site.start("store2")
        wait_until(lambda: " begin anew: operation " in self.two.log.read_text(), 60, "it begins anew")
        self.assertRegex(self.two.log.read_text(), "lost: Kafka keeps ")
        wait_until(lambda: replica.complete(self.one, self.two, self.users), 90, "complete again", 0.05)
        self.stop()
        assert_equal_stores(self.site, self.users)
        replica.promote(self.two, self.users)
        self.assert_journal_holds(self.two)


if __name__ == "__main__":
    unittest.main()
