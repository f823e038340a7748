#!/usr/bin/env python3
"""cbox under Dovecot's plugins and tools: quota, full text search, expunge hooks, POP3, doveadm."""
import glob
import os
import re
import shutil
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cbox_site import MIXED, Mailboxes, Site, build_dir, message, run, wait_for  # noqa: E402
from support import debian  # noqa: E402


class Quota(Mailboxes):
    plugins = ("quota", "quota_clone", "notify")
    settings = """
  quota = count:User quota
  quota2 = dict:Copy of it::file:%h/quota-dict
  quota_vsizes = yes
  quota_rule = *:storage=100k
  quota_clone_dict = file:%h/quota-clone
"""

    def used(self):
        lines = self.site.doveadm("-f", "tab", "quota", "get", "-u", self.user).splitlines()[1:]
        return [int(line.split("\t")[2]) for line in lines]

    def cloned(self):
        """Messages and bytes; written when the session is over."""
        path = "%s/%s/quota-clone" % (self.site.mail, self.user)
        if not os.path.exists(path):
            return 0, 0
        with open(path) as f:
            values = f.read().split()
        return tuple(int(values[values.index("priv/quota/" + name) + 1]) for name in ("messages", "storage"))

    def test_every_count_is_right_after_every_kind_of_change(self):
        imap = self.filled(6, text="x" * 3000 + "\r\n")
        size = int(re.search(r"SIZE (\d+)", imap.ok("FETCH 1 RFC822.SIZE")[0][0]).group(1))
        for change, mails in (("COPY 1:2 Trash", 8), ("MOVE 3 Trash", 8), ("expunge", 6), ("rename", 6)):
            if change == "expunge":
                self.expunge(imap, "1:2")
            elif change == "rename":
                imap.ok("RENAME Trash Bin")
            else:
                imap.ok(change)
            count_kb, count, dict_kb, dict_count = self.used()
            self.assertEqual((mails, mails), (count, dict_count), change)
            self.assertEqual(count_kb, dict_kb, change)
            self.assertLessEqual(abs(count_kb * 1024 - mails * size), 1024 + mails * 10, change)
        imap.close()
        wait_for(lambda: self.cloned()[0] == mails, "quota is cloned")
        self.assertLessEqual(abs(self.cloned()[1] - mails * size), mails * 10)
        imap = self.site.imap(self.user)
        imap.ok("DELETE Bin")
        self.assertEqual(3, self.used()[1])
        self.assertTrue(imap.command("APPEND INBOX", message("large", "y" * 120000 + "\r\n"))[1].startswith("NO [OVERQUOTA]"))
        self.assertEqual(552, self.site.deliver(message("large", "y" * 120000 + "\r\n"), self.user)[self.user][0])
        self.assertEqual(3, self.used()[1])


class Hooks(Mailboxes):
    plugins = ("acl", "quota", "notify", "mail_log", "lazy_expunge")
    settings = """
  acl = vfile
  quota = count:User quota
  quota_vsizes = yes
  mail_log_events = delete undelete expunge save copy mailbox_create mailbox_delete mailbox_rename flag_change
  mail_log_fields = uid box msgid size vsize flags
  lazy_expunge = .EXPUNGED
"""

    def logged(self, event):
        return [line for line in self.site.log().splitlines() if re.search(r"\(%s\).*: %s" % (self.user, event), line)]

    def test_each_mail_of_one_expunge_is_logged_and_kept(self):
        imap = self.filled(6)
        self.expunge(imap, "2:5")
        self.assertEqual(["2", "3", "4", "5"], [re.search(r"uid=(\d+)", line).group(1) for line in self.logged("expunge")])
        for line in self.logged("expunge"):
            self.assertRegex(line, r"msgid=<i\d@example.com>.*size=\d+.*vsize=\d+")
        self.assertEqual(["i1", "i2", "i3", "i4"], self.subjects(self.user, ".EXPUNGED"))
        self.assertEqual(["i0", "i5"], self.subjects(self.user))
        self.assertIn("text", self.fetch(self.user, "text", "mailbox", ".EXPUNGED", "subject", "i3"))
        imap.ok("MOVE 1 Trash")
        self.assertEqual(["i0"], self.subjects(self.user, "Trash"))

    def test_pop3_and_doveadm_expunges_are_seen_too(self):
        self.filled(3)
        pop3 = self.site.pop3(self.user)
        pop3.dele(1)
        pop3.quit()
        self.assertEqual(["1"], [re.search(r"uid=(\d+)", line).group(1) for line in self.logged("expunge")])
        self.site.doveadm("expunge", "-u", self.user, "mailbox", "INBOX", "subject", "i1")
        self.assertEqual(["i0", "i1"], self.subjects(self.user, ".EXPUNGED"))

    def test_a_refused_expunge_is_neither_logged_nor_kept(self):
        imap = self.filled(2)
        imap.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
        self.site.answer("refuse")
        self.assertTrue(imap.command("EXPUNGE")[1].startswith("NO"))
        self.site.answer("number")
        self.assertEqual(["i0", "i1"], self.subjects(self.user))
        self.assertEqual([], self.logged("expunge"))


