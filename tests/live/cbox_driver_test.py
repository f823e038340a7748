#!/usr/bin/env python3
"""The driver cbox on a real Dovecot: the same answers as stock sdbox, one commit sequence, no body lost.

usage: cbox_driver_test.py [unittest arguments], as root; REPLICA_BUILD_DIR names the build directory.
"""
import os
import random
import re
import signal
import struct
import sys
import threading
import unittest
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cbox_site import Site, message, wait_for  # noqa: E402

BUILD = os.environ.get("REPLICA_BUILD_DIR", "")
BAD_LOG = re.compile(r"Panic|Fatal(?!.*killed with signal 9)|Corrupted|fscking|assert", re.IGNORECASE)
MIXED = message("mixed", headers="MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n", body=(
    "--x\r\nContent-Type: text/plain\r\n\r\nfirst\r\n--x\r\nContent-Type: application/octet-stream\r\n"
    "Content-Transfer-Encoding: base64\r\n\r\nAAECAwQ=\r\n--x--\r\n"))


def normal(line):
    """What must not be the same on two stores: times, UIDVALIDITY, GUIDs, MODSEQ counters."""
    for pattern, to in ((r" \(\d+\.\d+ \+ .*secs\)", ""), (r"(UIDVALIDITY|APPENDUID|COPYUID) \d+", r"\1 V"),
                        (r"MODSEQ (\(?)\d+", r"MODSEQ \1N"), (r"INTERNALDATE \"[^\"]*\"", "INTERNALDATE D"),
                        (r"\b[0-9a-f]{32}\b", "G")):
        line = re.sub(pattern, to, line)
    return line


class Recorder:
    """Sends commands and keeps the whole conversation, normalised."""

    def __init__(self, site, user):
        self.imap, self.lines = site.imap(user), []

    def __call__(self, command, literal=None):
        untagged, tagged = self.imap.command(command, literal)
        self.lines.append("> " + re.sub(r"(QRESYNC \(|SINCE )[\d ]+", r"\1N ", command))
        self.lines += [normal(line) for line in untagged] + [normal(tagged)]
        return untagged, tagged


