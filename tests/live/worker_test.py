#!/usr/bin/env python3
"""The worker replica-apply between two real Dovecots: what the source's log says is applied on the destination, snapshots are
built, workers are killed in the middle of it. The agent between them is played by the test.

Needs root; REPLICA_BUILD_DIR names the build directory, REPLICA_KEEP=1 keeps the folders with log and mail.
"""

import contextlib
import email
import email.policy
import os
import pathlib
import queue
import random
import re
import shutil
import signal
import socket
import sys
import threading
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from live import fake_agent, plugin_host  # noqa: E402
from live import worker_client as wire  # noqa: E402
from live.fake_agent import NO_GUID  # noqa: E402
from live.plugin_host import MAIL, Host  # noqa: E402
from support.waiting import wait_until  # noqa: E402

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


class Facts(WorkerTest):
    def test_an_account_is_described_without_being_changed(self):
        self.imap(mails=3)
        facts = self.worker(self.source).inspect(self.user)["facts"]
        self.assertTrue(facts["exists"])
        self.assertEqual((facts["user"], facts["uid"], facts["unfit"]), (self.user, str(self.source.uid), ""))
        self.assertEqual(facts["mail_root"], str(self.source.folder / "mail" / self.user / "mail"))
        self.assertEqual(facts["device"], os.stat(facts["mail_root"]).st_dev)
        self.assertIn("layout=index", facts["settings"].splitlines())
        self.assertEqual([s["object"] for s in facts["objects"][:2]], [("", NO_GUID), ("Archive/", NO_GUID)])
        inbox, = [s for s in facts["objects"] if s["name"] == ["INBOX"]]
        self.assertEqual((inbox["mails"], inbox["mark"]), (3, ((0, 0), False)))

    def test_inspecting_a_fresh_account_makes_no_mailbox(self):
        facts = self.worker(self.target).inspect(self.user)["facts"]
        self.assertEqual([s for s in facts["objects"] if s["object"][1] != NO_GUID], [])

    def test_the_role_is_written_with_this_boot_and_removed_again(self):
        worker = self.worker(self.target)
        reply = worker.set_role(self.user, "destination", 7)
        self.assertEqual(reply["verdict"], "applied", reply)
        state = pathlib.Path(reply["facts"]["mail_root"]) / ".replica" / "state"
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text()
        self.assertEqual(state.read_text(), f"1 destination 7 {boot}")
        self.assertEqual((state.parent.stat().st_mode & 0o777, state.stat().st_uid), (0o700, self.target.uid))
        worker.set_role(self.user, "none")
        self.assertFalse(state.exists())

    def test_without_a_role_nothing_is_applied(self):
        reply = self.worker(self.target).apply(self.user, [wire.create((1, 1), (0, 0), os.urandom(16), ["a"])])
        self.assertEqual((reply["verdict"], reply["changes"]), ("failed", []))

    def test_a_blob_is_written_and_read_by_name(self):
        worker = self.worker(self.source)
        self.assertEqual(worker.probe(self.user, "probe-1", b"content")["verdict"], "applied")
        self.assertEqual(worker.probe(self.user, "probe-1")["content"], b"content")
        self.assertEqual(worker.probe(self.user, "absent")["verdict"], "failed")

    def test_a_flush_covers_what_is_there_and_what_is_gone(self):
        worker = self.worker(self.target)
        self.assertEqual(worker.flush([str(self.target.folder / "mail"), "/nonexistent/deep/root"])["verdict"], "applied")
        self.assertEqual(worker.flush(["relative"])["verdict"], "failed")


