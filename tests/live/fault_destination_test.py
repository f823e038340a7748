#!/usr/bin/env python3
"""A destination dies in the middle of taking a large mailbox, and in the middle of applying: all of it, its worker, its agent. It ends equal."""

import time
import unittest

from support import replica
from support.compare import assert_equal_stores
from support.faults import LoadTest, agent_of, processes_of, send_signal
from support.live import SiteTest
from support.waiting import wait_until

MAILS = 20_000
BEGUN = 200_000  # bytes of a collection: a tenth of the large mailbox, more than the other ones ever have


class InTheMiddleOfASnapshot(SiteTest):
    site_options = {"accounts": 3}

    def fill(self, store, user):
        with store.imap(user, 120) as imap:
            imap.expect("CREATE", "big")
            imap.append("big", b"Subject: one\r\n\r\nbody\r\n", "\\Seen work")
            imap.append("big", b"Subject: two\r\n\r\nbody\r\n")
            imap.select("big")
            count = 2
            while count < MAILS:
                imap.expect("UID COPY", f"1:{min(count, MAILS - count)}", "big")
                imap.expect("NOOP")
                count += min(count, MAILS - count)
            imap.expect("UID STORE", f"{MAILS // 2}:*", "+FLAGS.SILENT (\\Flagged)")
            imap.expect("UID STORE", "5:50", "+FLAGS.SILENT (\\Deleted)")
            imap.expect("EXPUNGE")

    def deaths(self):
        yield "worker", lambda: send_signal(processes_of(self.two, "replica-apply"))
        yield "agent", lambda: send_signal([agent_of(self.two)])

        def store():
            self.site.kill("store2")
            self.site.start("store2")
        yield "store", store

    def test_ends_equal(self):
        self.one, self.two = self.site.stores
        for user in self.users:
            self.fill(self.one, user)
        collections = self.two.folder / "mail"
        for user, (name, die) in zip(self.users, self.deaths()):
            with self.subTest(name):
                replica.set_destination(self.one, self.two, [user])
                part, *_ = wait_until(lambda: [path for path in (collections / user).rglob(".replica/snapshot-*") if path.stat().st_size > BEGUN],
                                  60, "a collection is under way", 0.002)
                size = part.stat().st_size
                die()
                begun = time.monotonic()
                self.assertTrue(self.one.lmtp().deliver([user], b"Subject: meanwhile\r\n\r\n")[user].startswith("250"))
                wait_until(lambda: replica.complete(self.one, self.two, [user]), 90, f"{user} complete", 0.05)
                print(f"{name} killed with {size} bytes collected: complete {time.monotonic() - begun:.1f} s later")
                assert_equal_stores(self.site, [user], bodies=False)


class InTheMiddleOfApplying(LoadTest):
    def test_ends_equal(self):
        self.start(self.one)
        for _ in range(3):
            self.work(60)
            send_signal(processes_of(self.two, "replica-apply"))
            self.work(60)
            send_signal([agent_of(self.two)])
            self.work(60)
            self.site.kill("store2")
            self.work(60)
            self.site.start("store2")
        self.stop()
        self.assertEqual({}, self.journal.refusals())
        assert_equal_stores(self.site, self.users)
        self.assert_journal_holds(self.two)


if __name__ == "__main__":
    unittest.main()
