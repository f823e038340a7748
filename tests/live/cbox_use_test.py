#!/usr/bin/env python3
"""cbox from all sides of a Dovecot: delivery, Sieve, quota, doveadm, dsync, shared mailboxes."""
import os
import re
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cbox_site import SHARED_NAMESPACE, OnSite, message, run  # noqa: E402


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

    def test_pop3(self):
        for n in range(3):
            self.assertEqual({}, self.site.deliver(message("p%d" % n, "text %d\r\n" % n), self.user))
        pop3 = self.site.pop3(self.user)
        self.assertEqual(3, pop3.stat()[0])
        self.assertEqual(b"text 1", pop3.retr(2)[1][-1])
        pop3.dele(1)
        pop3.dele(3)
        pop3.quit()
        self.assertEqual([[1, 3]], [[e[0] for e in c["expunges"]] for c in self.commits() if c["expunges"]])
        self.assertEqual(["p1"], self.subjects(self.user))

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


class Shared(OnSite):
    plugins = ("acl", "lazy_expunge", "notify", "mail_log")
    settings = "acl = vfile\n  lazy_expunge = .EXPUNGED\n"
    extra = SHARED_NAMESPACE + """
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


if __name__ == "__main__":
    run()
