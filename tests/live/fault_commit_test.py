#!/usr/bin/env python3
"""A mail process dies at each step between the acknowledgement and the end of its local commit, at each kind of change: the agent
rolls the change forward, the client's next session sees it, and the replica has the very same."""

import shutil
import unittest

from support import replica
from support.compare import assert_equal_stores
from support.faults import preloaded
from support.live import SiteTest
from support.mailsite import scratch_folder

PRELOAD = "libdie_after_ack.so"
STEPS_MAX = 40
MAIL = b"Subject: %d\r\n\r\nbody\r\n"


class MailProcessDies(SiteTest):
    def setUp(self):
        order = scratch_folder()
        self.addCleanup(shutil.rmtree, order)
        order.chmod(0o777)  # whoever dies takes it
        self.order = order / "order"
        self.site_options = {"accounts": 1, "extra": preloaded(order, PRELOAD, "DIE_AFTER_ACK", self.order)}
        super().setUp()
        self.one, self.two = self.site.stores
        self.user = self.users[0]
        self.number = 0
        with self.one.imap(self.user) as imap:
            for name in ("box", "other"):
                imap.expect("CREATE", name)
            for number in range(60):
                imap.append("INBOX", MAIL % number)
        replica.replicate(self.one, self.two, self.users)

    def mail(self):
        self.number += 1
        return MAIL % (1000 + self.number)

    def deliver(self, imap):
        self.one.lmtp().deliver([self.user], self.mail())

    def append(self, imap):
        imap.append("box", self.mail(), "\\Seen work")

    def flags(self, imap):
        imap.select("INBOX")
        imap.expect("UID STORE", str(max(imap.search("ALL"))), f"+FLAGS (\\Flagged k{self.number})")

    def copy(self, imap):
        imap.select("INBOX")
        imap.expect("UID COPY", str(min(imap.search("ALL"))), "box")

    def move(self, imap):
        imap.select("INBOX")
        imap.expect("UID MOVE", str(min(imap.search("ALL"))), "other")

    def expunge(self, imap):
        imap.select("INBOX")
        imap.expect("UID EXPUNGE", str(min(imap.search("ALL"))))

    def create(self, imap):
        self.number += 1
        imap.expect("CREATE", f"new{self.number}")

    def rename(self, imap):
        self.number += 1
        imap.expect("RENAME", self.some_new(imap), f"renamed{self.number}")

    def delete(self, imap):
        imap.expect("DELETE", self.some_new(imap))

    def some_new(self, imap):
        names = [line[2] for line in imap.expect('LIST "" "*"').named("LIST")]
        return next(name for name in names if name.startswith(("new", "renamed")))

    def subscribe(self, imap):
        subscribed = next(imap.expect('LSUB "" other').named("LSUB"), None)
        imap.expect("UNSUBSCRIBE" if subscribed else "SUBSCRIBE", "other")

    def metadata(self, imap):
        self.number += 1
        imap.expect("SETMETADATA", "box", f'(/private/comment "c{self.number}")')

    def dies(self, operation, step):
        """Whether a process died in it."""
        imap = self.one.imap(self.user)
        if operation in (self.rename, self.delete):
            self.number += 1
            imap.expect("CREATE", f"new{self.number}")
        if operation == self.expunge:
            imap.select("INBOX")
            imap.expect("UID STORE", str(min(imap.search("ALL"))), "+FLAGS (\\Deleted)")
        self.order.write_text(str(step))
        try:
            operation(imap)
            return False
        except OSError:
            return True
        finally:
            self.assertFalse(self.order.exists(), "nobody received an ACK")
            imap.close()

    def check(self, operation):
        step = 0
        while self.dies(operation, step):
            step += 1
            self.assertLess(step, STEPS_MAX)
            assert_equal_stores(self.site, self.users, 30)
            with self.one.imap(self.user) as imap:  # the next change of every object goes on from there
                self.assertTrue(imap.append("INBOX", self.mail()).ok)
                self.assertTrue(imap.append("box", self.mail()).ok)
                imap.expect("SUBSCRIBE", "box")
                imap.expect("UNSUBSCRIBE", "box")
        print(f"{operation.__name__}: died at {step} steps")
        self.assertGreater(step, 0)

    def operations(self):
        return (self.deliver, self.append, self.flags, self.copy, self.move, self.expunge, self.create, self.rename, self.delete,
                self.subscribe, self.metadata)

    def test_at_each_step_of_each_kind_of_change(self):
        for operation in self.operations():
            with self.subTest(operation.__name__):
                self.check(operation)
        self.assertNotRegex(self.one.log.read_text(), "roll_forward_stopped|diverged|Panic")


if __name__ == "__main__":
    unittest.main()
