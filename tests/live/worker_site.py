"""The worker replica-apply between two real Dovecots, source and destination of one account after another; the agent between them is
played by the test.

Needs root; REPLICA_BUILD_DIR names the build directory, REPLICA_KEEP=1 keeps the folders with log and mail.
"""

import contextlib
import os
import pathlib
import queue
import re
import shutil
import socket
import threading
import unittest

from live import fake_agent, plugin_host
from live import worker_client as wire
from live.fake_agent import NO_GUID
from live.plugin_host import MAIL, Host

SERVICE = """
service replica-apply {{
  executable = {worker}
  user = root
  client_limit = 1
  process_limit = 16
  unix_listener replica-apply {{
    mode = 0600
  }}
}}
mail_max_keyword_length = 60
"""
BAD_LOG = r"Panic:|Fatal:|assertion failed|killed with signal (?!9)|Corrupted|fscking|replica_|inconsistent"
FETCH = "mailbox mailbox-guid uid guid flags modseq date.received date.saved size.physical size.virtual pop3.uidl"
STATUS = "guid uidvalidity uidnext highestmodseq messages unseen"


class Log(fake_agent.FakeAgent):
    """A fake agent that keeps what it numbered, with the payload as it came."""

    def __init__(self, path):
        super().__init__(path)
        self.records = []

    def number(self, connection, frame, answer=True):
        with self.lock:
            before = self.sequence
            super().number(connection, frame, answer)
            if self.sequence > before:
                self.records.append({**{k: frame[k] for k in ("object", "kind", "subject", "previous", "payload", "account")},
                                     "number": (1, self.sequence)})

    def of(self, account, after=(0, 0)):
        with self.lock:
            return [r for r in self.records if r["account"] == account and r["number"] > after]


fake_agent.payload_of = lambda kind, data: data


class Store(Host):
    def __init__(self):
        super().__init__()
        self.agent = Log(self.folder / "run" / "replica")
        worker = next(path for path in pathlib.Path(plugin_host.BUILD).rglob("replica-apply") if path.is_file())
        with self.config.open("a") as config:
            config.write(SERVICE.format(worker=worker.resolve()))

    def take_mails(self):
        """An SMTP server that keeps what it takes, and this store's submission_host."""
        self.mails = queue.Queue()
        self.submission = socket.create_server((plugin_host.ADDRESS, 0))
        threading.Thread(target=self._take_mails, daemon=True).start()
        with self.config.open("a") as config:
            config.write(f"submission_host = {plugin_host.ADDRESS}:{self.submission.getsockname()[1]}\n")

    def _take_mails(self):
        while True:
            connection, _ = self.submission.accept()
            with connection, connection.makefile("rwb", buffering=0) as lines:
                sender, recipients = None, []
                lines.write(b"220 sink\r\n")
                for line in lines:
                    verb, _, rest = line.decode().strip().partition(":")
                    if verb == "MAIL FROM":
                        sender = rest.split()[0]
                    elif verb == "RCPT TO":
                        recipients.append(rest.split()[0])
                    elif verb == "DATA":
                        lines.write(b"354 go on\r\n")
                        message = "".join(part.decode() for part in iter(lines.readline, b".\r\n"))
                        self.mails.put((sender, recipients, message))
                    lines.write(b"221 bye\r\n" if verb == "QUIT" else b"250 ok\r\n")
                    if verb == "QUIT":
                        break

    def worker(self, originate=False):
        return wire.Worker(self.folder / "run" / "replica-apply", originate)

    def processes(self, service):
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                stat = (process / "stat").read_text().rpartition(")")[2].split()
                if int(stat[1]) == self.pid and os.readlink(process / "exe").endswith("/" + service):
                    yield int(process.name)

    def add_user(self, name):
        home = self.folder / "mail" / name
        home.mkdir(exist_ok=True)
        os.chown(home, self.uid, self.gid)

    def state(self, user):
        """All that a client could tell apart, but for the bodies."""
        lists = self.doveadm("mailbox", "list", "-u", user).stdout
        subscribed = self.doveadm("mailbox", "list", "-s", "-u", user).stdout
        status = self.doveadm("-f", "tab", "mailbox", "status", "-u", user, STATUS, "*").stdout
        mails = self.doveadm("-f", "tab", "fetch", "-u", user, FETCH, "mailbox", "*").stdout
        mails = re.sub(r" ?\\Recent(?=[\t ])", "", mails).replace("\t ", "\t")  # a session's own matter
        return [sorted(text.splitlines()) for text in (lists, subscribed, status, mails)]


def setUpModule():
    for role in ("source", "target"):
        store = Store()
        setattr(WorkerTest, role, store)
        unittest.addModuleCleanup(remove, store)
        if role == "target":
            store.take_mails()
        store.agent.start()
        store.start()


def remove(store):
    store.stop()
    if os.environ.get("REPLICA_KEEP"):
        print(store.folder)
    else:
        shutil.rmtree(store.folder)


