#!/usr/bin/env python3
"""Bodies that are not there, late, damaged or not the mail's own: each is named, and no other mail suffers."""
import os
import poplib
import re
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cbox_site import OnSite, message, wait_for, run  # noqa: E402

WAIT_S = 1


class Missing(OnSite):
    settings = OnSite.settings + "  cbox_body_wait = %ds\n" % WAIT_S
    extra = """
protocol imap {
  imap_fetch_failure = no-after
}
metric cbox_bodies_unavailable {
  filter = event=cbox_body_unavailable
  group_by = reason
}
"""

    def fill(self, count=5, user=None):
        """That many mails in INBOX; the files of their blobs, by UID from 1."""
        user = user or self.user
        imap = self.site.imap(user)
        for n in range(1, count + 1):
            imap.append("INBOX", message("mail %d" % n, "body %d\r\n" % n * 20))
        imap.close()
        blobs = re.findall(r"storageid: (\w+)", self.site.doveadm("fetch", "-u", user, "storageid", "mailbox", "INBOX"))
        files = {os.path.basename(path): path for path in self.site.blob_files()}
        return [None] + [files[blob] for blob in blobs]

    def reader(self, user=None):
        imap = self.site.imap(user or self.user)
        imap.ok("SELECT INBOX")
        return imap

    def complaints(self, path):
        return [line for line in self.site.log().splitlines() if os.path.basename(path) in line and "cbox: body is" in line]

    def assert_named(self, path, uid, reason):
        line = self.complaints(path)[-1]
        for what in ("account " + self.user, "Mailbox INBOX: UID %d: " % uid, "body is " + reason):
            self.assertIn(what, line)

    def fetch_all_but(self, imap, missing, reason, count=5):
        """One FETCH of all: the bodies of all but one, and a NO that names that one."""
        lines, tagged = imap.command("UID FETCH 1:* BODY.PEEK[]")
        got = [n for n in range(1, count + 1) if "body %d\r\n" % n * 20 in "".join(lines)]
        self.assertEqual([n for n in range(1, count + 1) if n != missing], got)
        self.assertRegex(tagged, r"^NO .*UID %d in INBOX is %s" % (missing, reason))
        imap.ok("NOOP")

    def damage(self, path, how):
        with open(path, "r+b") as f:
            blob = bytearray(f.read())
            how(blob)
            f.seek(0)
            f.write(blob)
            f.truncate()

    # --- IMAP ---

    def test_a_missing_body_stops_no_other_and_keeps_the_connection(self):
        paths = self.fill()
        os.unlink(paths[3])
        imap = self.reader()
        self.fetch_all_but(imap, 3, "missing")
        self.assert_named(paths[3], 3, "missing")
        self.assertEqual(1, len(self.complaints(paths[3])), "one FETCH, one line")
        self.assertIn("body 5", "".join(imap.ok("UID FETCH 5 BODY[]")[0]))
        self.assertIn("5 EXISTS", " ".join(self.reader().ok("SELECT INBOX")[0]))
        self.assertRegex(self.site.doveadm("stats", "dump"), r"cbox_bodies_unavailable_missing\tduration\t[1-9]")

    def test_a_damaged_body_is_refused_and_named(self):
        def flip(at):
            def change(blob):
                blob[at] ^= 1
            return change

        def cut(blob):
            del blob[-3:]

        def hole(blob):
            del blob[10:20]

        paths = self.fill(5)
        for change in (flip(-20), flip(-60), flip(-2), cut, hole, lambda blob: blob.clear()):
            with open(paths[2], "rb") as f:
                whole = f.read()
            self.damage(paths[2], change)
            self.fetch_all_but(self.reader(), 2, "damaged")
            self.assert_named(paths[2], 2, "damaged")
            with open(paths[2], "wb") as f:
                f.write(whole)
        self.assertIn("body 2", "".join(self.reader().ok("UID FETCH 2 BODY[]")[0]))

    def test_a_large_body_that_is_empty_or_cut_is_refused_and_named(self):
        imap = self.site.imap(self.user)
        imap.append("INBOX", message("large", "a long line of a large mail\r\n" * 20000))
        path = max(self.site.blob_files(), key=os.path.getmtime)
        for size in (500000, 10, 0):
            os.truncate(path, size)
            self.assertRegex(self.reader().command("UID FETCH 1:* BODY.PEEK[]")[1], "^NO .*UID 1 in INBOX is damaged")
        self.assert_named(path, 1, "damaged")

    def test_a_foreign_body_is_refused_and_named(self):
        paths = self.fill()
        of_another = self.fill(1, self.user + "-another")[1]
        for other in (paths[5], of_another):
            shutil.copy(other, paths[4])
            self.fetch_all_but(self.reader(), 4, "foreign")
            self.assert_named(paths[4], 4, "foreign")

    def test_a_body_that_cannot_be_read_is_not_waited_for(self):
        paths = self.fill()
        os.unlink(paths[1])
        os.mkdir(paths[1])
        begin = time.monotonic()
        self.fetch_all_but(self.reader(), 1, "unreadable")
        self.assertLess(time.monotonic() - begin, WAIT_S)

    def test_a_late_body_is_waited_for(self):
        paths = self.fill()
        os.rename(paths[3], paths[3] + ".late")
        imap = self.reader()
        tag = imap.send("UID FETCH 1:* BODY.PEEK[]")
        wait_for(self.an_imap_process_sleeps, "the process waits for the body", 5)
        os.rename(paths[3] + ".late", paths[3])
        lines, tagged = imap.finish(tag)
        self.assertRegex(tagged, "^OK")
        self.assertIn("body 3", "".join(lines))
        self.assertEqual([], self.complaints(paths[3]))

    def an_imap_process_sleeps(self):
        for pid in subprocess.run(["pgrep", "-P", str(self.site.process.pid), "-x", "imap"],
                                  capture_output=True, text=True).stdout.split():
            with open("/proc/%s/wchan" % pid) as f:
                if "nanosleep" in f.read():
                    return True
        return False

    def test_the_wait_is_bounded_for_all_of_a_command(self):
        paths = self.fill(30)
        for path in paths[1:26]:
            os.unlink(path)
        begin = time.monotonic()
        lines, tagged = self.reader().command("UID FETCH 1:* BODY.PEEK[]")
        took = time.monotonic() - begin
        self.assertRegex(tagged, r"^NO .*UID 1 in INBOX is missing")
        self.assertIn("body 30", "".join(lines))
        self.assertEqual(25, sum(len(self.complaints(path)) for path in paths[1:26]))
        self.assertTrue(WAIT_S * 0.9 < took < WAIT_S + 5, took)

    def test_a_search_over_bodies_does_not_pass_over_one(self):
        paths = self.fill()
        os.unlink(paths[3])
        imap = self.reader()
        lines, tagged = imap.command("SEARCH BODY body")
        self.assertRegex(tagged, "^NO")
        self.assertEqual(1, len(self.complaints(paths[3])))
        self.assertRegex(imap.ok("SEARCH UID 4:5 BODY body")[0][0], r"^\* SEARCH 4 5")
        imap.ok("NOOP")

    def test_a_sort_and_headers_that_the_cache_has_need_no_body(self):
        paths = self.fill()
        imap = self.reader()
        imap.ok("FETCH 1:* (ENVELOPE)")
        for path in paths[1:]:
            os.unlink(path)
        lines, _ = imap.ok("FETCH 1:* (ENVELOPE RFC822.SIZE INTERNALDATE FLAGS)")
        self.assertEqual(5, len(lines))
        self.assertEqual(["* SORT 5 4 3 2 1"], imap.ok("SORT (REVERSE SUBJECT) UTF-8 ALL")[0])

    def test_expunged_elsewhere_is_expunged_not_missing(self):
        paths = self.fill()
        imap = self.reader()
        other = self.reader()
        other.ok("STORE 3 +FLAGS (\\Deleted)")
        other.ok("EXPUNGE")
        os.unlink(paths[3])
        begin = time.monotonic()
        _, tagged = imap.command("FETCH 1:* BODY.PEEK[]")
        self.assertRegex(tagged, r"^OK \[EXPUNGEISSUED\]")
        self.assertLess(time.monotonic() - begin, WAIT_S)
        self.assertEqual([], self.complaints(paths[3]))

    # --- the others ---

    def test_pop3_refuses_the_one_and_goes_on(self):
        paths = self.fill()
        os.unlink(paths[3])
        pop3 = self.site.pop3(self.user)
        with self.assertRaises(poplib.error_proto):
            pop3.retr(3)
        self.assertIn(b"body 4", b"".join(pop3.retr(4)[1]))
        pop3.quit()
        self.assertIn("5 EXISTS", " ".join(self.reader().ok("SELECT INBOX")[0]))
        self.assert_named(paths[3], 3, "missing")

    def test_a_copy_to_another_account_names_the_one(self):
        paths = self.fill()
        os.unlink(paths[3])
        result = self.site.doveadm("copy", "-u", self.user + "-target", "INBOX", "user", self.user, "mailbox", "INBOX", "all",
                                   check=False)
        self.assertNotEqual(0, result.returncode)
        self.assertIn("UID 3", result.stderr)
        self.assertEqual(["mail %d" % n for n in (1, 2, 4, 5)], self.subjects(self.user + "-target"))

    def test_a_copy_inside_the_account_needs_no_body(self):
        paths = self.fill()
        os.unlink(paths[3])
        self.reader().ok("COPY 1:* Trash")

    def test_doveadm_fetch_prints_the_others_and_fails(self):
        paths = self.fill()
        os.unlink(paths[3])
        result = self.site.doveadm("fetch", "-u", self.user, "text", "mailbox", "INBOX", check=False)
        self.assertNotEqual(0, result.returncode)
        for n in (1, 2, 4, 5):
            self.assertIn("body %d" % n, result.stdout)
        self.assertIn("UID 3", result.stderr)

    def test_a_backup_says_that_it_is_not_complete_and_comes_to_the_rest_later(self):
        paths = self.fill()
        os.rename(paths[3], paths[3] + ".away")
        target = self.site.make_dir("maildir-" + self.user)
        command = ("backup", "-u", self.user, "maildir:" + target)
        self.assertNotEqual(0, self.site.doveadm(*command, check=False).returncode)
        self.assertIn("5 EXISTS", " ".join(self.reader().ok("SELECT INBOX")[0]))
        os.rename(paths[3] + ".away", paths[3])
        self.site.doveadm(*command)
        self.assertEqual(5, sum(len(os.listdir(target + sub)) for sub in ("/cur", "/new")))

    def test_a_delivery_to_the_mailbox_goes_on(self):
        for path in self.fill()[1:]:
            os.unlink(path)
        self.assertEqual({}, self.site.deliver(message("new"), self.user))
        self.assertIn("6 EXISTS", " ".join(self.reader().ok("SELECT INBOX")[0]))


if __name__ == "__main__":
    run()
