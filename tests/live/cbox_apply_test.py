#!/usr/bin/env python3
"""The applier of cbox, its snapshots and builds: two accounts of one store, one the source, one the replica.

usage: cbox_apply_test.py [unittest arguments], as root; REPLICA_BUILD_DIR names the build directory (with target cbox_tool).
"""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import random
import re
import shutil
import struct
import subprocess
import sys
import threading
import time
import unittest
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from support.mailsite import Site, scratch_folder  # noqa: E402

BUILD = os.environ.get("REPLICA_BUILD_DIR", "")
SYSTEM_MODULES = pathlib.Path("/usr/lib/dovecot/modules")
BAD_LOG = re.compile(r"Panic|Fatal|Error|Corrupted|fscking|inconsistent|assert", re.IGNORECASE)


def found(build, name):
    for path in sorted(pathlib.Path(build).rglob(name)):
        if path.is_file():
            return path
    sys.exit(f"{name} is not below {build}")


class Mirror(threading.Thread):
    """Gives an account the bodies of another one, as soon as they come: a body names its account, so each is made anew."""

    def __init__(self, root, *pair):
        super().__init__(daemon=True)
        self.source, self.target = (root / hashlib.sha256(user.encode()).hexdigest()[:32] for user in pair)
        self.stopping = threading.Event()
        self.known = set()

    def run(self):
        while not self.stopping.wait(0.02):  # readers wait for bodies that are late
            for path in set(self.source.glob("??/*")) - self.known:
                self.known.add(path)
                if len(path.name) == 32:
                    self.copy(path)

    def copy(self, path):
        blob = path.read_bytes()
        size = struct.unpack(">I", blob[-16:-12])[0]
        trailer = blob[-size:-12]
        trailer = trailer[:36] + bytes.fromhex(self.target.name) + trailer[52:]
        target = self.target / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_suffix(".new")
        fresh.write_bytes(blob[:-size] + trailer + struct.pack(">I", zlib.crc32(trailer)) + blob[-8:])
        fresh.chmod(0o644)
        fresh.rename(target)

    def end(self):
        self.stopping.set()
        self.join()


