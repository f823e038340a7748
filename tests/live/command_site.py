"""Three stores that know each other, for tests of the commands."""

import json

from support import replica
from support.live import SiteTest
from support.waiting import wait_until

MAIL = b"Subject: one\r\n\r\nbody\r\n"
USAGE, BAD_DATA = 64, 65  # sysexits(3)


def delivered(store, user):
    return store.lmtp().deliver(user, MAIL)[user].startswith("250")


class CommandTest(SiteTest):
    site_options = {"stores": 3, "accounts": 12, "settings": {"replica_heartbeat": "500ms"}}

    def setUp(self):
        super().setUp()
        self.one, self.two, self.three = self.site.stores
        wait_until(lambda: all(len(self.alive(store)) == 3 for store in self.site.stores), 30, "every store knows all three")

    def stores(self, store):
        return json.loads(store.doveadm("-f", "json", "replica", "stores").stdout or "[]")

    def alive(self, store):
        return {row["store"] for row in self.stores(store) if row["alive"] == "yes"}

    def picture(self):
        """What no refused command may change: destinations and operations."""
        rows = [[row[name] for name in ("account", "mailHost", "epoch", "state", "replicaServer", "priority")] for row in replica.status(self.one)]
        under_way = [row["operation"] for row in json.loads(self.one.doveadm("-f", "json", "replica", "operations").stdout or "[]")
                     if row["phase"] in ("checking", "running")]
        return rows, under_way

    def refused(self, exit_code, sentences, *words, store=None):
        """A wrong command line never gets to the agent: that nothing was done is asked of the others."""
        with self.subTest(words=words):
            before = self.picture() if exit_code != USAGE else None
            done = (store or self.one).doveadm("replica", *words, check=False)
            self.assertEqual(exit_code, done.returncode, done.stdout + done.stderr)
            self.assertEqual("", done.stdout)
            for sentence in [sentences] if isinstance(sentences, str) else sentences:
                self.assertIn(sentence, done.stderr)
            if before is not None:
                self.assertEqual(before, self.picture())

    def file(self, content):
        path = self.folder / "accounts"
        path.write_bytes(content)
        return path
