"""What the fault tests share: clients that outlive what is done to their store, the processes of a store by program, and a test
whose journal is the judge.

After an operation without an acknowledgement its mail is in doubt: such a client never touches that mail again, so that the journal
can tell at the end what may and what must be there.
"""

import collections
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

from . import corpus, load, processes, replica
from .clients import Refused
from .journal import Journal, Verdict, judge, observe
from .live import SiteTest
from .waiting import wait_until


def preloaded(folder, library, variable, value):
    """Settings with which every process of a site loads the library, which stands in the folder for whoever they run as."""
    shutil.copy(pathlib.Path(os.environ["REPLICA_BUILD_DIR"]) / "tests" / "support" / library, folder)
    (folder / library).chmod(0o755)
    return f"import_environment = $import_environment LD_PRELOAD={folder / library} {variable}={value}\n"


def program(pid):
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe")).removesuffix(" (deleted)")
    except OSError:
        return ""


def processes_of(store, *programs):
    return {pid for pid in store.processes() if program(pid) in programs}


def agent_of(store):
    return next(iter(processes_of(store, "agentd")), None)


def send_signal(pids, number=signal.SIGKILL):
    """How many of them were still there."""
    hit = 0
    for pid in pids:
        try:
            os.kill(pid, number)
            hit += 1
        except ProcessLookupError:
            pass
    return hit


def start_in_namespace(store, script="true"):
    """Starts a store in a mount namespace of its own, behind the script's mounts."""
    master = store.folder / "run" / "master.pid"
    master.unlink(missing_ok=True)
    with open(store.folder / "start.out", "w", encoding="utf-8") as said:
        subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", f"{script} && exec /usr/sbin/dovecot -c {store.config}"],
                       check=True, stdin=subprocess.DEVNULL, stdout=said, stderr=said, timeout=30)
    store.pid = int(wait_until(lambda: master.read_text().strip(), 10, f"{store.name}: {master}"))
    store.started = processes.start_time(store.pid)


def in_namespace(store, *command):
    subprocess.run(["nsenter", "--target", str(store.pid), "--mount", *map(str, command)], check=True)


class Persistent:
    """Mixed into a load.Worker: connects again whenever the connection breaks, until told to stop."""

    def run(self):
        try:
            while not self.stopping.is_set():
                try:
                    self.open()
                    while not self.stopping.is_set():
                        self.work()
                        self.done += 1
                    self.connection.close()
                except (OSError, Refused) as error:  # a login that is refused, a greeting that never comes
                    self.lost = error
                    self.stopping.wait(0.05)
        except Exception as error:  # noqa: BLE001
            self.failure = error


class Deliverer(Persistent, load.Deliverer):
    """pace: seconds from the begin of one delivery to that of the next, on average: what was held up is made up for."""

    pace = 0
    due = None

    def work(self):
        self.due = (self.due or time.monotonic()) + self.pace
        super().work()
        if self.pace:
            self.stopping.wait(max(0, self.due - time.monotonic()))


class Reader(Persistent, load.Reader):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.doubtful = set()
        self.looked_at = 0

    def open(self):
        self.doubt_what_was_lost()
        super().open()

    def doubt_what_was_lost(self):
        with self.journal.lock:
            new = self.journal.operations[self.looked_at:]
            self.looked_at = len(self.journal.operations)
        self.doubtful |= {operation.facts.get("id") for operation in new
                          if operation.account is self.account and operation.outcome in ("lost", "refused")}

    def known(self):
        self.doubt_what_was_lost()
        with self.account.lock:
            keys = [key for key, mail in self.account.mails.items()
                    if mail.uid is not None and not mail.optional and key[1] not in self.doubtful]
        if not keys:
            return None
        mailbox, identity = self.random.choice(keys)
        if self.connection.selected != mailbox:
            selected = self.connection.select(mailbox)
            if self.connection.selected != mailbox:
                return None
            self.note_validity(mailbox, selected)
        return mailbox, identity, self.account.mails[mailbox, identity]

    def expunge(self):
        if found := self.known():
            mailbox, identity, mail = found
            flags = sorted({*mail.flags[0], "\\Deleted"})
            operation = self.journal.begin("flags", self.user, mailbox=mailbox, id=identity, flags=flags)
            self.answer(operation, "UID STORE", str(mail.uid), f"FLAGS.SILENT ({' '.join(flags)})")
            if operation.outcome == "acknowledged":
                operation = self.journal.begin("expunge", self.user, mailbox=mailbox, id=identity)
                self.answer(operation, "UID EXPUNGE", str(mail.uid))


class LoadTest(SiteTest):
    """self.journal over all accounts of the site; every account replicated from store1 to store2 (unless told otherwise)."""

    replicated = True

    def setUp(self):
        super().setUp()
        self.one, self.two = self.site.stores[:2]
        self.journal = Journal(self.folder / "journal", self.users)
        self.mails = [content for _, content in corpus.hostile_mails(20_000)]
        self.workers = []
        self.addCleanup(self.end_workers)
        if self.replicated:
            replica.replicate(self.one, self.two, self.users)

    def start(self, store, deliverers=4, readers=True, seed=1, pace=0):
        workers = [Deliverer(self.journal, store, self.mails, self.users, seed + 100 + number) for number in range(deliverers)]
        for worker in workers:
            worker.pace = pace
        if readers:
            workers += [Reader(self.journal, store, self.mails, user, corpus.MAILBOX_NAMES, seed + number)
                        for number, user in enumerate(self.users)]
        for worker in workers:
            worker.start()
        self.workers += workers

    def work(self, operations, timeout=60):
        """Until so many more operations were acknowledged."""
        goal = self.journal.count("acknowledged") + operations

        def reached():
            for worker in self.workers:
                if worker.failure:
                    raise worker.failure
            return self.journal.count("acknowledged") >= goal

        wait_until(reached, timeout, f"{operations} more operations", 0.02)

    def end_workers(self):
        for worker in self.workers:
            worker.stopping.set()
        for worker in self.workers:
            worker.join(60)
        ended, self.workers = self.workers, []
        return ended

    def stop(self):
        for worker in self.end_workers():
            self.assertFalse(worker.is_alive(), worker.name)
            if worker.failure:
                raise worker.failure

    def assert_journal_holds(self, store):
        """Nothing that was acknowledged is missing, nothing is there twice, no UID was given twice."""
        self.journal.close_doubts()
        verdict = Verdict()
        for user in self.users:
            observed = observe(store, user)
            for _, mails in observed.values():
                mails.pop(None, None)  # a test's own, that no client sent
            judge(self.journal.accounts[user], observed, verdict)
        self.assertEqual([], verdict.sentences[:20])
        self.assertGreater(verdict.counts["present"], 0)
        self.assertEqual([], self.uids_given_twice())

    def uids_given_twice(self):
        given, intents = collections.defaultdict(set), {}
        for line in open(self.journal.file.name, encoding="utf-8"):
            fact = json.loads(line)
            if fact["phase"] == "intent":
                intents[fact["n"]] = fact
            elif fact.get("uid"):
                intent = intents[fact["n"]]
                given[fact["user"], intent.get("to") or intent["mailbox"], fact["uid"]].add(intent["id"])
        return [f"{place}: mails {sorted(ids)}" for place, ids in given.items() if len(ids) > 1]
