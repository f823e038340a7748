#!/usr/bin/env python3
"""Shared and public namespaces of cbox: rights, seen flags of each reader's own, bodies where their owner has them."""
import os
import re
import shutil
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cbox_site import SHARED_NAMESPACE, Mailboxes, Site, build_dir, message, run  # noqa: E402

SHARED = SHARED_NAMESPACE + """
protocol imap {
  mail_plugins = $mail_plugins imap_acl
}
"""
PUBLIC = """
namespace public {
  type = public
  prefix = public/
  separator = /
  location = cbox:FOLDER:LAYOUT=index:INDEXPVT=~/public
  subscriptions = no
  list = children
}
"""


class Shared(Mailboxes):
    plugins = ("acl",)
    public = "/tmp/cbox-public-%d" % os.getpid()
    extra = SHARED + PUBLIC.replace("FOLDER", public)
    settings = "acl = vfile:%s/acls\n" % public

    @classmethod
    def setUpClass(cls):
        os.makedirs(cls.public)
        with open(cls.public + "/acls", "w") as f:
            f.write("public anyone lk\npublic/* anyone lrwstipekx\n")
        super().setUpClass()
        cls.site.own(cls.public)

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        shutil.rmtree(cls.public)

    def flags(self, imap, number=1):
        return set(re.search(r"FLAGS \(([^)]*)\)", imap.ok("FETCH %d FLAGS" % number)[0][0]).group(1).split()) - {"\\Recent"}

    def everyone(self, mailbox):
        """Two readers of it."""
        readers = []
        for user in (self.user + "a", self.user + "b"):
            readers.append(self.site.imap(user))
            self.addCleanup(readers[-1].close)
            readers[-1].ok("SELECT " + mailbox)
        return readers

    def seen_is_ones_own(self, mailbox):
        a, b = self.everyone(mailbox)
        a.ok("FETCH 1 BODY[]")
        a.ok("STORE 1 +FLAGS (\\Flagged)")
        b.ok("NOOP")
        self.assertEqual({"\\Seen", "\\Flagged"}, self.flags(a))
        self.assertEqual({"\\Flagged"}, self.flags(b))
        self.assertEqual((["1"], []), tuple(re.findall(r"\d+", imap.ok("SEARCH SEEN")[0][0]) for imap in (a, b)))
        b.ok("STORE 1 -FLAGS (\\Flagged)")
        a.ok("NOOP")
        self.assertEqual({"\\Seen"}, self.flags(a))
        self.assertIn("UNSEEN 0", a.ok("STATUS %s (UNSEEN)" % mailbox)[0][0])
        self.assertIn("UNSEEN 1", b.ok("STATUS %s (UNSEEN)" % mailbox)[0][0])
        again = self.site.imap(self.user + "a")
        again.ok("SELECT " + mailbox)
        self.assertEqual({"\\Seen"}, self.flags(again))
        again.close()

    def test_shared_mailboxes_have_seen_flags_for_each_reader(self):
        imap = self.filled(0)
        imap.ok("CREATE Team")
        imap.append("Team", message("one", "for all\r\n"))
        for reader in "ab":
            imap.ok("SETACL Team %s%s lrwst" % (self.user, reader))
        self.seen_is_ones_own("shared/%s/Team" % self.user)
        imap.ok("SELECT Team")
        self.assertEqual(set(), self.flags(imap))
        a, _ = self.everyone("shared/%s/Team" % self.user)
        self.assertTrue(a.command("APPEND shared/%s/Team" % self.user, message("no right"))[1].startswith("NO [NOPERM]"))
        a.ok("STORE 1 +FLAGS (\\Deleted)")
        self.assertFalse(a.ok("EXPUNGE")[0])
        self.assertEqual(["one"], self.subjects(self.user, "Team"))

    def test_public_mailboxes_have_seen_flags_for_each_reader_and_bodies_for_all(self):
        name = "public/" + self.user
        self.site.doveadm("mailbox", "create", "-u", self.user, name)
        imap = self.filled(0)
        imap.append(name, message("one", "for all\r\n"))
        self.seen_is_ones_own(name)
        a, b = self.everyone(name)
        self.assertIn("for all", b.ok("FETCH 1 BODY.PEEK[TEXT]")[0][0])
        b.ok("COPY 1 INBOX")
        b.append(name, message("two"))
        a.ok("NOOP")
        self.expunge(a, "1")
        self.assertEqual(["two"], self.subjects(self.user, name))
        self.assertIn("for all", self.fetch(self.user + "b", "text"))

    def homes(self, extra):
        """A site whose users keep their bodies at home."""
        site = Site(build_dir(), plugins=("acl",), plugin_settings=self.settings, extra=extra, blob_fs="posix:prefix=%h/bodies/")
        self.addCleanup(site.remove)
        return site.start()

    def test_bodies_lie_where_their_owner_has_them(self):
        site = self.homes(SHARED)
        alice = site.imap("alice")
        alice.ok("CREATE Team")
        alice.append("Team", message("one", "for all\r\n"))
        alice.ok("SETACL Team bob lrwsti")
        bob = site.imap("bob")
        bob.ok("SELECT shared/alice/Team")
        self.assertIn("for all", bob.ok("FETCH 1 BODY.PEEK[TEXT]")[0][0])
        bob.append("shared/alice/Team", message("two", "from bob\r\n"))
        alice.ok("SELECT Team")
        self.assertIn("from bob", alice.ok("FETCH 2 BODY.PEEK[TEXT]")[0][0])

    def test_a_public_namespace_is_refused_where_bodies_lie_in_each_readers_home(self):
        site = self.homes(PUBLIC.replace("FOLDER", self.public))
        with self.assertRaises((EOFError, OSError)):
            site.imap("alice").ok("NOOP")
        self.assertIn("cbox_blobs names a place of each user's own", site.log())


if __name__ == "__main__":
    run()
