#!/usr/bin/env python3
"""The main job: existing mail is initialised, changes follow, the account is promoted with its source alive, promoted back, and
promoted with its source killed in mid-load; after each step both stores, or the journal and the new source, are equal."""

import unittest

from support import corpus, load, replica
from support.compare import assert_equal_stores
from support.journal import Journal, Verdict, judge, observe
from support.live import SiteTest
from support.waiting import wait_until


class Promotion(SiteTest):
    def setUp(self):
        super().setUp()
        self.journal = Journal(self.folder / "journal", self.users)
        self.mails = [content for _, content in corpus.hostile_mails(200_000)] + [content for _, content in corpus.real_mails()[::50]]

    def workers(self, store, seed):
        workers = [load.Reader(self.journal, store, self.mails, user, corpus.MAILBOX_NAMES, seed + number)
                   for number, user in enumerate(self.users)]
        return workers + [load.Deliverer(self.journal, store, self.mails, self.users, seed + 100 + number) for number in range(4)]

    def start(self, workers):
        for worker in workers:
            worker.start()

    def work(self, workers, operations):
        """Until so many more operations were acknowledged."""
        goal = self.journal.count("acknowledged") + operations

        def reached():
            for worker in workers:
                self.assertTrue(worker.is_alive(), f"{worker.name}: {worker.failure!r}")
            return self.journal.count("acknowledged") >= goal

        wait_until(reached, 300, f"{operations} more operations", 0.05)

    def stop(self, workers):
        for worker in workers:
            worker.stopping.set()
        for worker in workers:
            worker.join(60)
            self.assertFalse(worker.is_alive())
            self.assertIsNone(worker.failure)

    def assert_journal_holds(self, store):
        self.journal.close_doubts()
        verdict = Verdict()
        for user in self.users:
            judge(self.journal.accounts[user], observe(store, user), verdict)
        self.assertEqual([], verdict.sentences[:20])
        self.assertGreater(verdict.counts["present"], 0)

    def assert_only_refused_for_a_snapshot(self, workers):
        """A change that began before its account was replicated cannot wait for its mailbox's snapshot: the snapshot waits for it."""
        refusals = self.journal.refusals()
        self.assertEqual([], [answer for answer in refusals if "being brought up to date" not in answer])
        self.assertLessEqual(sum(refusals.values()), len(workers))

    def test_initialised_followed_promoted_back_and_promoted_from_a_dead_source(self):
        one, two = self.site.stores
        workers = self.workers(one, 1)
        self.start(workers)
        self.work(workers, 300)
        replica.replicate(one, two, self.users)  # while the clients go on
        self.work(workers, 300)
        self.stop(workers)
        self.assert_only_refused_for_a_snapshot(workers)
        assert_equal_stores(self.site, self.users)

        replica.promote(two, self.users)
        self.assertFalse(one.lmtp().deliver(self.users[0], b"Subject: late\n\n")[self.users[0]].startswith("250"))
        workers = self.workers(two, 1000)
        self.start(workers)
        self.work(workers, 300)
        self.stop(workers)
        assert_equal_stores(self.site, self.users)

        wait_until(lambda: replica.complete(two, one, self.users), 120, "the old source is a complete destination")
        replica.promote(one, self.users)
        workers = self.workers(one, 2000)
        self.start(workers)
        self.work(workers, 300)
        self.site.freeze(two.name)
        self.work(workers, 100)
        killed = self.site.kill(one.name)
        for worker in workers:
            worker.join(60)
            self.assertIsNone(worker.failure)
        self.assertGreater(len(self.journal.under_way_at(killed)), 0)
        self.site.thaw(two.name)
        replica.promote(two, self.users)
        self.assert_journal_holds(two)

        self.site.start(one.name)
        assert_equal_stores(self.site, self.users)


if __name__ == "__main__":
    unittest.main()
