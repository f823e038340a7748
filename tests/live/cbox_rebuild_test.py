#!/usr/bin/env python3
"""Indexes that are lost, whole or in part: what the bodies still tell comes back, into the right mailbox, once."""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cbox_site import OnSite, message, run  # noqa: E402


class Rebuild(OnSite):
    def setUp(self):
        super().setUp()
        self.site.answer("off")  # no log: these accounts have no replica
        self.imap = self.site.imap(self.user)

    def fill(self, mailbox, *subjects, date=""):
        for subject in subjects:
            self.imap.append(mailbox, message(subject), date=date)

    def index_dir(self, mailbox, user=None):
        guid = re.search(r"guid=(\w+)", self.site.doveadm("mailbox", "status", "-u", user or self.user, "guid", mailbox)).group(1)
        return "%s/%s/mail/mailboxes/%s" % (self.site.mail, user or self.user, guid)

    def lose(self, *mailboxes):
        dirs = [self.index_dir(mailbox) for mailbox in mailboxes]
        self.imap.close()
        for path in dirs:
            for name in os.listdir(path):
                os.unlink(path + "/" + name)

    def resync(self, mailbox):
        return self.site.doveadm("force-resync", "-u", self.user, mailbox, check=False)

    def found(self, mailbox):
        return sorted(self.subjects(self.user, mailbox))

    def keywords(self, mailbox):
        out = self.site.doveadm("-f", "tab", "fetch", "-u", self.user, "hdr.subject flags", "mailbox", mailbox)
        return {line.split("\t")[0] for line in out.splitlines()[1:] if "$Recovered" in line}

    def tearDown(self):
        self.assertNotRegex(self.site.log(), r"Panic|Fatal(?!.*killed with signal 9)|assert")

    # --- into the right mailbox ---

    def test_each_mail_comes_back_where_it_was_saved(self):
        self.imap.ok("CREATE Work")
        self.fill("INBOX", "inbox 1", "inbox 2")
        self.fill("Work", "work 1", "work 2")
        guid = self.index_dir("Work")
        self.lose("INBOX", "Work")
        self.assertEqual([], self.found("INBOX"))
        for mailbox in ("INBOX", "Work"):
            self.assertEqual(0, self.resync(mailbox).returncode)
        self.assertEqual(["inbox 1", "inbox 2"], self.found("INBOX"))
        self.assertEqual(["work 1", "work 2"], self.found("Work"))
        self.assertEqual(guid, self.index_dir("Work"))
        self.assertEqual(set(), self.keywords("INBOX") | self.keywords("Work"))

    def test_other_mailboxes_and_accounts_are_as_they_were(self):
        other = self.user + "-other"
        self.site.imap(other).append("INBOX", message("of another"))
        self.imap.ok("CREATE Work")
        self.fill("Work", "work 1")
        self.fill("INBOX", "inbox 1")
        self.lose("INBOX")
        trace = self.site.dir + "/trace-" + self.user
        subprocess.run(["strace", "-f", "-e", "trace=open,openat", "-o", trace, "doveadm", "-c", self.site.config, "force-resync",
                        "-u", self.user, "INBOX"], check=True, capture_output=True)
        self.assertEqual(["inbox 1"], self.found("INBOX"))
        self.assertEqual(["work 1"], self.found("Work"))
        with open(trace) as f:
            opened = f.read()
        accounts = {m for m in re.findall(r"/blobs/(\w{32})", opened)}
        self.assertEqual(1, len(accounts), "no other account's bodies are looked at")

    def test_what_came_after_the_loss_stays_and_is_not_doubled(self):
        self.fill("INBOX", "before 1", "before 2")
        self.lose("INBOX")
        self.imap = self.site.imap(self.user)
        uid = re.search(r"APPENDUID \d+ (\d+)", self.imap.append("INBOX", message("after"), "\\Seen")).group(1)
        for _ in range(2):
            self.assertEqual(0, self.resync("INBOX").returncode)
        self.assertEqual(["after", "before 1", "before 2"], self.found("INBOX"))
        self.assertIn("after", self.site.doveadm("fetch", "-u", self.user, "hdr.subject", "mailbox", "INBOX", "uid", uid, "seen"))

    def test_what_another_mailbox_has_is_not_doubled(self):
        self.fill("INBOX", "stays", "moved", "copied")
        self.imap.ok("SELECT INBOX")
        self.imap.ok("MOVE 2 Trash")
        self.imap.ok("COPY 2 Trash")
        self.lose("INBOX")
        self.assertEqual(0, self.resync("INBOX").returncode)
        self.assertEqual(["stays"], self.found("INBOX"))
        self.assertEqual(["copied", "moved"], self.found("Trash"))

    def test_what_was_moved_into_a_lost_mailbox_is_there_again_and_tagged(self):
        self.imap.ok("CREATE Archive")
        self.fill("INBOX", "stays", "archived")
        self.fill("Archive", "saved there")
        self.imap.ok("SELECT INBOX")
        self.imap.ok("MOVE 2 Archive")
        self.lose("Archive")
        self.assertEqual(0, self.resync("Archive").returncode)
        self.assertEqual(["archived", "saved there"], self.found("Archive"))
        self.assertEqual({"archived"}, self.keywords("Archive"))
        self.assertEqual(["stays"], self.found("INBOX"))

    # --- what a mail has ---

    def test_dates_sizes_guids_and_uidls_come_back(self):
        source = self.site.dir + "/maildir-" + self.user
        for sub in ("cur", "new", "tmp"):
            os.makedirs(source + "/" + sub)
        with open(source + "/new/1.host", "wb") as f:
            f.write(message("migrated", "x" * 3000 + "\r\n"))
        with open(source + "/dovecot-uidlist", "w") as f:
            f.write("3 V1 N9 G00000000000000000000000000000001\n7 Pmy-own-uidl :1.host\n")
        self.site.own(source)
        self.site.doveadm("backup", "-R", "-u", self.user, "maildir:" + source)
        self.imap = self.site.imap(self.user)
        self.fill("INBOX", "dated", date="01-Feb-2003 04:05:06 +0000")
        what = ("fetch", "-u", self.user, "guid size.physical size.virtual date.received date.saved text", "mailbox", "INBOX")
        before, uidls = self.site.doveadm(*what), self.site.pop3(self.user).uidl()[1]
        self.lose("INBOX")
        self.assertEqual(0, self.resync("INBOX").returncode)
        self.assertEqual(before, self.site.doveadm(*what))
        self.assertEqual([b"1 my-own-uidl"] * 2, [uidls[0], self.site.pop3(self.user).uidl()[1][0]])
        self.assertEqual(["7", "8"], re.findall(r"^uid: (\d+)", self.site.doveadm("fetch", "-u", self.user, "uid", "mailbox", "INBOX"), re.M))

    def test_the_mailbox_has_another_uidvalidity_and_is_usable(self):
        self.fill("INBOX", "one", "two")
        before = re.search(r"UIDVALIDITY (\d+)", " ".join(self.imap.ok("SELECT INBOX")[0])).group(1)
        self.lose("INBOX")
        self.resync("INBOX")
        self.imap = self.site.imap(self.user)
        after = re.search(r"UIDVALIDITY (\d+)", " ".join(self.imap.ok("SELECT INBOX")[0])).group(1)
        self.assertGreater(int(after), int(before))
        self.imap.ok("STORE 1 +FLAGS (\\Deleted)")
        self.imap.ok("EXPUNGE")
        self.fill("INBOX", "three")
        self.assertEqual(2, len(self.found("INBOX")))
        self.assertRegex(self.site.doveadm("quota", "get", "-u", self.user), r"MESSAGE\s+2\s")

    # --- trouble ---

    def test_a_body_that_cannot_be_read_now_keeps_the_mailbox_lost(self):
        self.fill("INBOX", "one", "two")
        path = self.blob_of_last()
        self.lose("INBOX")
        os.chmod(path, 0)
        self.assertNotEqual(0, self.resync("INBOX").returncode)
        self.assertEqual([], self.found("INBOX"))
        os.chmod(path, 0o600)
        self.assertEqual(0, self.resync("INBOX").returncode)
        self.assertEqual(["one", "two"], self.found("INBOX"))

    def blob_of_last(self):
        account = self.site.doveadm("fetch", "-u", self.user, "storageid", "mailbox", "INBOX")
        blobs = re.findall(r"storageid: (\w+)", account)
        return next(path for path in self.site.blob_files() if path.endswith(blobs[-1]))

    def test_damaged_and_foreign_bodies_are_named_and_passed_over(self):
        other = self.user + "-other"
        self.site.imap(other).append("INBOX", message("of another"))
        foreign = max(self.site.blob_files(), key=os.path.getmtime)
        self.fill("INBOX", "one", "two")
        path = self.blob_of_last()
        self.lose("INBOX")
        os.truncate(path, 100)
        copy = os.path.dirname(path) + "/" + os.path.basename(path)[:2] + "0" * 30
        with open(foreign, "rb") as source, open(copy, "wb") as target:
            target.write(source.read())
        result = self.resync("INBOX")
        self.assertEqual(0, result.returncode)
        self.assertEqual(["one"], self.found("INBOX"))
        log = result.stderr + self.site.log()
        self.assertIn(os.path.basename(path) + " is passed over", log)
        self.assertIn(os.path.basename(copy) + " is passed over: it is another account's", log)

    def test_killed_at_any_moment_it_finds_all_of_them_once(self):
        subjects = ["mail %03d" % n for n in range(300)]
        self.fill("INBOX", *subjects)
        self.lose("INBOX")
        for stop_after in (1, 5, 20, 80, 200):
            process = subprocess.Popen(["strace", "-f", "-o", "/dev/null", "-e", "trace=openat", "-e",
                                        "inject=openat:signal=KILL:when=%d" % (100 + stop_after * 3), "doveadm", "-c",
                                        self.site.config, "force-resync", "-u", self.user, "INBOX"],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            process.wait(120)
        self.assertEqual(0, self.resync("INBOX").returncode)
        self.assertEqual(subjects, self.found("INBOX"))

    def test_two_at_once_find_all_of_them_once(self):
        subjects = ["mail %03d" % n for n in range(100)]
        self.fill("INBOX", *subjects)
        self.lose("INBOX")
        command = ["doveadm", "-c", self.site.config, "force-resync", "-u", self.user, "INBOX"]
        both = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(2)]
        self.assertEqual([0, 0], [process.wait(120) for process in both])
        self.assertEqual(subjects, self.found("INBOX"))

    def test_a_whole_mailbox_is_left_alone(self):
        self.fill("INBOX", "one", "two")
        self.imap.ok("SELECT INBOX")
        self.imap.ok("STORE 1 +FLAGS (\\Deleted)")
        self.imap.ok("EXPUNGE")
        before = re.search(r"UIDVALIDITY (\d+)", " ".join(self.imap.ok("SELECT INBOX")[0])).group(1)
        self.assertEqual(0, self.resync("INBOX").returncode)
        self.assertEqual(["two"], self.found("INBOX"))
        self.assertEqual(before, re.search(r"UIDVALIDITY (\d+)", " ".join(self.imap.ok("SELECT INBOX")[0])).group(1))


if __name__ == "__main__":
    run()
