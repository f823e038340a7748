"""The demo's acts, on machines and mail that are real: two mailstores, Kafka, accounts with thousands of mails, a source that dies in
mid-load while its replica lags by a second, a promotion, and the clients' journal as the judge. demo.sh is its door."""

import argparse
import pathlib
import random
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from support import corpus, load, replica  # noqa: E402
from support.compare import compare_stores  # noqa: E402
from support.journal import Journal, Verdict, judge, observe  # noqa: E402
from support.mailsite import Site, scratch_folder  # noqa: E402
from support.screen import Screen  # noqa: E402
from support.waiting import wait_until  # noqa: E402

STEPS, FIRST_STEP = 10, 3
DELIVERERS, SESSIONS = 20, 20
UNDER_WAY_MIN = 8
LOAD_SECONDS = 6.0  # how long the load runs before the destination is frozen


class Failed(Exception):
    """The demo did not show what it promises; one sentence."""


class Demo:
    def __init__(self, options):
        self.options = options
        self.screen = Screen(STEPS, FIRST_STEP)
        self.random = random.Random(options.seed)
        self.folder = pathlib.Path(options.dir) if options.dir else scratch_folder("replica-demo-")
        self.site = None
        self.workers = []
        self.figures = []
        self.killed = None

    def run(self):
        self.make_site()
        self.fill()
        self.replicate()
        self.work_on()
        self.kill_in_mid_load()
        self.promote()
        self.compare()
        self.return_of_the_source()
        return self.show()

    # --- the acts ---

    def make_site(self):
        bodies = "s3" if self.options.s3 else "posix"
        self.screen.step("Two mailstores and a Kafka broker" + (", bodies on S3" if self.options.s3 else ""))
        self.site = Site.up(self.folder / "site", stores=2, brokers=1, accounts=self.options.accounts, bodies=bodies)
        self.source, self.destination = self.site.stores
        self.users = self.site.users()
        self.journal = Journal(self.folder / "journal.jsonl", self.users)
        for store, role in ((self.source, "source"), (self.destination, "destination-to-be")):
            self.screen.note(f"{store.name}  imap {store.endpoint('imap')}  lmtp {store.endpoint('lmtp')}  ({role})")
        self.screen.note(f"broker             {self.site.brokers[0].address}")
        if self.site.s3:
            self.screen.note(f"S3 server          {self.site.s3.url}")
        self.screen.good(f"all answer; {len(self.users)} accounts, {self.users[0]} to {self.users[-1]}")

    def fill(self):
        self.screen.step("Real mail, before there is any replica")
        self.real = [content for _, content in corpus.real_mails()]
        hostile = corpus.hostile_mails()
        self.random.shuffle(self.real)
        half = len(self.real) // 2
        self.screen.note(f"{len(self.real)} real messages from Debian packages, {len(hostile)} large or malformed ones made here")
        self.deliver(self.real[:half])
        self.append([content for _, content in hostile], "INBOX")
        self.screen.good(f"{half} delivered over LMTP, {len(hostile)} hostile ones appended over IMAP")

    def replicate(self):
        self.screen.step("setAccountDestination, while users would go on")
        names = ",".join(self.users)
        self.say(self.source, "replica", "setAccountDestination", self.destination.name, "10", "accounts", names)
        wait_until(lambda: self.complete(self.source, self.destination), 300, "every account is complete at the destination", 0.2)
        self.status()
        self.screen.good("every account's existing mail is at the destination")

    def work_on(self):
        self.screen.step("More mail, flags and folders; each is in the log before the client's OK")
        rest = self.real[len(self.real) // 2:]
        third = len(rest) // 3
        self.folders()
        self.deliver(rest[third:])
        self.append(rest[:third], None)
        self.touch()
        self.status()
        self.screen.good(f"{self.journal.count('acknowledged')} operations acknowledged so far, {self.journal.count('refused')} refused")

    def kill_in_mid_load(self):
        self.screen.step("Load; the destination freezes; a second later the source dies")
        small = [content for content in self.real if len(content) < 20_000]
        self.workers = [load.Deliverer(self.journal, self.source, small, self.users, seed) for seed in range(DELIVERERS)]
        self.workers += [load.Reader(self.journal, self.source, small, user, corpus.MAILBOX_NAMES, seed)
                         for seed, user in enumerate(self.users[:SESSIONS])]
        for worker in self.workers:
            worker.start()
        before = self.journal.count("acknowledged")
        self.watch_load(LOAD_SECONDS)
        rate = (self.journal.count("acknowledged") - before) / LOAD_SECONDS
        self.screen.note(f"{len(self.workers)} clients at work, {rate:.0f} operations/s acknowledged")
        frozen = time.monotonic()
        self.site.freeze(self.destination.name)
        at_freeze = self.journal.count("acknowledged")
        self.screen.note(f"{self.destination.name}: every process stopped (SIGSTOP)")
        self.watch_load(1.0)
        self.killed = self.site.kill(self.source.name)
        for worker in self.workers:
            worker.join(30)
        broken = [worker for worker in self.workers if worker.failure or worker.is_alive()]
        if broken:
            raise Failed(f"client {broken[0].name} failed: {broken[0].failure!r}")
        self.under_way = self.journal.under_way_at(self.killed)
        self.unseen = self.journal.count("acknowledged") - at_freeze
        self.screen.note(f"{self.source.name}: SIGKILL to every process at once")
        self.figures += [("operations under way at the kill (at least 8)", len(self.under_way), len(self.under_way) >= UNDER_WAY_MIN),
                         ("acknowledged while the destination was frozen", self.unseen, self.unseen > 0),
                         ("destination frozen before the kill", f"{self.killed - frozen:.2f} s", self.killed - frozen >= 1)]
        self.site.thaw(self.destination.name)
        kinds = {}
        for operation in self.under_way:
            kinds[operation.kind] = kinds.get(operation.kind, 0) + 1
        self.screen.good(f"{len(self.under_way)} operations were under way: " + ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items())))

    def promote(self):
        self.screen.step("promoteAccounts at the destination")
        self.say(self.destination, "replica", "promoteAccounts", "source_mail_host", self.source.name)
        wait_until(lambda: replica.active(self.destination, self.users), 120, "every account is active at the new source", 0.1)
        self.downtime = time.monotonic() - self.killed
        self.status()
        self.screen.good(f"{self.destination.name} is the source of all {len(self.users)} accounts")

    def compare(self):
        self.screen.step("What was acknowledged, against what the new source shows")
        self.journal.close_doubts()
        self.verdict = Verdict()
        for done, user in enumerate(self.users, 1):
            judge(self.journal.accounts[user], observe(self.destination, user), self.verdict)
            self.screen.progress(done, len(self.users), "accounts read")
        self.probe()
        if self.verdict.good:
            self.screen.good(f"{self.verdict.counts['present']} mails: all there, each once, with UID, flags and SHA-256")
        for sentence in self.verdict.sentences[:20]:
            self.screen.bad(sentence)

    def probe(self):
        """The new source takes mail."""
        answer = self.destination.lmtp().deliver([self.users[0]], b"Subject: after the promotion\r\n\r\nhello\r\n")
        self.accepts = answer.get(self.users[0], "").startswith("250")

    def return_of_the_source(self):
        self.screen.step("The dead source comes back, as a destination")
        self.site.start(self.source.name)
        wait_until(lambda: self.complete(self.destination, self.source), 120, f"{self.source.name} is complete as a destination", 0.2)
        found = self.last_differences()
        self.figures.append(("differences between the two stores, at the end", len(found), not found))
        for sentence in found[:10]:
            self.screen.bad(sentence)
        self.status()
        if not found:
            self.screen.good("both stores are equal: names, GUIDs, UIDs, flags, MODSEQs, dates, bodies, POP3 UIDLs")

    def last_differences(self):
        """What still differs when the old source had time to follow."""
        found = []

        def equal():
            found[:] = compare_stores(self.site, self.users)
            return not found

        try:
            wait_until(equal, 60, "both stores are equal", 0.2)
        except AssertionError:
            pass
        return found

    # --- helpers ---

    def complete(self, source, destination):
        rows = replica.status(source)
        done = sum(int(row["mails_done"] or 0) for row in rows)
        total = sum(int(row["mails_total"] or 0) for row in rows)
        whole = sum(row["phase"] == "complete" for row in rows)
        self.screen.progress(min(done, total), total + 1, f"mails in snapshots, {whole}/{len(self.users)} accounts complete")
        return replica.complete(source, destination, self.users)

    def say(self, store, *command):
        shown = " ".join(word if len(word) < 50 else word[:44] + "..." for word in command)
        self.screen.note(f"{self.screen.paint('2', store.name + ' #')} doveadm {shown}")
        done = store.doveadm(*command, check=False, timeout=300)
        for line in (done.stdout + done.stderr).strip().splitlines()[:6]:
            self.screen.note(f"  {line}")
        if done.returncode != 0:
            raise Failed(f"doveadm {shown} exits {done.returncode}")

    def status(self):
        store = self.destination if self.killed else self.source
        self.screen.note(f"{self.screen.paint('2', store.name + ' #')} doveadm replica getAccountStatus")
        columns = ("account", "mailHost", "epoch", "state", "replicaServer", "priority", "available", "phase", "position", "lag_changes", "lag_seconds")
        rows = [columns] + [tuple(str(row.get(column, "")) for column in columns) for row in replica.status(store)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
        for row in rows[:4]:
            self.screen.note("  " + "  ".join(f"{value:<{width}}" for value, width in zip(row, widths)).rstrip())
        if len(rows) > 4:
            self.screen.note(f"  ... and {len(rows) - 4} more accounts")

    def spread(self, mails, work):
        """Each mail once, by eight connections at a time; a fault of one ends all. work(pick, thread) opens and uses a connection."""
        queue, faults, lock = list(enumerate(mails)), [], threading.Lock()
        total = len(queue)
        started = time.monotonic()

        def pick():
            with lock:
                return queue.pop() if queue and not faults else None

        def body(number):
            try:
                work(pick, number)
            except Exception as error:  # noqa: BLE001
                faults.append(error)

        threads = [threading.Thread(target=body, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            threads[0].join(0.2) if threads[0].is_alive() else [thread.join(0.2) for thread in threads]
            done = total - len(queue)
            self.screen.progress(done, total, f"{done / (time.monotonic() - started):.0f}/s")
        if faults:
            raise Failed(f"mail could not be stored: {faults[0]}")

    def deliver(self, mails):
        def work(pick, _):
            with self.source.lmtp(60) as lmtp:
                while job := pick():
                    answer = load.deliver(self, lmtp, self.users[job[0] % len(self.users)], job[1])
                    if not answer.startswith("250"):
                        raise Failed(f"LMTP answered {answer}")

        self.spread(mails, work)

    def append(self, mails, mailbox):
        """Each thread has accounts of its own, so that an account has one session."""
        def work(pick, number):
            mine = self.users[number::8]
            sessions = {}
            while mine and (job := pick()):
                user = mine[job[0] % len(mine)]
                imap = sessions.get(user) or sessions.setdefault(user, self.source.imap(user, 60))
                name = mailbox or corpus.MAILBOX_NAMES[job[0] % 6]
                response = load.append(self, imap, user, name, job[1], self.random.sample(load.FLAGS, job[0] % 4))
                if not response.ok:
                    raise Failed(f"APPEND answered {response.status} [{response.code}] {response.text}")
            for imap in sessions.values():
                imap.logout()

        self.spread(mails, work)

    def folders(self):
        for user in self.users:
            with self.source.imap(user) as imap:
                for name in corpus.MAILBOX_NAMES:
                    load.create(self, imap, user, name)

    def touch(self):
        """Every client looks into its INBOX, then changes, moves and expunges some of what it saw."""
        for seed, user in enumerate(self.users):
            session = load.Reader(self.journal, self.source, self.real, user, corpus.MAILBOX_NAMES, 1000 + seed)
            session.open()
            session.read()
            for action in (session.flags, session.move, session.copy, session.flags, session.expunge, session.flags, session.move):
                action()
            session.connection.logout()
            self.screen.progress(seed + 1, len(self.users), "accounts changed flags and folders")

    def ask(self, operation, call):
        return load.Worker.ask(self, operation, call)

    def watch_load(self, seconds):
        started = time.monotonic()
        while (passed := time.monotonic() - started) < seconds:
            alive = sum(worker.is_alive() for worker in self.workers)
            if alive < len(self.workers):
                fault = next((worker.failure for worker in self.workers if worker.failure), "its connection broke")
                raise Failed(f"a client stopped before the kill: {fault}")
            self.screen.progress(int(passed * 10), int(seconds * 10) + 1, f"{self.journal.count('acknowledged')} acknowledged, "
                                 f"{self.journal.count('under way')} under way, {self.journal.count('refused')} refused")
            time.sleep(0.05)
        self.screen.clear()

    # --- the end ---

    def show(self):
        counts = self.verdict.counts
        operations = self.journal.operations
        deliveries = sum(operation.kind == "deliver" and operation.outcome == "acknowledged" for operation in operations)
        rows = [("operations acknowledged", self.journal.count("acknowledged"), None),
                ("  of these LMTP deliveries", deliveries, None),
                ("operations refused", self.journal.count("refused"), None),
                *self.figures,
                ("mails that must be there", counts["mails"], None),
                ("mails that are there", counts["present"], counts["present"] == counts["mails"])]
        names = {"missing": "mails missing", "twice": "mails there twice", "unexpected": "mails back from the dead", "uid": "UIDs changed",
                 "flags": "flags changed", "body": "bodies changed (SHA-256)", "mailboxes": "mailboxes missing"}
        rows += [(names[key], counts[key], counts[key] == 0) for key in names]
        rows += [("the new source takes mail", "yes" if self.accepts else "no", self.accepts),
                 ("from the kill to the last promoted account", f"{self.downtime:.1f} s", None)]
        self.screen.table(rows, "What the clients' journal says")
        return all(good is not False for _, _, good in rows)

    def end(self, good):
        if self.site is None:
            return
        if self.options.keep:
            self.how_to_connect()
            return
        for worker in self.workers:
            worker.stopping.set()
        kept = None
        if not good:
            kept = self.folder.with_name(self.folder.name + ".logs")
            kept.mkdir(exist_ok=True)
            for name, text in self.site.logs().items():
                (kept / f"{name}.log").write_text(text)
            journal = self.folder / "journal.jsonl"
            if journal.exists():
                journal.rename(kept / "journal.jsonl")
        self.site.down()
        for path in sorted(self.folder.glob("*")):
            path.unlink()
        self.folder.rmdir()
        if kept:
            self.screen.note(f"logs and journal are in {kept}")

    def how_to_connect(self):
        new = self.site.stores[1]
        site_tool = pathlib.Path(__file__).with_name("site")
        self.screen.write(f"""
   The site is left running in {self.folder / 'site'}
     log in           IMAP {new.endpoint('imap')}, POP3 {new.endpoint('pop3')}, user {self.site.user(1)}, password {self.site.password}
     status           doveadm -c {new.config} replica getAccountStatus
     the old source   {site_tool} start --dir {self.folder / 'site'} store1   (it comes back as a destination)
     logs             {site_tool} logs --dir {self.folder / 'site'}
     end it           {site_tool} down --dir {self.folder / 'site'}; rm -r {self.folder}
""")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the site running and say how to connect")
    parser.add_argument("--s3", action="store_true", help="bodies in an S3 server instead of a directory")
    parser.add_argument("--accounts", type=int, default=20)
    parser.add_argument("--dir", help="a new folder for the site and the journal (default: below /tmp)")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    demo = Demo(options)
    good = False
    try:
        good = demo.run()
    except (Failed, AssertionError, RuntimeError, OSError) as error:
        demo.screen.bad(str(error))
    except KeyboardInterrupt:
        demo.screen.bad("interrupted")
    finally:
        demo.end(good)
    total = time.monotonic() - demo.screen.started
    verdict = "Nothing that was acknowledged is missing." if good else "The demo FAILED."
    demo.screen.write(f"\n   {demo.screen.paint('1;32' if good else '1;31', verdict)}  ({total:.0f} s)\n\n")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