class FullText(Mailboxes):
    """With the package dovecot-fts-xapian. (squat crashes stock 2.3.19.1 at the first mailbox, whatever the format.)"""
    plugins = ("fts", "fts_xapian")
    settings = "fts = xapian\n  fts_xapian = partial=3 full=20\n  fts_autoindex = yes\n  fts_enforced = yes\n"

    @classmethod
    def setUpClass(cls):
        package = debian.unpacked("fts-xapian", ("dovecot-fts-xapian", "libxapian30"))
        library = str(package / "usr/lib/x86_64-linux-gnu")
        cls.site = Site(build_dir(), plugins=cls.plugins, plugin_settings=cls.settings)
        libraries = cls.site.make_dir("lib")
        for path in glob.glob(library + "/libxapian.so.*"):
            shutil.copy(path, libraries)
        shutil.copy(package / "usr/lib/dovecot/modules/lib21_fts_xapian_plugin.so", cls.site.dir + "/modules")
        with open(cls.site.config, "a") as f:
            f.write("import_environment = $import_environment LD_LIBRARY_PATH=%s\n" % libraries)
        os.environ["LD_LIBRARY_PATH"] = libraries
        cls.site.start()

    @classmethod
    def tearDownClass(cls):
        del os.environ["LD_LIBRARY_PATH"]
        cls.site.remove()

    def found(self, imap, key):
        return [int(n) for n in re.findall(r"\d+", imap.ok("SEARCH " + key)[0][0])]

    def test_search_through_the_index(self):
        imap = self.filled(1, text="needle in the hay\r\n")
        imap.append("INBOX", MIXED)
        imap.append("INBOX", message("needlework", "nothing\r\n"))
        imap.ok("NOOP")
        self.site.doveadm("index", "-u", self.user, "INBOX")
        self.assertEqual(([1], [1, 3]), (self.found(imap, "BODY needle"), self.found(imap, "TEXT needle")))
        self.expunge(imap, "1")
        imap.append("INBOX", message("late", "needle again\r\n"))
        imap.ok("COPY 2 Trash")
        imap.ok("NOOP")
        self.assertEqual([3], self.found(imap, "BODY needle"))
        self.site.doveadm("fts", "rescan", "-u", self.user)
        self.lose_caches(self.user)
        self.assertEqual([3], self.found(self.selected(), "BODY needle"))
        self.assertTrue(glob.glob("%s/%s/**/xapian-indexes" % (self.site.mail, self.user), recursive=True))

    def selected(self):
        imap = self.site.imap(self.user)
        self.addCleanup(imap.close)
        imap.ok("SELECT INBOX")
        return imap


class Virtual(Mailboxes):
    plugins = ("virtual", "notify", "mail_log")
    settings = "mail_log_events = expunge\n"
    extra = """
namespace virtual {
  prefix = virtual/
  separator = /
  location = virtual:~/virtual
}
"""

    def test_a_virtual_mailbox_shows_and_changes_what_is_behind_it(self):
        folder = "%s/%s/virtual/All" % (self.site.mail, self.user)
        os.makedirs(folder)
        with open(folder + "/dovecot-virtual", "w") as f:
            f.write("INBOX\nTrash\n  all\n")
        self.site.own("%s/%s" % (self.site.mail, self.user))
        imap = self.filled(3)
        imap.append("Trash", message("t0", "from trash\r\n"))
        imap.ok("SELECT virtual/All")
        self.assertEqual(4, len(imap.ok("FETCH 1:* (UID FLAGS)")[0]))
        self.assertIn("from trash", " ".join(imap.ok("FETCH 1:* BODY.PEEK[TEXT]")[0]))
        imap.ok("STORE 1 +FLAGS (\\Flagged)")
        self.expunge(imap, "2:3")
        left = self.subjects(self.user) + self.subjects(self.user, "Trash")
        self.assertEqual(2, len(left))
        self.assertEqual(2, len(imap.ok("FETCH 1:* FLAGS")[0]))
        imap.append("INBOX", message("late"))
        self.assertIn("* 3 EXISTS", imap.ok("NOOP")[0])
        self.assertIn("\\Flagged", self.fetch(self.user, "flags", "ALL"))


