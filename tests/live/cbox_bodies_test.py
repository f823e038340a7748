#!/usr/bin/env python3
"""Bodies and indexes of cbox: what is shared, what is lost and what is not."""
import os
import random
import re
import signal
import stat
import struct
import sys
import threading
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cbox_site import BAD_LOG, MIXED, OnSite, Site, build_dir, message, wait_for, run  # noqa: E402


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

    def test_a_directory_is_sticky_once_its_name_is_durable(self):
        self.site.imap(self.user).append("INBOX", message("first"))
        blob = self.blobs_of(self.user)[0]
        path = next(p for p in self.site.blob_files() if p.endswith(blob))
        folders = [os.path.dirname(path), os.path.dirname(os.path.dirname(path))]
        for folder in folders:
            self.assertTrue(os.stat(folder).st_mode & stat.S_ISVTX, folder)
        self.assertFalse(os.stat(self.site.blobs).st_mode & stat.S_ISVTX)
        os.chmod(folders[1], 0o700)  # as a restore may leave it: the next new directory below it looks further up
        imap = self.site.imap(self.user)
        while not os.stat(folders[1]).st_mode & stat.S_ISVTX:
            imap.append("INBOX", message("more"))

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
        site = Site(build_dir(), plugins=("zlib",), plugin_settings="zlib_save = gz\n").start()
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
            for body in ("short\r\n", "large\r\n" * 9000):
                _, tagged = imap.command("APPEND INBOX", message("two", body))
                self.assertRegex(tagged, r"^NO \[SERVERBUG\]")
                self.assertEqual(451, self.site.deliver(message("three", body), self.user)[self.user][0])
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

    def test_a_lost_list_finds_its_mailboxes_again(self):
        imap = self.site.imap(self.user)
        imap.ok("CREATE Work/Deep")
        imap.append("Work/Deep", message("deep"))
        number = self.commits("Work/Deep")[-1]["number"]
        imap.close()
        for name in os.listdir("%s/%s/mail" % (self.site.mail, self.user)):
            if name.startswith("dovecot.list.index"):
                os.unlink("%s/%s/mail/%s" % (self.site.mail, self.user, name))
        self.assertEqual(["deep"], self.subjects(self.user, "Work/Deep"))
        self.site.imap(self.user).append("Work/Deep", message("deeper"))
        self.assertEqual(number, self.commits("Work/Deep")[-1]["mark"])

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


if __name__ == "__main__":
    run()