class WorkerTest(unittest.TestCase):
    source = target = None
    users = 0

    def setUp(self):
        WorkerTest.users += 1
        self.user = f"w{WorkerTest.users}@example.com"
        for store in (self.source, self.target):
            store.add_user(self.user)
            store.new_log()
        self.log = self.source.agent
        self.workers = []
        self.applied = (0, 0)

    def tearDown(self):
        for worker in self.workers:
            worker.close()
        self.assertEqual(self.log.failures, [])
        for store in (self.source, self.target):
            self.assertNotRegex(store.new_log(), BAD_LOG)

    def worker(self, store, originate=False):
        self.workers.append(store.worker(originate))
        return self.workers[-1]

    def imap(self, mails=0):
        imap = self.source.imap(self.user)
        self.addCleanup(imap.logout)
        for i in range(mails):
            self.assertTrue(imap.append("INBOX", MAIL % (i, i)).ok)
        return imap

    def begin(self, mails=0):
        """A replicated account whose mailboxes were there before: initialised by snapshots."""
        imap = self.imap(mails)
        self.origin, self.apply = self.worker(self.source, originate=True), self.worker(self.target)
        self.assertEqual(self.origin.set_role(self.user, "source")["verdict"], "applied")
        self.assertEqual(self.apply.set_role(self.user, "destination")["verdict"], "applied")
        return imap

    def initialise(self):
        self.snapshot_list()
        for state in self.unmarked():
            self.snapshot_mailbox(state["object"])

    def snapshot_list(self, prefix=""):
        reply = self.origin.snapshot_list(self.user, prefix)
        self.assertEqual(reply["verdict"], "applied", reply)
        self.follow()
        return reply["number"]

    def unmarked(self):
        facts = self.apply.inspect(self.user)["facts"]
        return [state for state in facts["objects"] if state["mark"][0] == (0, 0) and state["object"][1] != NO_GUID]

    def take_snapshot(self, object_):
        snapshot, bulk = os.urandom(16), []
        reply = self.origin.snapshot_mailbox(self.user, object_, snapshot, bulk.append)
        self.assertEqual(reply["verdict"], "applied", reply)
        return snapshot, reply["number"], bulk

    def snapshot_mailbox(self, object_):
        snapshot, number, bulk = self.take_snapshot(object_)
        self.assertIn("wanted", self.follow())
        for record in bulk:
            self.assertEqual(self.apply.collect(self.user, record)["verdict"], "applied")
        reply = self.apply.build(self.user, object_, snapshot, number)
        self.assertEqual(reply["verdict"], "applied", reply)
        return number

    def follow(self, batch=64):
        """Applies what is new in the log; the verdicts."""
        verdicts = []
        records = self.log.of(self.user, self.applied)
        while records:
            reply = self.apply.apply(self.user, records[:batch])
            self.assertEqual(reply["verdict"], "applied", reply)
            self.assertEqual(len(reply["changes"]), len(records[:batch]))
            verdicts += reply["changes"]
            self.applied = records[:batch][-1]["number"]
            records = records[batch:]
        return verdicts

    def assert_equal_stores(self):
        self.assertEqual(self.source.state(self.user), self.target.state(self.user))


def randomly(imap, rng, steps):
    """Random changes by one session."""
    boxes = ["INBOX"]
    imap.select("INBOX")
    for step in range(steps):
        uids = imap.search("ALL")
        choice = rng.random()
        some = ",".join(str(u) for u in rng.sample(uids, min(len(uids), rng.randint(1, 4)))) if uids else None
        if choice < 0.3 or not uids:
            imap.append(rng.choice(boxes), MAIL % (step, step), rng.choice(["", "\\Seen", "kw%d" % (step % 3)]))
            imap.expect("NOOP")
        elif choice < 0.6:
            flag = rng.choice(["\\Seen", "\\Flagged", "kw1", "kw2"])
            imap.expect("UID STORE", f"{some} {rng.choice('+-')}FLAGS ({flag})")
        elif choice < 0.7:
            imap.expect("UID COPY", f"{some} {rng.choice(boxes)}")
            imap.expect("NOOP")
        elif choice < 0.78:
            imap.expect("UID STORE", f"{some} +FLAGS (\\Deleted)")
            imap.expect("EXPUNGE")
        elif choice < 0.84:
            imap.expect("UID MOVE", f"{some} {rng.choice(boxes)}")
        elif choice < 0.9:
            boxes.append(f"box{step}")
            imap.expect(f"CREATE box{step}")
        elif choice < 0.94 and len(boxes) > 1:
            old = boxes.pop()
            boxes.append(f"new{step}")
            imap.expect(f"RENAME {old} new{step}")
        elif choice < 0.97:
            imap.expect("SETMETADATA INBOX", f'(/private/comment "{step}")')
        else:
            imap.expect(f"SUBSCRIBE {rng.choice(boxes)}")