class Stage:
    """A store whose modules are the system's and the build's cbox, with fresh accounts for each test."""

    def __init__(self, build):
        self.folder = scratch_folder("cbox-apply-")
        self.tool = found(build, "cbox_tool")
        modules = self.folder / "modules"
        modules.mkdir()
        for module in SYSTEM_MODULES.iterdir():
            if not module.name.startswith(("lib90_cbox", "lib95_replica")):
                (modules / module.name).symlink_to(module)
        shutil.copy(found(build, "lib90_cbox_plugin.so"), modules)
        self.site = Site.up(self.folder / "site", stores=1, accounts=60, driver="cbox", replica=False,
                            extra=f"mail_plugin_dir = {modules}\n")
        self.store = self.site.stores[0]
        self.free_users = iter(self.site.users())

    def pair(self):
        """Two accounts that have their bodies in common, as one account has on two stores."""
        pair = next(self.free_users), next(self.free_users)
        self.mirror = Mirror(self.site.folder / "blobs", *pair)
        self.mirror.start()
        return pair

    def command(self, pair, *arguments):
        return [str(self.tool), "-c", str(self.store.config), *pair, *map(str, arguments)]

    def run(self, pair, *arguments, timeout=300):
        done = subprocess.run(self.command(pair, *arguments), capture_output=True, text=True, timeout=timeout, check=False)
        if done.returncode != 0:
            raise AssertionError(f"{' '.join(map(str, arguments))} exits {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout.strip()


def highest_modseq(selected):
    return int(selected.code_of("HIGHESTMODSEQ")[0])


class ApplyTest(unittest.TestCase):
    stage: Stage

    def setUp(self):
        self.log_start = self.stage.store.log.stat().st_size if self.stage.store.log.exists() else 0

    def tearDown(self):
        self.stage.mirror.end()
        with open(self.stage.store.log, encoding="utf-8", errors="replace") as log:
            log.seek(self.log_start)
            bad = [line for line in log if BAD_LOG.search(line)]
        self.assertEqual(bad, [])

    def test_random_changes_leave_both_equal(self):
        for seed in range(1, 6):
            print(self.stage.run(self.stage.pair(), "random", seed, 80))
            self.stage.mirror.end()

    def test_a_break_in_the_chain_is_noticed(self):
        self.stage.run(self.stage.pair(), "chain")

    def test_a_foreign_mail_is_diverged(self):
        self.stage.run(self.stage.pair(), "foreign")

    def test_a_snapshot_under_changes_builds_what_was_frozen(self):
        for seed in range(1, 4):
            self.stage.run(self.stage.pair(), "snapshot", seed, 300)
            self.stage.mirror.end()

    def test_damaged_builds_leave_the_mailbox_alone(self):
        self.stage.run(self.stage.pair(), "damage")

    def test_changes_in_doubt_are_rolled_forward(self):
        for seed in range(20, 23):
            print(self.stage.run(self.stage.pair(), "doubt", seed, 60))
            self.stage.mirror.end()

    def test_a_kill_at_any_instant_is_healed_by_the_log(self):
        pair, random_ = self.stage.pair(), random.Random(1)
        log = self.stage.store.folder / "mail" / "changes"  # where the mail user may write
        self.stage.run(pair, "random", 11, 5, log)
        for number in range(30):
            with subprocess.Popen(self.stage.command(pair, "exchange", 60, number, log), stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True) as tool:
                time.sleep(random_.uniform(0.05, 0.4))  # the instant is the test's input
                tool.kill()
                said = tool.communicate()[0]
            self.assertNotIn("FAILED", said)
            self.stage.run(pair, "catchup", 0, 0, log)
        print(self.stage.run(pair, "catchup", 0, 0, log))
        self.assertEqual(*(self.seen(user) for user in pair))

    def test_a_locked_index_is_waited_for_so_long_and_no_longer(self):
        pair = self.stage.pair()
        self.stage.run(pair, "random", 12, 3)
        logs = list((self.stage.store.folder / "mail" / pair[1] / "mail" / "mailboxes").rglob("dovecot.index.log"))
        self.assertTrue(logs)
        with contextlib.ExitStack() as stack:
            for path in logs:
                fcntl.lockf(stack.enter_context(open(path, "r+b")), fcntl.LOCK_EX)
            said = self.stage.run(pair, "locked")
        waited = int(said.partition("waited_ms=")[2])
        self.assertGreaterEqual(waited, 1000)
        self.assertLess(waited, 10000)  # Dovecot alone would wait for 120 s

    def test_sizes_for_quota_follow_expunges(self):
        pair = self.stage.pair()
        self.stage.run(pair, "random", 13, 20)
        self.assertEqual(*(self.sizes(user) for user in pair))  # counted for the first time
        self.stage.run(pair, "steps", 14, 30)
        self.assertEqual(*(self.sizes(user) for user in pair))

    def sizes(self, user):
        return self.stage.store.doveadm("mailbox", "status", "-u", user, "messages vsize", "Box").stdout

    def test_rates(self):
        said = self.stage.run(self.stage.pair(), "bench", 100000)
        print(said)
        measured = {name: float(value) for name, value in re.findall(r"(\S+)=([\d.]+)", said)}
        # A tenth of what is aimed at: less means that something waits or fsyncs that must not.
        self.assertGreater(measured["appends/s"], 100)
        self.assertGreater(measured["flags/s"], 500)
        self.assertLess(measured["locked_ms"], 1000)

    def test_an_idling_client_sees_what_is_applied(self):
        self.idle_while("steps", 8, 10)

    def test_an_idling_client_sees_an_exchange(self):
        self.idle_while("exchange", 1, 8)

    def idle_while(self, *arguments):
        pair = self.stage.pair()
        self.stage.run(pair, "random", 7, 1)
        with self.stage.store.imap(pair[1], timeout=25) as client:  # Dovecot looks by itself every 30 s
            client.select("Box")
            tag = client.begin("IDLE")
            self.assertTrue(client.line().startswith(b"+"))
            self.stage.run(pair, *arguments)
            while not re.match(rb"\* \d+ (EXISTS|EXPUNGE|FETCH)", client.line()):
                pass
            client.send(b"DONE\r\n")
            self.assertTrue(client.finish(tag).ok)

    def test_qresync_after_an_exchange_names_what_vanished_before_it(self):
        pair = self.stage.pair()
        self.stage.run(pair, "random", 9, 40)
        with self.stage.store.imap(pair[1]) as client:
            client.expect("ENABLE QRESYNC")
            before = client.select("Box")
            known = client.search("ALL")
            validity = before.code_of("UIDVALIDITY")[0]
        self.assertGreater(len(known), 0)
        self.stage.run(pair, "exchange", 1, 5)
        with self.stage.store.imap(pair[1]) as client:
            client.expect("ENABLE QRESYNC")
            selected = client.expect("SELECT", "Box", f"(QRESYNC ({validity} {highest_modseq(before)} 1:{max(known)}))")
            left = set(client.search("ALL"))
            vanished = set()
            for line in selected.named("VANISHED"):
                for part in str(line[-1]).split(","):
                    first, _, last = part.partition(":")
                    vanished |= set(range(int(first), int(last or first) + 1))
        self.assertLessEqual(set(known) - left, vanished)
        self.assertFalse(vanished & left)

    def test_sessions_look_on_while_the_index_is_exchanged(self):
        pair = self.stage.pair()
        self.stage.run(pair, "random", 10, 40)
        watchers = [Watcher(self.stage.store, pair[1], fresh=number % 2 == 0) for number in range(4)]
        for watcher in watchers:
            watcher.start()
        try:
            print(self.stage.run(pair, "exchange", 10, 5))
        finally:
            for watcher in watchers:
                watcher.end()
        for watcher in watchers:
            self.assertIsNone(watcher.failure)
            self.assertGreater(watcher.looks, 5)
        print("looks", sum(watcher.looks for watcher in watchers), "BYEs", sum(watcher.byes for watcher in watchers))
        self.assertEqual(*(self.seen(user) for user in pair))

    def test_writers_that_wait_for_the_lock_do_no_harm_after_the_exchange(self):
        pair = self.stage.pair()
        self.stage.run(pair, "random", 15, 30)
        writers = [Writer(self.stage.store, pair[1], number) for number in range(2)]
        for writer in writers:
            writer.start()
        try:
            print(self.stage.run(pair, "contend", 8))
        finally:
            for writer in writers:
                writer.end()
        for writer in writers:
            self.assertIsNone(writer.failure)
            self.assertGreater(writer.stored, 0)
        print("stored", sum(writer.stored for writer in writers), "BYEs", sum(writer.byes for writer in writers))
        print(self.stage.run(pair, "contend", 0))
        self.assertEqual(*(self.seen(user) for user in pair))

    def seen(self, user):
        with self.stage.store.imap(user) as client:
            client.expect("ENABLE CONDSTORE")
            counters = next(client.expect("STATUS Box (MESSAGES UIDNEXT HIGHESTMODSEQ)").named("STATUS"))[1]
            selected = client.select("Box")
            self.assertEqual(counters, ["MESSAGES", next(selected.named("EXISTS"))[0], "UIDNEXT",
                                        selected.code_of("UIDNEXT")[0], "HIGHESTMODSEQ", str(highest_modseq(selected))])
            mails = client.fetch("1:*", "(UID FLAGS MODSEQ INTERNALDATE RFC822.SIZE X-GUID ENVELOPE)")
            for mail in mails:
                mail["FLAGS"] = sorted(flag for flag in mail["FLAGS"] if flag != "\\Recent")
            return highest_modseq(selected), selected.code_of("UIDNEXT"), mails


class Session(threading.Thread):
    """One session after another until it is told to end. A BYE is allowed."""

    def __init__(self, store, user):
        super().__init__()
        self.store, self.user = store, user
        self.stopping = threading.Event()
        self.byes = 0
        self.failure = None

    def end(self):
        self.stopping.set()
        self.join()

    def run(self):
        try:
            while not self.stopping.is_set():
                try:
                    with self.store.imap(self.user) as client:
                        self.act(client)
                except ConnectionError:
                    self.byes += 1
        except Exception as error:  # pylint: disable=broad-except
            self.failure = error

    def act(self, client):
        raise NotImplementedError


class Writer(Session):
    def __init__(self, store, user, number):
        super().__init__(store, user)
        self.random = random.Random(number)
        self.stored = 0

    def act(self, client):
        client.select("Box")
        while not self.stopping.is_set():
            sign, flag = self.random.choice("+-"), self.random.choice(("\\Flagged", "\\Seen", "$w1", "$w2"))
            first = self.random.randrange(1, 60)
            response = client.command(f"UID STORE {first}:{first + 5} {sign}FLAGS ({flag})")
            if any(line[0] == "BYE" for line in response.untagged):
                raise ConnectionResetError
            if not response.ok:
                raise AssertionError(f"STORE: {response.status} {response.text}")
            self.stored += 1
            for _ in range(20):  # leave the other side a chance
                client.expect("NOOP")


class Watcher(Session):
    """Looks at the replica all the time, in one session or in new ones. No state may go back."""

    def __init__(self, store, user, fresh):
        super().__init__(store, user)
        self.fresh = fresh
        self.looks = self.highest = 0
        self.subjects = {}

    def act(self, client):
        client.expect("ENABLE CONDSTORE")
        selected = client.select("Box")
        highest = highest_modseq(selected)
        if highest < self.highest:
            raise AssertionError(f"HIGHESTMODSEQ fell from {self.highest} to {highest}")
        self.highest = highest
        while not self.stopping.is_set():
            response = client.command("UID FETCH 1:* (UID FLAGS MODSEQ INTERNALDATE RFC822.SIZE X-GUID ENVELOPE)")
            if any(line[0] == "BYE" for line in response.untagged):
                raise ConnectionResetError
            if not response.ok:
                raise AssertionError(f"FETCH: {response.status} {response.text}")
            self.check_subjects(response)
            self.looks += 1
            client.expect("NOOP")
            if self.fresh:
                return


    def check_subjects(self, response):
        """What was cached of a mail stays that mail's, whatever index and cache the session looks through."""
        for _, values in response.named("FETCH"):
            mail = {values[i]: values[i + 1] for i in range(0, len(values), 2)}
            if "ENVELOPE" not in mail:
                continue
            subject = mail["ENVELOPE"][1]
            if subject is None and response.code == "EXPUNGEISSUED":
                continue  # it went before its body came to the mirror
            if self.subjects.setdefault(mail["X-GUID"], subject) != subject:
                raise AssertionError(f"UID {mail['UID']} has another mail's subject: {subject!r}, not {self.subjects[mail['X-GUID']]!r}")


def setUpModule():
    ApplyTest.stage = Stage(BUILD)


def tearDownModule():
    ApplyTest.stage.site.down()
    shutil.rmtree(ApplyTest.stage.folder)


if __name__ == "__main__":
    unittest.main(verbosity=2)