class Changes(WorkerTest):
    def test_every_kind_of_change_makes_both_stores_equal(self):
        imap = self.begin(mails=3)
        self.initialise()
        self.assert_equal_stores()
        imap.expect("CREATE box/below")
        imap.expect("SUBSCRIBE box/below")
        imap.select("INBOX")
        for command in ("STORE 1 +FLAGS (\\Seen)", "STORE 2 +FLAGS (kw $Forwarded)", "COPY 1:2 box/below",
                        "STORE 3 +FLAGS (\\Deleted)", "EXPUNGE", "MOVE 1 box/below",
                        'SETMETADATA INBOX (/private/comment "c")'):
            imap.expect(*command.split(" ", 1))
            self.follow()
            self.assert_equal_stores()
        imap.expect("RENAME box other")
        imap.expect("CREATE Archive/2024")
        imap.expect("UNSUBSCRIBE box/below")
        self.assertNotIn("wanted", self.follow())
        self.assert_equal_stores()
        imap.expect("DELETE other/below")
        self.follow()
        self.assert_equal_stores()

    def test_any_suffix_of_the_log_may_be_applied_again(self):
        imap = self.begin(mails=2)
        self.initialise()
        randomly(imap, random.Random(1), 60)
        self.follow()
        before = self.target.state(self.user)
        self.assertEqual(before, self.source.state(self.user))
        records = self.log.of(self.user)
        for start in random.Random(2).sample(range(len(records)), 10):
            reply = self.apply.apply(self.user, records[start:])
            self.assertEqual(set(reply["changes"]), {"skipped"})
        self.assertEqual(self.target.state(self.user), before)

    def test_a_gap_makes_the_object_wanted_and_a_snapshot_heals_it(self):
        imap = self.begin(mails=2)
        self.initialise()
        imap.select("INBOX")
        imap.expect("STORE 1 +FLAGS (\\Seen)")
        self.applied = self.log.of(self.user)[-1]["number"]  # lost
        imap.expect("STORE 2 +FLAGS (\\Seen)")
        self.assertEqual(self.follow(), ["wanted"])
        inbox = self.log.of(self.user)[-1]["object"]
        self.snapshot_mailbox(inbox)
        self.assert_equal_stores()

    def test_a_mailbox_that_is_not_there_is_skipped_or_its_list_is_wanted(self):
        imap = self.begin(mails=1)
        self.initialise()
        imap.expect("CREATE gone")
        imap.append("gone", MAIL % (1, 1))
        imap.expect("DELETE gone")
        self.follow()
        records = self.log.of(self.user)
        append = next(r for r in reversed(records) if r["kind"] == "mailbox")
        self.assertEqual(self.apply.apply(self.user, [append])["changes"], ["skipped"])
        later = {**append, "number": (1, 10 ** 6), "object": ("", os.urandom(16))}
        self.assertEqual(self.apply.apply(self.user, [later])["changes"], ["list_wanted"])

    def test_the_driver_never_reads_a_body_and_needs_no_right_to_the_blobs(self):
        blobs = self.target.folder / "mail" / self.user / "blobs"
        blobs.mkdir()
        blobs.chmod(0)
        imap = self.begin(mails=3)
        self.initialise()
        imap.append("INBOX", MAIL % (9, 9))
        imap.expect("CREATE box")
        imap.select("INBOX")
        imap.expect("COPY 1:2 box")
        self.follow()
        self.assert_equal_stores()
        self.assertEqual(list(blobs.iterdir()), [])

    def test_the_source_rolls_forward_what_it_did_not_commit(self):
        imap = self.begin(mails=1)
        self.initialise()
        self.log.obey(on_change=lambda connection, frame: (self.log.number(connection, frame, answer=False),
                                                           connection.close()))
        self.assertFalse(imap.append("INBOX", MAIL % (5, 5)).ok)
        self.log.obey()
        self.assertEqual(self.follow(), ["applied"])
        roll = self.worker(self.source)
        self.assertEqual(roll.apply(self.user, self.log.of(self.user)[-1:])["changes"], ["applied"])
        self.assert_equal_stores()
        wait_until(lambda: imap.append("INBOX", MAIL % (6, 6)).ok, 60, "an append after the roll-forward")
        self.follow()
        self.assert_equal_stores()
        self.source.new_log()  # has the refusal