class MakingRoom(Mailboxes):
    plugins = ("quota", "trash")
    settings = """
  quota = count:User quota
  quota_vsizes = yes
  quota_rule = *:storage=50k
  quota_grace = 0
  trash = /tmp/cbox-trash-%d.conf
""" % os.getpid()
    extra = """
namespace inbox {
  mailbox Old {
    auto = create
    autoexpunge_max_mails = 2
  }
}
"""

    @classmethod
    def setUpClass(cls):
        cls.file = "/tmp/cbox-trash-%d.conf" % os.getpid()
        with open(cls.file, "w") as f:
            f.write("1 Trash\n")
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        os.unlink(cls.file)

    def test_trash_makes_room_for_new_mail(self):
        imap = self.filled(4, "Trash", "x" * 10000 + "\r\n")
        imap.append("INBOX", message("new", "y" * 15000 + "\r\n"))
        self.assertEqual(["t2", "t3"], self.subjects(self.user, "Trash"))  # as many as with sdbox
        self.assertEqual({}, self.site.deliver(message("newer", "y" * 15000 + "\r\n"), self.user))
        self.assertEqual(["new", "newer"], self.subjects(self.user))
        commits = [c for c in self.commits("Trash") if c["expunges"]]
        self.assertEqual(4 - len(self.subjects(self.user, "Trash")), sum(len(c["expunges"]) for c in commits))

    def test_autoexpunge_keeps_the_newest(self):
        imap = self.filled(5, "Old")
        imap.close()
        wait_for(lambda: self.subjects(self.user, "Old") == ["o3", "o4"], "the oldest are expunged")
        self.assertEqual([[1, 2, 3]], [[e[0] for e in c["expunges"]] for c in self.commits("Old") if c["expunges"]])


class Pop3(Mailboxes):
    def uidls(self):
        return [line.split()[1].decode() for line in self.site.pop3(self.user).uidl()[1]]

    def test_uidls_survive_the_loss_of_cache_and_index_copies(self):
        imap = self.filled(4)
        before = self.uidls()
        self.expunge(imap, "2")
        self.lose_caches(self.user)
        self.assertEqual([before[0], before[2], before[3]], self.uidls())

    def test_what_a_session_deletes_is_gone_and_the_rest_is_as_it_was(self):
        imap = self.filled(3, text="one\r\n.two\r\n..\r\n")
        pop3 = self.site.pop3(self.user)
        self.assertEqual([b"one", b".two", b".."], pop3.retr(2)[1][-3:])
        self.assertEqual([b"one"], pop3.top(3, 1)[1][-1:])
        size = int(pop3.list(1).split()[2])
        self.assertEqual(size, int(re.search(r"SIZE (\d+)", imap.ok("FETCH 1 RFC822.SIZE")[0][0]).group(1)))
        pop3.dele(1)
        pop3.rset()
        pop3.dele(2)
        pop3.quit()
        self.assertEqual(["i0", "i2"], self.subjects(self.user))


class Tools(Mailboxes):
    def test_cache_index_fetch(self):
        self.filled(3)
        fields = ("uid guid flags modseq hdr size.physical size.virtual date.received date.sent imap.envelope "
                  "imap.bodystructure text pop3.uidl pop3.order storageid body.preview")
        before = self.fetch(self.user, fields)
        self.lose_caches(self.user)
        self.site.doveadm("index", "-u", self.user, "INBOX")
        self.assertEqual(before, self.fetch(self.user, fields))
        self.site.doveadm("mailbox", "cache", "decision", "-u", self.user, "--all", "--decision", "yes", "INBOX")
        self.site.doveadm("mailbox", "cache", "remove", "-u", self.user, "mailbox", "INBOX")
        self.site.doveadm("mailbox", "cache", "purge", "-u", self.user, "INBOX")
        self.assertEqual(before, self.fetch(self.user, fields))

    def test_force_resync_leaves_a_whole_mailbox_as_it_is(self):
        imap = self.filled(3, flags="\\Flagged $K")
        before = self.fetch(self.user, "uid guid flags modseq text"), imap.highest_modseq("INBOX")
        self.site.doveadm("force-resync", "-u", self.user, "INBOX")
        self.assertEqual(before, (self.fetch(self.user, "uid guid flags modseq text"), imap.highest_modseq("INBOX")))

    def test_what_has_no_meaning_here_does_nothing(self):
        self.filled(2)
        before = self.fetch(self.user, "uid guid flags modseq text")
        for command in (("altmove",), ("altmove", "-r")):
            self.site.doveadm(*command, "-u", self.user, "mailbox", "INBOX", "all")
        self.site.doveadm("purge", "-u", self.user)
        self.assertEqual(before, self.fetch(self.user, "uid guid flags modseq text"))

    def test_move_copy_expunge_and_deduplicate(self):
        self.filled(4)
        self.site.doveadm("copy", "-u", self.user, "Trash", "mailbox", "INBOX", "subject", "i0")
        self.site.doveadm("copy", "-u", self.user, "Trash", "mailbox", "INBOX", "subject", "i0")
        self.site.doveadm("deduplicate", "-u", self.user, "mailbox", "Trash")
        self.assertEqual(["i0"], self.subjects(self.user, "Trash"))
        self.site.doveadm("move", "-u", self.user, "Trash", "mailbox", "INBOX", "subject", "i1")
        self.site.doveadm("expunge", "-u", self.user, "mailbox", "INBOX", "subject", "i2")
        self.assertEqual((["i0", "i3"], ["i0", "i1"]), (self.subjects(self.user), self.subjects(self.user, "Trash")))
        self.site.doveadm("mailbox", "rename", "-u", self.user, "Trash", "Bin/Old")
        self.site.doveadm("mailbox", "delete", "-r", "-u", self.user, "Bin")
        self.assertNotIn("Bin", self.site.doveadm("mailbox", "list", "-u", self.user))


if __name__ == "__main__":
    run()