def conversation_of_one(site, user):
    do = Recorder(site, user)
    do("CREATE Work")
    do("CREATE Work/Sub")
    do("SUBSCRIBE Work")
    do('APPEND INBOX (\\Seen $Label) "17-Jul-1996 02:44:25 -0700"', message("first"))
    do("APPEND INBOX", MIXED)
    do("APPEND INBOX", b"no header at all")
    do("APPEND INBOX", b"Subject: bare lf\n\nline one\nline two\n")
    do("APPEND Nowhere", message("lost"))
    do("SELECT INBOX (CONDSTORE)")
    do("FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE)")
    do("FETCH 1:* (ENVELOPE BODYSTRUCTURE)")
    do("FETCH 2 (BODY.PEEK[1] BODY.PEEK[2] BINARY.PEEK[2] BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
    do("FETCH 1:4 BODY.PEEK[]")
    do("FETCH 4 BODY.PEEK[]<5.10>")
    do("FETCH 3 BODY[TEXT]")
    do("SEARCH SUBJECT mixed")
    do("SEARCH BODY two")
    do("SORT (REVERSE SIZE) UTF-8 ALL")
    do("THREAD REFERENCES UTF-8 ALL")
    do("STORE 1:2 +FLAGS (\\Flagged $Work)")
    do("STORE 1 -FLAGS.SILENT ($Label)")
    do("STORE 2:3 FLAGS (\\Answered Other)")
    do("STORE 2:3 FLAGS (\\Answered Other)")
    do("UID STORE 4 +FLAGS (\\Draft)")
    do("FETCH 1:* FLAGS")
    do("COPY 1:2 Work")
    do("COPY 1 Nowhere")
    do("UID COPY 3:4 Work/Sub")
    do("MOVE 3 Work")
    do("UID MOVE 4 Work/Sub")
    do("STATUS Work (MESSAGES UIDNEXT UNSEEN RECENT)")
    do("STATUS Work/Sub (MESSAGES UIDNEXT UNSEEN)")
    do("STORE 1 +FLAGS (\\Deleted)")
    do("UID EXPUNGE 2")
    do("UID EXPUNGE 1")
    do("EXPUNGE")
    do("SELECT Work")
    do("FETCH 1:* (UID FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
    do("STORE 1:3 +FLAGS (\\Deleted)")
    do("EXPUNGE")
    do("SELECT INBOX")
    do("STORE 1:* +FLAGS (\\Deleted)")
    do("CLOSE")
    do("STATUS INBOX (MESSAGES UIDNEXT)")
    do("EXAMINE Work/Sub")
    do("FETCH 1:* (UID FLAGS)")
    do("STORE 1 +FLAGS (\\Deleted)")
    do("CLOSE")
    do('SETMETADATA Work (/private/comment "mine" /shared/comment "ours")')
    do("GETMETADATA Work (/private/comment /shared/comment)")
    do("SETMETADATA Work (/private/comment NIL)")
    do("GETMETADATA Work (/private/comment /shared/comment)")
    do("RENAME Work Moved")
    do("GETMETADATA Moved (/private/comment /shared/comment)")
    do('LIST "" *')
    do('LSUB "" *')
    do("STATUS Moved/Sub (MESSAGES UIDNEXT)")
    do("DELETE Moved/Sub")
    do("SELECT Moved/Sub")
    do("DELETE Moved")
    do('LIST "" *')
    do("CREATE Moved")
    do("STATUS Moved (MESSAGES UIDNEXT)")
    return do.lines


def conversation_of_two(site, user):
    """Two sessions in one mailbox; what the second one sees without asking comes with its NOOP."""
    a, b = Recorder(site, user), Recorder(site, user)
    for n in range(1, 7):
        a("APPEND INBOX", message("m%d" % n))
    a("ENABLE QRESYNC")
    untagged, _ = a("SELECT INBOX")
    b("SELECT INBOX (CONDSTORE)")
    uid_validity = re.search(r"UIDVALIDITY (\d+)", " ".join(untagged)).group(1)
    modseq = re.search(r"HIGHESTMODSEQ (\d+)", " ".join(untagged)).group(1)
    # A stale UNCHANGEDSINCE, alone and with an expunge between.
    b("STORE 1 +FLAGS ($Theirs)")
    a("STORE 1:2 (UNCHANGEDSINCE %s) +FLAGS ($Mine)" % modseq)
    a("NOOP")
    b("NOOP")
    b("STORE 3 +FLAGS ($Again)")
    b("STORE 5 +FLAGS (\\Deleted)")
    b("EXPUNGE")
    a("STORE 3:4 (UNCHANGEDSINCE %s) +FLAGS ($Stale)" % modseq)
    a("NOOP")
    # Both expunge the same mail; flags of a mail that is gone.
    a("STORE 4 +FLAGS.SILENT (\\Deleted)")
    b("NOOP")
    b("EXPUNGE")
    a("EXPUNGE")
    a("NOOP")
    b("STORE 1 +FLAGS (\\Deleted)")
    b("EXPUNGE")
    a("NOOP")
    a("SELECT INBOX (QRESYNC (%s %s 1:6))" % (uid_validity, modseq))
    a("UID FETCH 1:* (FLAGS) (CHANGEDSINCE %s VANISHED)" % modseq)
    return a.lines + b.lines


class Alike(unittest.TestCase):
    """Clients cannot tell cbox from sdbox: with nobody answering the call-out, and with every change numbered."""

    @classmethod
    def setUpClass(cls):
        cls.sites = {driver: Site(BUILD, driver=driver).start() for driver in ("sdbox", "cbox")}

    @classmethod
    def tearDownClass(cls):
        for site in cls.sites.values():
            site.remove()

    def alike(self, conversation):
        self.maxDiff = None
        want = conversation(self.sites["sdbox"], conversation.__name__)
        for mode in ("off", "number"):
            self.sites["cbox"].answer(mode)
            self.assertEqual(want, conversation(self.sites["cbox"], conversation.__name__ + mode), mode)
        self.assertNotRegex(self.sites["cbox"].log(), BAD_LOG)

    def test_one_session(self):
        self.alike(conversation_of_one)

    def test_two_sessions(self):
        self.alike(conversation_of_two)


class OnSite(unittest.TestCase):
    """Each test has a user of its own on one site."""
    plugins, settings = ("acl", "quota", "notify", "mail_log"), """
  acl = vfile
  quota = count:User quota
  quota_vsizes = yes
"""
    extra, count = "", 0

    @classmethod
    def setUpClass(cls):
        cls.site = Site(BUILD, plugins=cls.plugins, plugin_settings=cls.settings, extra=cls.extra).start()

    @classmethod
    def tearDownClass(cls):
        cls.site.remove()

    def setUp(self):
        OnSite.count += 1
        self.user = "user%d" % OnSite.count
        self.site.answer("number")

    def tearDown(self):
        self.assertNotRegex(self.site.log(), BAD_LOG)

    def subjects(self, user, mailbox="INBOX"):
        out = self.site.doveadm("fetch", "-u", user, "hdr.subject", "mailbox", mailbox)
        return re.findall(r"^hdr.subject: (.*)$", out, re.M)

    def commits(self, mailbox=None):
        return self.site.calls("commit", mailbox)


class Predicted(OnSite):
    """The MODSEQ that a change was announced with is what clients see."""

    def check(self, imap, mailbox="INBOX"):
        commit = self.commits(mailbox)[-1]
        highest = commit["modseq"] + bool(commit["expunges"])
        self.assertEqual(highest, imap.highest_modseq(mailbox), commit)
        imap.ok("SELECT %s (CONDSTORE)" % mailbox)
        touched = {a["uid"] for a in commit["appends"]}
        for (first, last), _, _ in commit["flags"]:
            touched |= set(range(first, last + 1))
        for _, ranges in commit["keywords"]:
            for first, last in ranges:
                touched |= set(range(first, last + 1))
        if not touched:
            return
        lines, _ = imap.ok("UID FETCH 1:* (MODSEQ)")
        modseqs = {int(u): int(m) for u, m in re.findall(r"UID (\d+) MODSEQ \((\d+)\)", "\n".join(lines))}
        for uid in touched & set(modseqs):
            self.assertEqual(commit["modseq"], modseqs[uid], (uid, commit))

    def test_of_each_kind_of_change(self):
        imap = self.site.imap(self.user)
        imap.ok("ENABLE CONDSTORE")
        for flags in ("", "\\Seen", "\\Seen \\Flagged $A $B", "$A"):
            imap.append("INBOX", message("flags " + flags), flags)
            self.check(imap)
        for command in ("STORE 1 +FLAGS (\\Seen)", "STORE 1:3 +FLAGS (\\Flagged $A)", "STORE 2:4 FLAGS ($C \\Draft)",
                        "STORE 1:* -FLAGS ($A $B $C)", "STORE 4 FLAGS ()", "STORE 1 +FLAGS (\\Deleted)"):
            imap.ok("SELECT INBOX")
            before = len(self.commits())
            imap.ok(command)
            self.assertEqual(before + 1, len(self.commits()), command)
            self.check(imap)
        imap.ok("SELECT INBOX")
        imap.ok("EXPUNGE")
        self.check(imap)
        imap.ok("SELECT INBOX")
        imap.ok("COPY 1:3 Trash")
        self.check(imap, "Trash")
        imap.ok("SELECT INBOX")
        imap.ok("MOVE 1 Trash")
        self.check(imap, "Trash")
        self.check(imap, "INBOX")
        imap.ok('SETMETADATA INBOX (/private/comment "x")')
        self.check(imap)
        imap.ok('SETMETADATA INBOX (/private/comment NIL /shared/comment "y")')
        self.check(imap)
        self.assertEqual([["s:comment", "y"], ["p:comment", None]], sorted(self.commits()[-1]["attributes"], reverse=True))

    def test_of_a_random_walk(self):
        random.seed(5)
        imap = self.site.imap(self.user)
        imap.ok("ENABLE CONDSTORE")
        for n in range(10):
            imap.append("INBOX", message("m%d" % n))
        for _ in range(80):
            imap.ok("SELECT INBOX")
            before = len(self.commits("INBOX"))
            first = random.randint(1, 5)
            words = random.sample(["\\Seen", "\\Flagged", "\\Answered", "$A", "$B", "$C", "$D"], random.randint(0, 4))
            what = random.choice(["+FLAGS", "-FLAGS", "FLAGS", "append", "expunge"])
            if what == "append":
                imap.append("INBOX", message("more"), " ".join(words))
            elif what == "expunge":
                imap.ok("STORE %d +FLAGS.SILENT (\\Deleted)" % first)
                before += 1
                imap.ok("EXPUNGE")
                imap.append("INBOX", message("instead"))
                before += 1
            else:
                imap.ok("STORE %d:%d %s (%s)" % (first, first + 3, what, " ".join(words)))
            if len(self.commits("INBOX")) > before:
                self.check(imap)

    def test_marks_follow_the_numbers(self):
        imap = self.site.imap(self.user)
        for n in range(5):
            imap.append("INBOX", message("m%d" % n))
        commits = self.commits("INBOX")
        self.assertEqual([c["number"] for c in commits[:-1]], [c["mark"] for c in commits[1:]])
        self.assertEqual([True] * 5, [c["ok"] for c in self.site.calls("done")])


class Refused(OnSite):
    """A refusal changes nothing, in words that each protocol's client understands."""

    def setUp(self):
        super().setUp()
        self.imap = self.site.imap(self.user)
        for n in range(1, 5):
            self.imap.append("INBOX", message("m%d" % n))
        self.imap.ok("SELECT INBOX (CONDSTORE)")

    def state(self):
        other = self.site.imap(self.user)
        other.ok("SELECT INBOX (CONDSTORE)")
        lines, _ = other.ok("FETCH 1:* (UID FLAGS MODSEQ)")
        status, _ = other.ok("STATUS INBOX (MESSAGES UIDNEXT HIGHESTMODSEQ)")
        trash, _ = other.ok("STATUS Trash (MESSAGES UIDNEXT HIGHESTMODSEQ)")
        metadata, _ = other.ok("GETMETADATA INBOX (/private/comment)")
        other.close()
        flags = [re.sub(r" ?\\Recent", "", line) for line in lines if "FETCH" in line]
        return flags, status, trash, metadata, self.site.blob_files()

    def test_imap_says_unavailable(self):
        before = self.state()
        for mode in ("refuse", "unclear"):
            self.site.answer(mode)
            for command in ("STORE 1:2 +FLAGS (\\Seen $X)", "COPY 1:2 Trash", "MOVE 1 Trash", "UID STORE 3 +FLAGS ($Y)",
                            'SETMETADATA INBOX (/private/comment "no")'):
                _, tagged = self.imap.command(command)
                self.assertRegex(tagged, r"^NO \[UNAVAILABLE\]", command)
            _, tagged = self.imap.command("APPEND INBOX (\\Seen)", message("no"))
            self.assertRegex(tagged, r"^NO \[UNAVAILABLE\]")
            self.imap.ok("SELECT INBOX (CONDSTORE)")
            self.assertEqual(before, self.state(), mode)

    def test_expunge_and_close(self):
        self.imap.ok("STORE 1:2 +FLAGS.SILENT (\\Deleted)")
        before = self.state()
        self.site.answer("refuse")
        for command in ("EXPUNGE", "UID EXPUNGE 1"):
            _, tagged = self.imap.command(command)
            self.assertRegex(tagged, r"^NO \[UNAVAILABLE\]", command)
        self.imap.command("CLOSE")
        self.assertEqual(before, self.state())
        self.site.answer("number")
        self.imap.ok("SELECT INBOX")
        lines, _ = self.imap.ok("EXPUNGE")
        self.assertEqual(2, sum(line.endswith("EXPUNGE") for line in lines))

    def test_lmtp_says_451_and_delivers_later(self):
        before = self.state()
        self.site.answer("refuse")
        answers = self.site.deliver(message("late"), self.user)
        self.assertEqual(451, answers[self.user][0], answers)
        self.assertEqual(before, self.state())
        self.site.answer("number")
        self.assertEqual({}, self.site.deliver(message("late"), self.user))
        self.assertEqual(["m1", "m2", "m3", "m4", "late"], self.subjects(self.user))

    def test_pop3_says_sys_temp(self):
        before = self.state()
        pop3 = self.site.pop3(self.user)
        pop3.dele(1)
        self.site.answer("refuse")
        with self.assertRaisesRegex(Exception, r"SYS/TEMP"):
            pop3.quit()
        self.assertEqual(before, self.state())

    def test_a_move_refused_at_its_source_leaves_the_mail_in_both(self):
        # The first call-out is the target's.
        self.site.answer("number-then-refuse")
        _, tagged = self.imap.command("MOVE 1 Trash")
        self.assertRegex(tagged, r"^NO \[UNAVAILABLE\]")
        self.assertEqual(["m1"], self.subjects(self.user, "Trash"))
        self.assertEqual(["m1", "m2", "m3", "m4"], self.subjects(self.user))

    def test_in_doubt_keeps_the_body(self):
        blobs = self.site.blob_files()
        self.site.answer("doubt")
        _, tagged = self.imap.command("APPEND INBOX", message("doubtful"))
        self.assertRegex(tagged, r"^NO \[UNAVAILABLE\]")
        named = self.commits()[-1]["appends"][0]["blob"]
        kept = set(self.site.blob_files()) - set(blobs)
        self.assertEqual([named], [os.path.basename(path) for path in kept])

    def test_death_after_the_number_leaves_the_body_and_nothing_else(self):
        self.site.answer("die")
        with self.assertRaises(EOFError):
            self.imap.command("APPEND INBOX", message("ghost"))
        named = self.commits()[-1]["appends"][0]
        self.assertTrue(any(path.endswith(named["blob"]) for path in self.site.blob_files()))
        self.assertEqual(["m1", "m2", "m3", "m4"], self.subjects(self.user))
        self.site.answer("number")
        self.site.imap(self.user).append("INBOX", message("next"))
        # The mark is what tells the agent that this one does not follow.
        self.assertNotEqual(named["uid"], 0)
        self.assertEqual(named["uid"], self.commits()[-1]["appends"][0]["uid"])


class Races(OnSite):
    """One session's change is held before its lock while another changes the same mailbox."""

    def setUp(self):
        super().setUp()
        self.a, self.b = self.site.imap(self.user), self.site.imap(self.user)
        for n in range(1, 6):
            self.a.append("INBOX", message("m%d" % n))
        untagged, _ = self.a.ok("SELECT INBOX (CONDSTORE)")
        self.modseq = re.search(r"HIGHESTMODSEQ (\d+)", " ".join(untagged)).group(1)
        self.b.ok("SELECT INBOX (CONDSTORE)")
        self.site.probe_forget()

    def during(self, command, *others):
        """Sends `command`, lets `others` happen before its lock, returns its answer."""
        release = self.site.hold()
        tag = self.a.send(command)
        wait_for(lambda: os.path.exists(self.site.probe + "/held"), "the change is held")
        for other in others:
            self.b.ok(other)
        release()
        return self.a.finish(tag)

    def test_a_stale_unchangedsince_is_modified_though_an_expunge_came_between(self):
        _, tagged = self.during("STORE 1:2 (UNCHANGEDSINCE %s) +FLAGS ($Mine)" % self.modseq,
                                "STORE 1 +FLAGS ($Theirs)", "STORE 5 +FLAGS (\\Deleted)", "EXPUNGE")
        self.assertRegex(tagged, r"^OK \[MODIFIED 1\]")
        mine = [c for c in self.commits() if any("Mine" in k[0] for k in c["keywords"])]
        self.assertEqual([[["+$Mine", [[2, 2]]]]], [c["keywords"] for c in mine])
        lines, _ = self.b.ok("FETCH 1:2 (FLAGS)")
        self.b.ok("NOOP")
        lines, _ = self.b.ok("FETCH 1:2 (FLAGS)")
        self.assertNotIn("$Mine", lines[0])
        self.assertIn("$Mine", lines[1])

    def test_flags_of_a_mail_that_is_gone_are_no_change(self):
        self.during("STORE 1 +FLAGS (\\Flagged)", "STORE 1 +FLAGS (\\Deleted)", "EXPUNGE")
        self.assertEqual([[4, 0], []], [(c["flags"][0][1:] if c["flags"] else []) for c in self.commits()])
        self.assertEqual(["m2", "m3", "m4", "m5"], self.subjects(self.user))

    def test_an_expunge_by_two_is_one(self):
        self.a.ok("STORE 1:2 +FLAGS.SILENT (\\Deleted)")
        self.b.ok("NOOP")
        self.during("EXPUNGE", "UID EXPUNGE 1")
        self.assertEqual([[1], [2]], [[e[0] for e in c["expunges"]] for c in self.commits() if c["expunges"]])
        self.assertEqual(["m3", "m4", "m5"], self.subjects(self.user))

    def test_an_append_takes_the_uid_that_is_next_under_the_lock(self):
        release = self.site.hold()
        tag = self.a.send("APPEND INBOX", message("held"))
        wait_for(lambda: os.path.exists(self.site.probe + "/held"), "the append is held")
        self.b.append("INBOX", message("between"))
        release()
        _, tagged = self.a.finish(tag)
        self.assertRegex(tagged, r"APPENDUID \d+ 7")
        self.assertEqual(["m1", "m2", "m3", "m4", "m5", "between", "held"], self.subjects(self.user))

    def test_a_request_to_expunge_by_a_foreign_tool_goes_through_the_sequence(self):
        self.site.probe_file("expunge", "2")
        os.chmod(self.site.probe + "/expunge", 0o666)
        self.a.ok("STORE 1 +FLAGS (\\Seen)")
        lines, _ = self.b.ok("NOOP")
        wait_for(lambda: any(c["expunges"] for c in self.commits()) or not self.b.ok("NOOP"), "the request is carried out")
        commit = next(c for c in self.commits() if c["expunges"])
        self.assertEqual(2, commit["expunges"][0][0])
        self.assertEqual(["m1", "m3", "m4", "m5"], self.subjects(self.user))
        self.assertEqual(1, sum(len(c["expunges"]) for c in self.commits()))

    def test_first_deliveries_to_a_new_user_at_once(self):
        user, answers = self.user + "new", []
        threads = [threading.Thread(target=lambda n=n: answers.append(self.site.deliver(message("n%d" % n), user)))
                   for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([{}] * 8, answers)
        self.assertEqual(["n%d" % n for n in range(8)], sorted(self.subjects(user)))


class Failures(OnSite):
    settings = OnSite.settings + "  quota_rule = *:storage=100k\n"

    def test_over_quota_leaves_no_blob(self):
        imap = self.site.imap(self.user)
        imap.append("INBOX", message("fits"))
        before = self.site.blob_files()
        _, tagged = imap.command("APPEND INBOX", message("does not", "x" * 120000 + "\r\n"))
        self.assertRegex(tagged, r"^NO \[OVERQUOTA\]")
        self.assertEqual(before, self.site.blob_files())

    def test_bodies_that_cannot_be_written(self):
        imap = self.site.imap(self.user)
        imap.append("INBOX", message("one"))
        account = os.path.dirname(os.path.dirname(max(self.site.blob_files(), key=os.path.getmtime)))
        os.rename(account, account + ".away")
        with open(account, "w"):
            pass  # a file where the directory should be
        try:
            _, tagged = imap.command("APPEND INBOX", message("two"))
            self.assertRegex(tagged, r"^NO \[SERVERBUG\]")
            self.assertEqual(451, self.site.deliver(message("three"), self.user)[self.user][0])
        finally:
            os.unlink(account)
            os.rename(account + ".away", account)
        self.assertEqual(["one"], self.subjects(self.user))
        imap.append("INBOX", message("four"))

    def test_mailbox_update_is_one_change(self):
        imap = self.site.imap(self.user)
        imap.append("INBOX", message("one"))
        self.site.doveadm("mailbox", "update", "-u", self.user, "--min-next-uid", "100", "--min-highest-modseq", "5000",
                          "INBOX")
        commit = self.commits("INBOX")[-1]
        self.assertEqual([0, 100, 5000], commit["header"])
        self.assertEqual((5000, 100), (commit["modseq"], commit["next_uid"]))
        self.assertEqual(5000, imap.highest_modseq("INBOX"))
        self.assertRegex(imap.append("INBOX", message("two")), r"APPENDUID \d+ 100\]")
        self.site.answer("refuse")
        for option in (("--min-next-uid", "200"), ("--uid-validity", "77")):
            self.assertNotEqual(0, self.site.doveadm("mailbox", "update", "-u", self.user, *option, "INBOX",
                                                     check=False).returncode)
        self.site.answer("number")
        self.assertNotEqual(0, self.site.doveadm("mailbox", "update", "-u", self.user, "--mailbox-guid", "ab" * 16, "INBOX",
                                                 check=False).returncode)
        self.assertRegex(imap.append("INBOX", message("three")), r"APPENDUID \d+ 101\]")

    def logs(self):
        return [d + "/dovecot.index.log" for d, _, files in os.walk("%s/%s/mail/mailboxes" % (self.site.mail, self.user))
                if "dovecot.index.log" in files]

    def test_a_log_cut_anywhere_in_its_last_change_has_it_whole_or_not_at_all(self):
        imap = self.site.imap(self.user)
        imap.append("INBOX", message("first"))
        log, size = self.logs()[0], os.path.getsize(self.logs()[0])
        imap.append("INBOX", message("last"), "\\Seen $K")
        imap.close()
        first, last = self.commits("INBOX")
        with open(log, "rb") as f:
            whole = f.read()
        for cut in range(size, len(whole) + 1, 5):
            with open(log, "r+b") as f:
                f.truncate()
                f.write(whole[:cut])
            imap = self.site.imap(self.user)
            lines, _ = imap.ok("SELECT INBOX")
            exists = int(re.search(r"(\d+) EXISTS", " ".join(lines)).group(1))
            imap.ok("STORE 1 +FLAGS (\\Flagged)")
            imap.close()
            self.assertIn((exists, self.commits("INBOX")[-1]["mark"]), ((1, first["number"]), (2, last["number"])), cut)

    def test_a_list_whose_log_is_cut_keeps_its_names(self):
        imap = self.site.imap(self.user)
        imap.ok("CREATE One")
        imap.append("One", message("in one"))
        imap.close()
        log = "%s/%s/mail/dovecot.list.index.log" % (self.site.mail, self.user)
        with open(log, "ab") as f:
            f.write(b"\x80\x80\x80\xff")
        imap = self.site.imap(self.user)
        self.assertIn('"/" One', " ".join(imap.ok('LIST "" *')[0]))
        self.assertEqual(["in one"], self.subjects(self.user, "One"))
        imap.ok("CREATE Two")
        self.assertIn('"/" Two', " ".join(imap.ok('LIST "" *')[0]))

    def test_a_lost_index_keeps_the_guid_and_is_written_again(self):
        imap = self.site.imap(self.user)
        imap.append("INBOX", message("one"))
        guid = self.site.doveadm("mailbox", "status", "-u", self.user, "guid", "INBOX")
        imap.close()
        for log in self.logs():
            os.unlink(log)
        imap = self.site.imap(self.user)
        imap.ok("SELECT INBOX")
        imap.append("INBOX", message("two"))
        self.assertEqual(["two"], self.subjects(self.user))
        self.assertEqual(guid, self.site.doveadm("mailbox", "status", "-u", self.user, "guid", "INBOX"))
        self.assertEqual("0/0", self.commits("INBOX")[-1]["mark"])
        self.assertIn("the index has no header", self.site.log())

    def tearDown(self):
        self.assertNotRegex(self.site.log(), r"Panic|Fatal(?!.*killed with signal 9)|assert")


class Unlogged(OnSite):
    def unlogged_file(self):
        return os.path.exists("%s/%s/mail/.replica/unlogged" % (self.site.mail, self.user))

    def test_what_nobody_numbers_is_marked_where_there_is_a_mark(self):
        imap = self.site.imap(self.user)
        self.site.answer("off")
        imap.append("INBOX", message("never replicated"))
        self.assertFalse(self.unlogged_file())
        self.site.answer("number")
        imap.append("INBOX", message("numbered"))
        self.assertFalse(self.unlogged_file())
        self.site.answer("off")
        imap.append("INBOX", message("past the log"))
        self.assertTrue(self.unlogged_file())
        self.site.answer("number")
        imap.append("INBOX", message("numbered again"))
        self.assertEqual((True, "1/"), (self.commits()[-1]["unlogged"], self.commits()[-1]["mark"][:2]))

    def test_force_resync_keeps_all_and_says_unlogged(self):
        imap = self.site.imap(self.user)
        for n in range(5):
            imap.append("INBOX", message("m%d" % n), "\\Seen $K")
        imap.ok("SELECT INBOX")
        imap.ok("STORE 2 +FLAGS (\\Deleted)")
        imap.ok("EXPUNGE")
        untagged, _ = imap.ok("SELECT INBOX")
        uid_validity = [line for line in untagged if "UIDVALIDITY" in line]
        fields = "(UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])"
        before, _ = imap.ok("FETCH 1:* " + fields)
        guid = self.site.doveadm("mailbox", "status", "-u", self.user, "guid", "INBOX")
        mark = self.commits()[-1]["number"]
        imap.close()
        self.site.doveadm("force-resync", "-u", self.user, "INBOX")
        imap = self.site.imap(self.user)
        untagged, _ = imap.ok("SELECT INBOX")
        self.assertEqual(uid_validity, [line for line in untagged if "UIDVALIDITY" in line])
        recent = [line.replace(" \\Recent", "") for line in before]
        self.assertEqual(recent, [line.replace(" \\Recent", "") for line in imap.ok("FETCH 1:* " + fields)[0]])
        self.assertEqual(guid, self.site.doveadm("mailbox", "status", "-u", self.user, "guid", "INBOX"))
        imap.append("INBOX", message("after"))
        self.assertEqual((mark, True), (self.commits()[-1]["mark"], self.commits()[-1]["unlogged"]))
        self.assertTrue(self.unlogged_file())


class Bodies(OnSite):
    def blobs_of(self, user, mailbox="INBOX"):
        out = self.site.doveadm("fetch", "-u", user, "storageid", "mailbox", mailbox)
        return re.findall(r"storageid: (\w+)", out)

    def text(self, user, mailbox="INBOX"):
        return self.site.doveadm("fetch", "-u", user, "text", "mailbox", mailbox)

    def test_three_recipients_have_a_body_each(self):
        users = [self.user + x for x in "abc"]
        self.assertEqual({}, self.site.deliver(message("to all", "dear all\r\n"), *users))
        blobs = [self.blobs_of(u)[0] for u in users]
        self.assertEqual(3, len(set(blobs)))
        accounts = {path.split("/")[-3] for path in self.site.blob_files() if os.path.basename(path) in blobs}
        self.assertEqual(3, len(accounts))
        imap = self.site.imap(users[0])
        imap.ok("SELECT INBOX")
        imap.ok("STORE 1 +FLAGS (\\Deleted)")
        imap.ok("EXPUNGE")
        for user in users[1:]:
            self.assertIn("dear all", self.text(user))

    def test_copies_inside_an_account_share_a_body(self):
        imap = self.site.imap(self.user)
        imap.append("INBOX", message("shared"))
        imap.ok("SELECT INBOX")
        imap.ok("COPY 1 Trash")
        imap.ok("MOVE 1 Trash")
        self.assertEqual(2, len(self.blobs_of(self.user, "Trash")))
        self.assertEqual(1, len(set(self.blobs_of(self.user, "Trash"))))
        self.assertEqual(2, self.text(self.user, "Trash").count("Subject: shared"))

    def test_an_expunge_deletes_no_blob(self):
        imap = self.site.imap(self.user)
        imap.append("INBOX", message("expunged"))
        blob = self.blobs_of(self.user)[0]
        imap.ok("SELECT INBOX")
        imap.ok("STORE 1 +FLAGS (\\Deleted)")
        imap.ok("EXPUNGE")
        self.assertTrue(any(path.endswith(blob) for path in self.site.blob_files()))

    def test_a_lost_or_damaged_blob_is_named_and_the_mail_stays(self):
        imap = self.site.imap(self.user)
        imap.append("INBOX", message("gone"))
        imap.append("INBOX", message("cut"))
        paths = {os.path.basename(path): path for path in self.site.blob_files()}
        gone, cut = self.blobs_of(self.user)
        os.unlink(paths[gone])
        os.truncate(paths[cut], os.path.getsize(paths[cut]) - 3)
        for n in (1, 2):
            reader = self.site.imap(self.user)
            reader.ok("SELECT INBOX")
            with self.assertRaises((EOFError, AssertionError)):
                reader.ok("FETCH %d BODY.PEEK[TEXT]" % n)
        self.assertIn(gone, self.site.log())
        self.assertIn("2 EXISTS", " ".join(self.site.imap(self.user).ok("SELECT INBOX")[0]))

    def test_cache_loss_loses_nothing(self):
        imap = self.site.imap(self.user)
        imap.append("INBOX", MIXED)
        imap.ok("SELECT INBOX")
        fetch = "FETCH 1 (ENVELOPE BODYSTRUCTURE INTERNALDATE RFC822.SIZE)"
        before, _ = imap.ok(fetch)
        imap.close()
        for d, _, files in os.walk("%s/%s" % (self.site.mail, self.user)):
            for name in files:
                if name == "dovecot.index.cache":
                    os.unlink(d + "/" + name)
        imap = self.site.imap(self.user)
        imap.ok("SELECT INBOX")
        self.assertEqual(before, imap.ok(fetch)[0])

    def test_pop3_uidls_survive_cache_loss_and_a_copy(self):
        self.site.answer("off")
        source = self.site.dir + "/maildir-" + self.user
        for sub in ("cur", "new", "tmp"):
            os.makedirs(source + "/" + sub)
        with open(source + "/new/1.host", "wb") as f:
            f.write(message("migrated"))
        with open(source + "/dovecot-uidlist", "w") as f:
            f.write("3 V1 N2 G00000000000000000000000000000001\n1 Pmy-own-uidl :1.host\n")
        self.site.own(source)
        self.site.doveadm("backup", "-R", "-u", self.user, "maildir:" + source)
        self.assertEqual([b"1 my-own-uidl"], self.site.pop3(self.user).uidl()[1])
        for d, _, files in os.walk("%s/%s" % (self.site.mail, self.user)):
            for name in files:
                if name == "dovecot.index.cache":
                    os.unlink(d + "/" + name)
        self.assertEqual([b"1 my-own-uidl"], self.site.pop3(self.user).uidl()[1])
        self.site.answer("number")
        imap = self.site.imap(self.user)
        imap.ok("SELECT INBOX")
        imap.ok("COPY 1 Trash")
        self.assertEqual("my-own-uidl", self.commits("Trash")[-1]["appends"][0]["uidl"])

    def test_bodies_behind_a_compressing_file_system(self):
        site = Site(BUILD, plugins=("zlib",), plugin_settings="zlib_save = gz\n").start()
        try:
            imap = site.imap("z")
            imap.append("INBOX", message("squeezed", "again and again\r\n" * 500))
            imap.ok("SELECT INBOX")
            lines, _ = imap.ok("FETCH 1 (RFC822.SIZE BODY.PEEK[TEXT])")
            self.assertEqual(500, lines[0].count("again and again"))
            size = int(re.search(r"RFC822.SIZE (\d+)", lines[0]).group(1))
            self.assertLess(os.path.getsize(site.blob_files()[0]), size / 4)
            self.assertNotRegex(site.log(), BAD_LOG)
        finally:
            site.remove()


class Page(OnSite):
    """docs/formats/cbox.md, read by a program that shares no code with the driver."""

    def test_a_blob_is_what_its_page_says(self):
        imap = self.site.imap(self.user)
        imap.append("INBOX", message("by the page", "one\r\ntwo\r\n"), date="01-Feb-2003 04:05:06 +0000")
        append, uid_validity = self.commits()[-1]["appends"][0], self.commits()[-1]["uid_validity"]
        path = next(p for p in self.site.blob_files() if p.endswith(append["blob"]))
        with open(path, "rb") as f:
            blob = f.read()
        size, crc, end = struct.unpack(">II8s", blob[-16:])
        body, trailer = blob[:-size], blob[-size:]
        self.assertEqual((b"cboxtail", crc), (end, zlib.crc32(trailer[:-12])))
        begin, version, reserved, stored, physical, virtual, account, mailbox, guid, uid, received, saved, order, uidl = \
            struct.unpack(">8sHHQQQ16s16s16sIIIII", trailer[:104])
        self.assertEqual((b"cboxblob", 1, 0, 0, 0, 0), (begin, version, reserved, uid, order, uidl))
        self.assertEqual(zlib.crc32(body), struct.unpack(">I", trailer[104:108])[0])
        self.assertEqual([len(body)] * 3, [stored, physical, virtual])
        self.assertEqual((append["guid"], append["received"], append["saved"]), (guid.hex(), received, saved))
        self.assertEqual(1044072306, received)
        self.assertIn(mailbox.hex(), self.site.doveadm("mailbox", "status", "-u", self.user, "guid", "INBOX"))
        self.assertEqual("%s/%s/%s" % (account.hex(), append["blob"][:2], append["blob"]), "/".join(path.split("/")[-3:]))
        self.assertTrue(body.endswith(b"one\r\ntwo\r\n") and uid_validity)


class Shared(OnSite):
    plugins = ("acl", "lazy_expunge", "notify", "mail_log")
    settings = "acl = vfile\n  lazy_expunge = .EXPUNGED\n"
    extra = """
namespace shared {
  type = shared
  prefix = shared/%%u/
  separator = /
  location = cbox:%%h/mail:LAYOUT=index:INDEXPVT=~/shared/%%u
  subscriptions = no
  list = children
}
namespace archive {
  prefix = archive/
  separator = /
  location = cbox:~/archive:LAYOUT=fs
}
protocol imap {
  mail_plugins = $mail_plugins imap_acl
}
"""

    def test_copies_across_accounts_have_bodies_of_their_own(self):
        owner, guest = self.user, self.user + "guest"
        alice = self.site.imap(owner)
        alice.ok("CREATE Team")
        alice.append("Team", message("team", "for the team\r\n"))
        alice.ok("SETACL Team %s lrswite" % guest)
        bob = self.site.imap(guest)
        bob.ok("SELECT shared/%s/Team" % owner)
        self.assertIn("for the team", bob.ok("FETCH 1 BODY.PEEK[TEXT]")[0][0])
        bob.ok("COPY 1 INBOX")
        bob.append("shared/%s/Team" % owner, message("from bob"))
        accounts = {c["appends"][0]["blob"]: c["mailbox"] for c in self.commits() if c["appends"]}
        prefixes = {}
        for path in self.site.blob_files():
            if os.path.basename(path) in accounts:
                prefixes.setdefault(path.split("/")[-3], []).append(accounts[os.path.basename(path)])
        self.assertEqual([["INBOX"], ["Team", "shared/%s/Team" % owner]], sorted(sorted(p) for p in prefixes.values()))
        # A flag that the reader keeps for itself raises the owner's MODSEQ and nothing else.
        bob.ok("STORE 1 +FLAGS (\\Seen)")
        self.assertEqual([[[1, 1], 0, 0]], self.commits()[-1]["flags"])
        self.assertEqual(self.commits()[-1]["modseq"], alice.highest_modseq("Team"))
        alice.ok("SELECT Team")
        self.assertNotIn("\\Seen", alice.ok("FETCH 1 FLAGS")[0][0])

    def test_what_is_expunged_lazily_is_copied_first(self):
        imap = self.site.imap(self.user)
        imap.append("INBOX", message("lazy", "not yet\r\n"))
        imap.ok("SELECT INBOX")
        imap.ok("STORE 1 +FLAGS (\\Deleted)")
        imap.ok("EXPUNGE")
        imap.ok("SELECT .EXPUNGED")
        self.assertIn("not yet", imap.ok("FETCH 1 BODY.PEEK[TEXT]")[0][0])

    def test_another_layout(self):
        imap = self.site.imap(self.user)
        imap.ok("CREATE archive/2020/Deep")
        imap.append("INBOX", message("old"))
        imap.ok("SELECT INBOX")
        imap.ok("MOVE 1 archive/2020/Deep")
        imap.ok("RENAME archive/2020 archive/2021")
        self.assertEqual(["old"], self.subjects(self.user, "archive/2021/Deep"))
        imap.ok("DELETE archive/2021/Deep")

    def test_two_way_sync_with_another_format(self):
        mdbox = "mdbox:%s/%s/other" % (self.site.mail, self.user)
        imap = self.site.imap(self.user)
        imap.append("INBOX", message("one"))
        self.site.doveadm("sync", "-u", self.user, mdbox)
        self.site.doveadm("-o", "mail_location=" + mdbox, "flags", "add", "-u", self.user, "\\Flagged", "mailbox", "INBOX", "all")
        self.site.doveadm("-o", "mail_location=" + mdbox, "save", "-u", self.user, "-m", "INBOX", stdin=message("two").decode())
        imap.append("INBOX", message("three"))
        self.site.doveadm("sync", "-u", self.user, mdbox)
        self.assertEqual(["one", "three", "two"], sorted(self.subjects(self.user)))
        self.assertIn("\\Flagged", self.site.doveadm("fetch", "-u", self.user, "flags", "mailbox", "INBOX", "uid", "1"))


class Killed(OnSite):
    """SIGKILL at any moment: whatever was acknowledged is there, each mark belongs to what its index holds."""

    def test_processes_in_mid_load(self):
        acknowledged, stop = [], threading.Event()

        def write(n):
            k = 0
            while not stop.is_set():
                try:
                    imap = self.site.imap(self.user)
                    while not stop.is_set():
                        k += 1
                        imap.append("INBOX", message("k%d.%d" % (n, k)), "$K")
                        acknowledged.append("k%d.%d" % (n, k))
                        if k % 3 == 0:
                            imap.ok("SELECT INBOX")
                            imap.ok("STORE 1 +FLAGS (\\Flagged)")
                            imap.ok("STORE 1 -FLAGS (\\Flagged)")
                except (EOFError, OSError):
                    pass
        threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        random.seed(7)
        for kill in range(25):
            before = len(acknowledged)
            wait_for(lambda: len(acknowledged) >= before + 4, "four more appends")
            pids = {c["pid"] for c in self.site.calls("commit")[-8:]}
            try:
                os.kill(random.choice(sorted(pids)), signal.SIGKILL)
            except ProcessLookupError:
                pass
        stop.set()
        for thread in threads:
            thread.join()
        there = self.subjects(self.user)
        self.assertEqual([], sorted(set(acknowledged) - set(there)))
        self.assertEqual(len(there), len(set(there)))
        commits = self.commits("INBOX")
        numbers = [c["number"] for c in commits]
        # A number that a killed process got is the only one that no later mark names.
        for commit, later in zip(commits, commits[1:]):
            self.assertIn(later["mark"], numbers[:numbers.index(later["number"])])
            if later["mark"] != commit["number"]:
                self.assertNotIn(commit["number"], [c["mark"] for c in commits])


class Deliveries(OnSite):
    def test_sieve_files_into_a_mailbox(self):
        home = "%s/%s" % (self.site.mail, self.user)
        os.makedirs(home, exist_ok=True)
        with open(home + "/.dovecot.sieve", "w") as f:
            f.write('require ["fileinto", "mailbox", "imap4flags"];\n'
                    'if header :contains "subject" "work" { fileinto :create :flags "\\\\Flagged" "Work"; }\n')
        self.site.own(home)
        self.assertEqual({}, self.site.deliver(message("work"), self.user))
        self.assertEqual({}, self.site.deliver(message("play"), self.user))
        self.assertEqual((["work"], ["play"]), (self.subjects(self.user, "Work"), self.subjects(self.user)))
        self.assertEqual(1, self.commits("Work")[-1]["appends"][0]["flags"] >> 1 & 1)

    def test_quota_counts(self):
        imap = self.site.imap(self.user)
        for n in range(3):
            imap.append("INBOX", message("q%d" % n, "x" * 2000 + "\r\n"))

        def used():
            out = self.site.doveadm("-f", "tab", "quota", "get", "-u", self.user)
            return [int(line.split("\t")[2]) for line in out.splitlines()[1:]]
        sizes = used()
        self.assertEqual(3, sizes[1])
        imap.ok("SELECT INBOX")
        imap.ok("STORE 1 +FLAGS (\\Deleted)")
        imap.ok("EXPUNGE")
        imap.ok("COPY 1 Trash")
        self.assertEqual((3, sizes[0]), (used()[1], used()[0]))
        imap.ok("MOVE 1 Trash")
        self.assertEqual(3, used()[1])
        self.site.doveadm("quota", "recalc", "-u", self.user)
        self.assertEqual(3, used()[1])

    def test_doveadm(self):
        imap = self.site.imap(self.user)
        for n in range(4):
            imap.append("INBOX", message("d%d" % n), "\\Seen $Key")
        self.site.doveadm("move", "-u", self.user, "Trash", "mailbox", "INBOX", "subject", "d0")
        self.site.doveadm("copy", "-u", self.user, "Trash", "mailbox", "INBOX", "subject", "d1")
        self.assertEqual(["d0", "d1"], self.subjects(self.user, "Trash"))
        self.site.doveadm("flags", "add", "-u", self.user, "\\Flagged", "mailbox", "INBOX", "all")
        self.site.doveadm("expunge", "-u", self.user, "mailbox", "INBOX", "subject", "d3")
        self.site.doveadm("save", "-u", self.user, "-m", "INBOX", stdin=message("saved").decode())
        self.assertEqual(["d1", "d2", "saved"], self.subjects(self.user))
        other = self.user + "copy"
        self.site.doveadm("import", "-u", other, "-U", self.user, "cbox:~/mail:LAYOUT=index", "Old", "mailbox", "INBOX")
        self.assertEqual(["d1", "d2", "saved"], self.subjects(other, "Old/INBOX"))
        mine, theirs = ({b for b in re.findall(r"storageid: (\w+)", self.site.doveadm(
            "fetch", "-u", user, "storageid", "mailbox", box))} for user, box in ((self.user, "INBOX"), (other, "Old/INBOX")))
        self.assertFalse(mine & theirs)

    def test_backup_from_another_format_keeps_uids_dates_and_flags(self):
        imap = self.site.imap(self.user)
        imap.append("INBOX", message("one"), "\\Seen", "01-Feb-2003 04:05:06 +0000")
        imap.append("INBOX", message("two"), "$Label")
        imap.ok("SELECT INBOX")
        imap.ok("STORE 1 +FLAGS (\\Flagged)")
        mdbox = "mdbox:%s/%s/mdbox" % (self.site.mail, self.user)
        self.site.doveadm("backup", "-u", self.user, mdbox)
        other = self.user + "b"
        self.site.doveadm("backup", "-R", "-u", other, mdbox)
        want, got = (self.site.doveadm("fetch", "-u", user, "uid guid flags date.received date.saved size.physical body",
                                       "mailbox", "INBOX") for user in (self.user, other))
        self.assertEqual(re.sub(r"date.saved.*", "", want), re.sub(r"date.saved.*", "", got))

    def test_idle_and_notify_wake(self):
        watcher, other = self.site.imap(self.user), self.site.imap(self.user)
        watcher.ok("SELECT INBOX")
        tag = watcher.send("IDLE")
        self.assertTrue(watcher.line().startswith("+"))
        other.append("INBOX", message("wake"))
        self.assertEqual("* 1 EXISTS", watcher.line())
        self.assertEqual("* 1 RECENT", watcher.line())
        other.ok("SELECT INBOX")
        other.ok("STORE 1 +FLAGS (\\Deleted)")
        self.assertIn("\\Deleted", watcher.line())
        other.ok("EXPUNGE")
        self.assertEqual("* 1 EXPUNGE", watcher.line())
        watcher.socket.sendall(b"DONE\r\n")
        watcher.finish(tag)
        watcher.ok("NOTIFY SET (personal (MessageNew MessageExpunge))")
        other.append("Trash", message("elsewhere"))
        self.assertRegex(watcher.line(), r"STATUS Trash .*MESSAGES 1")

    def test_a_mailbox_is_deleted_without_a_trace_of_pending_expunges(self):
        imap = self.site.imap(self.user)
        imap.ok("CREATE Short")
        for n in range(3):
            imap.append("Short", message("s%d" % n))
        imap.ok("DELETE Short")
        imap.ok("CREATE Short")
        self.assertIn("MESSAGES 0", imap.ok("STATUS Short (MESSAGES)")[0][0])

    def test_many_writers_of_one_mailbox(self):
        def write(n):
            imap = self.site.imap(self.user)
            for k in range(15):
                imap.append("INBOX", message("w%d.%d" % (n, k)))
            imap.close()
        threads = [threading.Thread(target=write, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(90, len(set(self.subjects(self.user))))
        commits = self.commits("INBOX")
        self.assertEqual([c["number"] for c in commits[:-1]], [c["mark"] for c in commits[1:]])
        self.assertEqual(list(range(1, 91)), [a["uid"] for c in commits for a in c["appends"]])


if __name__ == "__main__":
    if not BUILD:
        sys.exit(__doc__)
    unittest.main(verbosity=2)