class Lists(WorkerTest):
    """List changes by hand, on the destination alone."""

    def setUp(self):
        super().setUp()
        self.apply = self.worker(self.target)
        self.apply.set_role(self.user, "destination")
        self.last = (0, 0)
        self.guids = [bytes([i]) * 16 for i in range(1, 10)]

    def do(self, make, *arguments, verdict="applied"):
        number = (1, self.last[1] + 1)
        reply = self.apply.apply(self.user, [make(number, self.last, *arguments)])
        self.assertEqual(reply["changes"], [verdict], reply)
        if verdict == "applied":
            self.last = number

    def merge(self, *mailboxes, subscriptions=()):
        self.do(wire.list_snapshot, [(guid, path.split("/"), 7) for guid, path in mailboxes],
                [path.split("/") for path in subscriptions])
        names = {s["object"][1]: "/".join(s["name"]) for s in self.apply.inspect(self.user)["facts"]["objects"]
                 if s["object"] != ("", NO_GUID) and s["object"] != ("Archive/", NO_GUID)}
        self.assertEqual(names, dict(mailboxes))
        listed = self.target.doveadm("mailbox", "list", "-u", self.user).stdout
        self.assertNotIn("replica-aside", listed)
        subscribed = self.target.doveadm("mailbox", "list", "-s", "-u", self.user).stdout.split()
        self.assertEqual(set(subscribed) - {"Auto"}, set(subscriptions))

    def test_create_rename_delete_by_guid(self):
        a, b = self.guids[:2]
        self.do(wire.create, a, ["A"])
        self.do(wire.create, b, ["A", "b"])
        self.do(wire.rename, a, ["A"], ["B"])
        self.do(wire.create, NO_GUID, ["dir"])
        self.do(wire.rename, NO_GUID, ["dir"], ["dir2"])
        self.do(wire.subscription, ["B", "b"], True)
        listed = self.target.doveadm("mailbox", "list", "-u", self.user).stdout.split()
        self.assertEqual(set(listed) - {"Auto", "INBOX", "Archive"}, {"B", "B/b", "dir2"})
        self.do(wire.delete, NO_GUID, ["dir2"])
        self.do(wire.delete, b, ["B", "b"])
        self.do(wire.delete, self.guids[5], ["never"])
        self.do(wire.rename, self.guids[5], ["never"], ["ever"], verdict="wanted")

    def test_a_new_mailbox_has_the_number_of_its_creation(self):
        self.do(wire.create, self.guids[0], ["A"])
        state, = [s for s in self.apply.inspect(self.user)["facts"]["objects"] if s["name"] == ["A"]]
        self.assertEqual(state["mark"], ((1, 1), False))

    def test_a_merge_renames_in_circles(self):
        a, b, c, d = self.guids[:4]
        self.merge((a, "A"), (b, "B"), (c, "A/c"), subscriptions=["A", "A/c"])
        self.merge((a, "B"), (b, "A"), (c, "A/c"), subscriptions=["B"])
        self.merge((a, "A/c"), (b, "B"), (c, "A"))
        self.merge((a, "x/y"), (d, "x"), (c, "x/y/z"))
        self.merge((c, "x"))
        self.merge()

    def test_a_merge_gives_an_empty_inbox_the_sources_guid(self):
        self.target.imap(self.user).logout()  # makes the INBOX and Auto
        self.merge((self.guids[0], "INBOX"), (self.guids[1], "Auto"))

    def test_a_merge_exchanges_an_inbox_that_the_source_made_anew(self):
        self.merge((self.guids[0], "INBOX"), (self.guids[1], "old"))
        self.merge((self.guids[2], "INBOX"), (self.guids[0], "old"))

    def test_mails_that_the_log_does_not_know_are_kept(self):
        imap = self.target.imap(self.user)
        self.assertEqual(self.apply.set_role(self.user, "none")["verdict"], "applied")
        imap.append("INBOX", MAIL % (1, 1))
        imap.logout()
        self.apply.set_role(self.user, "destination")
        self.do(wire.list_snapshot, [(self.guids[0], ["INBOX"], 7)], [], verdict="diverged")

    def test_a_name_that_is_taken_by_mails_is_diverged(self):
        self.do(wire.create, self.guids[0], ["A"])
        self.do(wire.create, self.guids[1], ["A"], verdict="diverged")

    def test_a_gap_in_the_list_makes_it_wanted(self):
        self.do(wire.create, self.guids[0], ["A"])
        reply = self.apply.apply(self.user, [wire.create((1, 9), (1, 8), self.guids[1], ["B"])])
        self.assertEqual(reply["changes"], ["wanted"])


