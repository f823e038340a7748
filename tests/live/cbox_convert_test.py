#!/usr/bin/env python3
"""Dovecot's own tools between cbox and every other format, in both directions: what a mail is stays what it is."""
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cbox_site import OnSite, message, run  # noqa: E402
from support import corpus, maildir  # noqa: E402

FORMATS = ("maildir", "mdbox", "sdbox")
FIELDS = "mailbox uid flags date.received size.virtual pop3.uidl text"


class Conversions(OnSite):
    settings = ""
    plugins = ()
    MAILS = corpus.real_mails()[::80] + corpus.hostile_mails(large=200_000)

    def home(self, user, name):
        path = "%s/%s/%s" % (self.site.mail, user, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self.site.own(os.path.dirname(path))
        return path

    def converted(self, user):
        """An account of real mail, out of a maildir."""
        path = self.home(user, "Maildir")
        maildir.make(path, self.MAILS)
        self.site.own(path)
        self.site.doveadm("backup", "-R", "-u", user, "maildir:" + path)
        return user

    def content(self, user, location=None, fields=FIELDS):
        """Every mail of every mailbox, and what each mailbox has."""
        options = ("-o", "mail_location=" + location) if location else ()
        return (self.site.doveadm(*options, "fetch", "-u", user, fields, "ALL").split("\f\n"),
                sorted(self.site.doveadm(*options, "-f", "tab", "mailbox", "status", "-u", user, "messages uidnext uidvalidity vsize", "*")
                       .splitlines()),
                sorted(self.site.doveadm(*options, "mailbox", "list", "-s", "-u", user).split()))

    def assert_same(self, one, other):
        for first, second in zip(one[0], other[0]):
            self.assertEqual(first, second)
        self.assertEqual(one[1:], other[1:])
        self.assertGreater(len(one[0]), 1)

    def test_there_and_back(self):
        self.converted(self.user)
        want = self.content(self.user)
        for name in FORMATS:
            location, back = "%s:%s" % (name, self.home(self.user, name)), self.user + name
            self.site.doveadm("backup", "-u", self.user, location)
            self.assert_same(want, self.content(self.user, location))
            self.site.doveadm("backup", "-R", "-u", back, location)
            self.assert_same(want, self.content(back))
            # A second run finds nothing to do.
            self.site.probe_forget()
            self.site.doveadm("backup", "-R", "-u", back, location)
            self.assertEqual([], self.commits())

    def test_another_layout_shares_the_bodies(self):
        self.converted(self.user)
        bodies = self.site.blob_files()
        location = "cbox:%s:LAYOUT=fs" % self.home(self.user, "other")
        self.site.doveadm("backup", "-u", self.user, location)
        self.assert_same(self.content(self.user, fields=FIELDS + " guid storageid"), self.content(self.user, location, FIELDS + " guid storageid"))
        self.assertEqual(bodies, self.site.blob_files())

    def test_guids_stay_between_formats_that_have_them(self):
        self.converted(self.user)
        want = self.content(self.user, fields="mailbox uid guid")
        for name in ("mdbox", "sdbox"):
            location = "%s:%s" % (name, self.home(self.user, name))
            self.site.doveadm("backup", "-u", self.user, location)
            self.assertEqual(want[0], self.content(self.user, location, "mailbox uid guid")[0])

    def test_both_sides_change_and_are_brought_together(self):
        for name in FORMATS:
            user = self.converted(self.user + name)
            location = "%s:%s" % (name, self.home(user, name))
            there = ("-o", "mail_location=" + location)
            self.site.doveadm("sync", "-u", user, location)
            imap = self.site.imap(user)
            imap.ok("SELECT INBOX")
            imap.ok("STORE 1:3 +FLAGS (\\Flagged $Here)")
            imap.ok("STORE 4 +FLAGS.SILENT (\\Deleted)")
            imap.ok("UID EXPUNGE " + imap.ok("FETCH 4 UID")[0][0].split("UID ")[1].rstrip(")"))
            imap.append("Sent", message("here"))
            imap.ok("RENAME Archive/2024 Archive/Old")
            self.site.doveadm(*there, "flags", "add", "-u", user, "\\Answered $There", "mailbox", "Sent", "1:2")
            self.site.doveadm(*there, "expunge", "-u", user, "mailbox", "Sent", "3")
            self.site.doveadm(*there, "save", "-u", user, "-m", "INBOX", stdin=message("there").decode())
            for _ in range(2):
                self.site.doveadm("sync", "-u", user, location)
            self.assert_same(self.content(user), self.content(user, location))
            text = "".join(self.content(user)[0])
            for fact in ("Subject: here", "Subject: there", "$Here", "$There", "Archive/Old"):
                self.assertIn(fact, text)
            imap.close()

    def test_an_import_brings_dates_and_flags(self):
        self.converted(self.user)
        keep = "flags date.received size.virtual text"
        for name in FORMATS:
            location, user = "%s:%s" % (name, self.home(self.user, name)), self.user + name
            self.site.doveadm("backup", "-u", self.user, location)
            self.site.doveadm("import", "-u", user, location, "", "ALL")
            mine, other = (sorted(re.sub(r"\\Recent ?", "", mail, count=1).replace(" \ndate", "\ndate", 1)
                                  for mail in self.content(of, fields=keep)[0]) for of in (self.user, user))
            self.assertEqual(len(mine), len(other))
            for one, copy in zip(mine, other):
                self.assertEqual(one, copy)


if __name__ == "__main__":
    run()
