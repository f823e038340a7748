#!/usr/bin/env python3
"""A Dovecot proxy asks an agent's dict socket where each account lives: its logins land at the source, before and after a promotion,
with the source alive and with it killed. The sessions of a living old source end at the promotion; nobody else's do."""

import os
import signal
import subprocess
import unittest

from support import clients, processes, replica
from support.live import SiteTest
from support.ports import free_port
from support.waiting import wait_until

MAIL = b"Subject: one\r\n\r\nbody\r\n"
ADDRESS = "127.0.0.9"

STORES = """\
lmtp_user_concurrency_limit = 10
service imap-login {{
  inet_listener imap_routed {{
    port = {imap}
  }}
}}
service pop3-login {{
  inet_listener pop3_routed {{
    port = {pop3}
  }}
}}
"""
PROXY = """\
listen = {address}
base_dir = {folder}/run
state_dir = {folder}/state
instance_name = proxy
log_path = {folder}/dovecot.log
protocols = imap pop3
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain
passdb {{
  driver = dict
  args = {folder}/routes.conf
  override_fields = port=%{{if;%s;eq;imap;{imap};{pop3}}}
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home=/nonexistent
}}
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
"""
ROUTES = """\
uri = proxy:{socket}:replica
key passdb {{
  key = passdb/%u
  format = json
}}
passdb_objects = passdb
iterate_disable = yes
"""


class Routing(SiteTest):
    def setUp(self):
        taken = set()
        self.ports = {name: free_port("0.0.0.0", taken) for name in ("imap", "pop3")}
        self.site_options = {"accounts": 4, "settings": {"replica_heartbeat": "500ms"}, "extra": STORES.format(**self.ports)}
        super().setUp()
        self.one, self.two = self.site.stores
        self.proxy = self.start_proxy(self.two.folder / "run" / "replica-dict")

    def start_proxy(self, socket):
        folder = self.folder / "proxy"
        folder.mkdir()
        (folder / "routes.conf").write_text(ROUTES.format(socket=socket))
        config = folder / "dovecot.conf"
        config.write_text(PROXY.format(address=ADDRESS, folder=folder, **self.ports))
        with open(folder / "start.out", "w", encoding="utf-8") as output:
            subprocess.run(["/usr/sbin/dovecot", "-c", config], stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=30, check=True)
        master = folder / "run" / "master.pid"
        pid = int(wait_until(lambda: master.read_text().strip(), 30, "the proxy's master"))

        def stop():
            os.kill(pid, signal.SIGTERM)
            wait_until(lambda: not processes.alive(pid), 30, "the proxy has ended")

        self.addCleanup(stop)
        self.addCleanup(self.show_proxy, folder / "dovecot.log")
        wait_until(lambda: all(clients.greets(ADDRESS, port) for port in self.ports.values()), 30, "the proxy greets")
        return folder

    def show_proxy(self, log):
        if any(test is self for test, _ in self._outcome.result.failures + self._outcome.result.errors):
            print(f"==> proxy:\n{log.read_text()[-2000:]}")

    def login(self, user):
        return clients.Imap(ADDRESS, self.ports["imap"], user, self.site.password)

    def sessions(self, store, user):
        """The services in which the user is logged in at the store; a delivery is no login."""
        lines = store.doveadm("-f", "tab", "who", user, check=False).stdout.splitlines()[1:]
        return sorted(service for line in lines if (service := line.split("\t")[2]) != "lmtp")

    def assert_lands_at(self, store, user):
        other = self.two if store is self.one else self.one
        with self.login(user) as imap:
            imap.select("INBOX")
            self.assertTrue(imap.append("INBOX", MAIL).ok)
            self.assertEqual(["imap"], self.sessions(store, user))
            self.assertEqual([], self.sessions(other, user))
            imap.command("LOGOUT")
        with clients.Pop3(ADDRESS, self.ports["pop3"], user, self.site.password) as pop3:
            self.assertIn("pop3", self.sessions(store, user))
            self.assertEqual(self.count(store, user), len(pop3.uidls()))
            pop3.command("QUIT")

    def count(self, store, user):
        with store.imap(user) as imap:
            imap.select("INBOX", readonly=True)
            return len(imap.search("ALL"))

    def assert_ends(self, session):
        def ended():
            try:
                session.command("NOOP")
            except OSError:
                return True
            return False

        wait_until(ended, 60, "the session ended")

    def test_logins_land_at_the_source_before_and_after_promotions(self):
        user, other = self.users[:2]
        with self.assertRaises(clients.Refused):  # the agent names no store for what has no replica
            self.login(user)
        replica.replicate(self.one, self.two, [user, other])
        self.assert_lands_at(self.one, user)
        with self.assertRaises(clients.Refused):  # the store checks the password
            clients.Imap(ADDRESS, self.ports["imap"], user, "wrong")
        replica.promote(self.two, [user])
        self.assert_lands_at(self.two, user)
        self.assert_lands_at(self.one, other)
        self.site.kill(self.one.name)
        replica.promote(self.two, [other])
        with self.login(other) as imap:
            imap.select("INBOX")
            self.assertTrue(imap.append("INBOX", MAIL).ok)
            self.assertEqual(["imap"], self.sessions(self.two, other))

    def test_sessions_of_a_replaced_source_end_and_no_others(self):
        user, other = self.users[:2]
        replica.replicate(self.one, self.two, [user, other])
        moved, stays = self.login(user), self.login(other)
        direct = self.one.imap(user)
        pop3 = self.one.pop3(user)
        for imap in (moved, stays, direct):
            imap.select("INBOX")
        lmtp = self.one.lmtp()
        self.assertEqual([user, other], lmtp.begin_data([user, other], MAIL))  # one lmtp process, both users, in the middle of it
        replica.promote(self.two, [user])
        self.assert_ends(moved)
        self.assert_ends(direct)
        with self.assertRaises(OSError):
            while True:
                pop3.command("NOOP")
        self.assertEqual([], self.sessions(self.one, user))
        self.assertTrue(stays.append("INBOX", MAIL).ok)
        lmtp.send(b".\r\n")
        answers = [lmtp.reply(), lmtp.reply()]
        self.assertTrue(answers[0].startswith("451"), answers)
        self.assertTrue(answers[1].startswith("250"), answers)
        self.assert_lands_at(self.two, user)
        self.assertTrue(stays.command("NOOP").ok)


if __name__ == "__main__":
    unittest.main()