class Snapshots(WorkerTest):
    def test_changes_that_come_during_a_snapshot_are_applied_after_it(self):
        imap = self.begin(mails=20)
        self.snapshot_list()
        inbox, = [s["object"] for s in self.unmarked() if s["name"] == ["INBOX"]]
        snapshot, number, bulk = self.take_snapshot(inbox)
        self.assertIn("wanted", self.follow())
        imap.select("INBOX")
        imap.expect("STORE 1:5 +FLAGS (\\Deleted)")
        imap.expect("EXPUNGE")
        self.assertTrue(imap.append("INBOX", MAIL % (77, 77)).ok)
        self.assertEqual(set(self.follow()), {"applied"})
        for record in bulk:
            self.assertEqual(self.apply.collect(self.user, record)["verdict"], "applied")
            self.assertEqual(self.apply.collect(self.user, record)["verdict"], "skipped")
        self.assertEqual(self.apply.build(self.user, inbox, snapshot, number)["verdict"], "applied")
        self.assertEqual(self.apply.build(self.user, inbox, snapshot, number)["verdict"], "skipped")
        for state in self.unmarked():
            self.snapshot_mailbox(state["object"])
        self.assert_equal_stores()
        root = self.target.folder / "mail" / self.user / "mail" / ".replica"
        self.assertEqual([p.name for p in root.iterdir()], ["state"])

    def test_an_unknown_or_broken_snapshot_is_wanted(self):
        self.begin(mails=3)
        self.snapshot_list()
        inbox, = [s["object"] for s in self.unmarked() if s["name"] == ["INBOX"]]
        snapshot, number, bulk = self.take_snapshot(inbox)
        self.assertEqual(self.apply.collect(self.user, bulk[0])["verdict"], "wanted")
        self.follow()
        self.assertEqual(self.apply.build(self.user, inbox, os.urandom(16), number)["verdict"], "wanted")
        self.assertEqual(self.apply.build(self.user, inbox, snapshot, number)["verdict"], "wanted")  # without bulk
        self.assertEqual(self.apply.collect(self.user, bulk[0])["verdict"], "wanted")

    def test_what_was_committed_past_the_log_is_cleared_by_a_snapshot(self):
        imap = self.begin(mails=1)
        self.initialise()
        self.origin.set_role(self.user, "none")
        imap.append("INBOX", MAIL % (3, 3))
        note = self.source.folder / "mail" / self.user / "mail" / ".replica" / "unlogged"
        self.assertTrue(note.exists())
        self.origin.set_role(self.user, "source")
        unlogged = [s for s in self.origin.inspect(self.user)["facts"]["objects"] if s["mark"][1]]
        self.assertEqual([s["name"] for s in unlogged], [["INBOX"]])
        _, _, bulk = self.take_snapshot(unlogged[0]["object"])
        self.assertFalse(note.exists())
        self.assertFalse([s for s in self.origin.inspect(self.user)["facts"]["objects"] if s["mark"][1]])


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


class Killed(WorkerTest):
    """The worker dies at any instant; the agent asks again."""

    def setUp(self):
        super().setUp()
        self.kills = 0

    def insist(self, ask):
        """Until it is answered, over as many workers as that takes."""
        while True:
            try:
                return ask(self.apply)
            except wire.Lost:
                self.kills += 1
                self.apply = self.reconnect()

    def reconnect(self):
        self.apply.close()
        while True:
            with contextlib.suppress(wire.Lost):
                return self.worker(self.target)

    def killing(self, done, longest):
        rng = random.Random(1)
        while not done.wait(rng.uniform(0.001, longest)):
            longest *= 1.01  # on a machine so busy that no request gets through, one does in the end
            for pid in self.target.processes("replica-apply"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def under_fire(self, work, longest):
        """`longest`: how long the worker is let alone; more than the longest single request, or it is never done."""
        done = threading.Event()
        killer = threading.Thread(target=self.killing, args=(done, longest))
        killer.start()
        try:
            work()
        finally:
            done.set()
            killer.join()
        self.target.new_log()  # full of what was killed

    def rounds(self, least):
        """So many, and more until some requests were answered by another worker than they were sent to."""
        done = 0
        while done < least or self.kills <= 3:
            done += 1
            yield done

    def test_in_the_middle_of_changes(self):
        imap = self.begin(mails=3)
        self.initialise()
        randomly(imap, random.Random(3), 150)
        records = self.log.of(self.user, self.applied)

        def work():
            for _ in self.rounds(4):
                for i in range(0, len(records), 8):
                    reply = self.insist(lambda worker, i=i: worker.apply(self.user, records[i:i + 8]))
                    self.assertLessEqual(set(reply["changes"]), {"applied", "skipped"}, reply)
        self.under_fire(work, longest=0.03)
        self.assert_equal_stores()

    def test_in_the_middle_of_collecting_and_building(self):
        imap = self.begin(mails=1)
        for i in range(39):
            imap.append("INBOX", MAIL % (i, i))
        imap.select("INBOX")
        for _ in range(5):
            imap.expect("COPY 1:* INBOX")
            imap.expect("NOOP")
        self.snapshot_list()
        objects = [s["object"] for s in self.unmarked()]
        self.assertTrue(objects)

        def snapshot(object_):
            before = self.log.of(self.user)[-1]["number"]
            snapshot, number, bulk = self.take_snapshot(object_)
            opening = self.log.of(self.user, before)
            self.insist(lambda worker: worker.apply(self.user, opening))
            imap.expect("STORE 1:10 +FLAGS (\\Answered)")
            imap.expect("STORE 1:10 -FLAGS (\\Answered)")
            live = self.log.of(self.user, number)
            for record in bulk:
                reply = self.insist(lambda worker: worker.collect(self.user, record))
                self.assertIn(reply["verdict"], ("applied", "skipped"))
            reply = self.insist(lambda worker: worker.apply(self.user, live))
            self.assertIn(reply["verdict"], ("applied",), reply)
            reply = self.insist(lambda worker: worker.build(self.user, object_, snapshot, number))
            self.assertIn(reply["verdict"], ("applied", "skipped"), reply)

        def work():
            for _ in self.rounds(12):
                for object_ in objects:
                    snapshot(object_)
                    self.applied = self.log.of(self.user)[-1]["number"]
                imap.expect("STORE 11 +FLAGS (\\Flagged)")  # lost: wanted again
                imap.expect("STORE 11 -FLAGS (\\Flagged)")
                lost = self.log.of(self.user, self.applied)[1:]
                reply = self.insist(lambda worker: worker.apply(self.user, lost))
                self.assertEqual(set(reply["changes"]), {"wanted"})
            for object_ in objects:
                snapshot(object_)
        self.under_fire(work, longest=0.3)
        self.assert_equal_stores()


class Others(WorkerTest):
    def test_sessions_of_the_account_are_ended_and_no_others(self):
        mine, other = self.imap(mails=1), self.source.imap("other@example.com")
        mine.select("INBOX")
        reply = self.worker(self.source).kick(self.user)
        self.assertEqual(reply["verdict"], "applied", reply)
        with self.assertRaises((OSError, EOFError, RuntimeError, ValueError)):
            for _ in range(100):
                mine.expect("NOOP")
        other.expect("NOOP")
        other.logout()

    def test_one_account_that_cannot_be_opened_is_an_answer(self):
        worker = self.worker(self.target)
        worker.set_role(self.user, "destination")
        root = self.target.folder / "mail" / self.user / "mail"
        shutil.rmtree(root)
        root.write_text("not a directory")
        self.assertIn(worker.inspect(self.user)["verdict"], ("failed", "retry"))
        self.target.add_user("healthy@example.com")
        self.assertEqual(worker.set_role("healthy@example.com", "destination")["verdict"], "applied")
        self.target.new_log()

    def test_a_mail_goes_through_the_submission_host(self):
        reply = self.worker(self.target).notify("admin@example.com", "Replica complete: ü", "first line\nsecond line")
        self.assertEqual(reply["verdict"], "applied", reply)
        sender, recipients, message = self.target.mails.get(timeout=60)
        self.assertEqual((sender, recipients), ("<>", ["<admin@example.com>"]))
        mail = email.message_from_string(message, policy=email.policy.default)
        self.assertEqual((mail["Subject"], mail["To"], mail["Auto-Submitted"]),
                         ("Replica complete: ü", "admin@example.com", "auto-generated"))
        self.assertEqual(mail.get_content().splitlines(), ["first line", "second line"])

    def test_a_mail_goes_nowhere_without_a_way_and_says_so(self):
        reply = self.worker(self.source).notify("admin@example.com", "subject", "text")
        self.assertEqual(reply["verdict"], "failed")
        self.assertIn("sendmail_path", reply["text"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
