#!/usr/bin/env python3
"""Deletion of bodies: only by the sweep, in its steps, never of one that a mail needs, and never where it is not known."""
import os
import re
import shutil
import struct
import subprocess
import sys
import threading
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cbox_site import OnSite, Site, build_dir, message, run, wait_for  # noqa: E402

SIGKILLED = -9


class Sweep(OnSite):
    settings = OnSite.settings + "  replica_blob_grace = 0s\n"

    def setUp(self):
        super().setUp()
        self.site.answer("off")

    # --- what a test does and looks at ---

    def purge(self, site=None, check=True, **environment):
        site = site or self.site
        result = subprocess.run(["doveadm", "-v", "-c", site.config, "purge", "-u", self.user], capture_output=True, text=True,
                                env={**os.environ, **environment})
        if check:
            self.assertEqual(0, result.returncode, result.stderr)
        return result

    def refused(self, words, site=None):
        result = self.purge(site, check=False)
        self.assertNotEqual(0, result.returncode)
        self.assertIn(words, result.stderr)

    def control_dir(self, site=None):
        return "%s/%s/mail/.replica" % ((site or self.site).mail, self.user)

    def account_dir(self):
        for name in os.listdir(self.site.blobs):
            if set(self.blobs_of("*")) & {f for _, _, files in os.walk("%s/%s" % (self.site.blobs, name)) for f in files}:
                return "%s/%s" % (self.site.blobs, name)
        raise AssertionError("the account has no body")

    def blobs_of(self, mailbox="INBOX"):
        return re.findall(r"storageid: (\w+)", self.site.doveadm("fetch", "-u", self.user, "storageid", "mailbox", mailbox))

    def stored(self, folder=None):
        """The bodies that are there."""
        files = [f for _, _, files in os.walk(folder or self.site.blobs) for f in files]
        return {f for f in files if re.fullmatch("[0-9a-f]{32}", f)}

    def subjects_read(self):
        """Of all mails, each read whole: a missing body is an error."""
        out = self.site.doveadm("fetch", "-u", self.user, "text", "mailbox", "*")
        return sorted(re.findall(r"^Subject: (.*?)\r?$", out, re.M))

    def unused(self):
        lines = self.site.doveadm("-f", "tab", "cbox", "unused", "-u", self.user).splitlines()[1:]
        return {line.split("\t")[0]: line.split("\t")[2] for line in lines}

    def expunge(self, imap, mailbox, mails="1:*"):
        imap.ok("SELECT " + mailbox)
        imap.ok("STORE %s +FLAGS.SILENT (\\Deleted)" % mails)
        imap.ok("EXPUNGE")

    # --- the steps ---

    def test_noted_condemned_deleted(self):
        imap = self.site.imap(self.user)
        imap.append("INBOX", message("stays"))
        imap.append("INBOX", message("goes"))
        stays, goes = self.blobs_of()
        self.expunge(imap, "INBOX", "2")
        for step in ("note", "condemn", "delete"):
            self.assertEqual({goes: step}, self.unused())
            self.assertIn(goes, self.stored())
            self.assertEqual({goes: step}, self.unused(), "a dry run changes nothing")
            self.purge()
        self.assertNotIn(goes, self.stored())
        self.assertIn(stays, self.stored())
        self.assertEqual({}, self.unused())
        self.purge()
        self.assertEqual(["stays"], self.subjects_read())

    def test_a_shared_body_stays_until_its_last_mail_is_gone(self):
        imap = self.site.imap(self.user)
        imap.append("INBOX", message("shared"))
        blob, = self.blobs_of()
        imap.ok("SELECT INBOX")
        imap.ok("COPY 1 Trash")
        self.expunge(imap, "INBOX")
        for _ in range(4):
            self.purge()
        self.assertEqual(["shared"], self.subjects_read())
        imap.ok("CREATE Renamed")
        imap.ok("SELECT Trash")
        imap.ok("MOVE 1 Renamed")
        imap.ok("RENAME Renamed Elsewhere/Renamed")
        for _ in range(4):
            self.purge()
        self.assertEqual(["shared"], self.subjects_read())
        imap.ok("UNSELECT")
        imap.ok("DELETE Elsewhere/Renamed")
        for _ in range(3):
            self.purge()
        self.assertNotIn(blob, self.stored())

    def test_what_a_killed_save_leaves_goes(self):
        imap = self.site.imap(self.user)
        imap.append("INBOX", message("stays"))
        blob, = self.blobs_of()
        self.site.answer("die")
        with self.assertRaises((EOFError, OSError)):
            self.site.imap(self.user).append("INBOX", message("killed"))
        self.site.answer("off")
        left = self.stored(self.account_dir()) - {blob}
        self.assertEqual(1, len(left))
        for _ in range(3):
            self.purge()
        self.assertEqual({blob}, self.stored(self.account_dir()))

    # --- races ---

    def test_a_copy_of_what_is_condemned_is_stored_again(self):
        imap = self.site.imap(self.user)
        imap.append("INBOX", message("copied"))
        blob, = self.blobs_of()
        # as a sweep does that looked at a mailbox just before the mail was moved there
        text = b"cboxlist" + struct.pack(">II16sQ", 1, 1, bytes.fromhex(blob), 0)
        with open(self.control_dir() + "/condemned", "wb") as f:
            f.write(text + struct.pack(">I", zlib.crc32(text)))
        self.site.own(self.control_dir())
        imap.ok("SELECT INBOX")
        imap.ok("COPY 1 Trash")
        self.assertNotEqual([blob], self.blobs_of("Trash"))
        for _ in range(3):
            self.purge()
        self.assertIn(blob, self.stored(), "the next sweep sees that a mail needs it")
        imap.ok("COPY 1 Trash")
        self.assertEqual(blob, self.blobs_of("Trash")[1])
        self.assertEqual(["copied"] * 3, self.subjects_read())

    def test_a_copy_that_was_begun_before_is_refused_under_its_lock(self):
        imap, old = self.site.imap(self.user), self.site.imap(self.user)
        imap.append("INBOX", message("copied"))
        old.ok("SELECT INBOX")
        blob, = self.blobs_of()
        release = self.site.hold()
        tag = old.send("COPY 1 Trash")
        wait_for(lambda: os.path.exists(self.site.probe + "/held"), "the copy is about to take its lock")
        self.expunge(imap, "INBOX")
        for _ in range(2):
            self.purge()
        self.assertEqual({blob: "delete"}, self.unused())
        self.purge()
        self.assertNotIn(blob, self.stored())
        release()
        self.assertIn("UNAVAILABLE", old.finish(tag)[1])
        self.assertEqual([], self.subjects_read())

    def test_nothing_is_lost_while_mails_are_moved_about(self):
        count, boxes = 30, ["INBOX", "One", "Two", "Three"]
        imap = self.site.imap(self.user)
        for box in boxes[1:]:
            imap.ok("CREATE " + box)
        for n in range(count):
            imap.append("INBOX", message("mail-%d" % n))
        end, failed = threading.Event(), []

        def move(first):
            client = self.site.imap(self.user)
            turn = first
            while not end.is_set():
                source, target = boxes[turn % len(boxes)], boxes[(turn + 1 + turn // 7 % 2) % len(boxes)]
                turn += 1
                client.ok("SELECT " + source)
                _, tagged = client.command("MOVE 1:%d %s" % (1 + turn % 5, target))
                if not tagged.startswith("OK") and not re.search("UNAVAILABLE|Invalid messageset|no longer|not found|No matching", tagged):
                    failed.append(tagged)

        movers = [threading.Thread(target=move, args=(n,)) for n in range(3)]
        for mover in movers:
            mover.start()
        for _ in range(40):
            self.purge()
        end.set()
        for mover in movers:
            mover.join(120)
        self.assertEqual([], failed)
        for _ in range(4):
            self.purge()
        # A MOVE that is refused at its source leaves the mail in both, never in none.
        self.assertEqual({"mail-%d" % n for n in range(count)}, set(self.subjects_read()))

    def test_killed_at_each_step(self):
        """Each kill is at another step of note, condemn or delete; the next one goes on, and what is needed stays."""
        library = build_dir() + "/tests/support/libdie_after_ack.so"
        imap = self.site.imap(self.user)
        for n in range(3):
            imap.append("INBOX", message("stays-%d" % n))
        stays = set(self.blobs_of())
        step, killed, ended = 1, 0, 0
        while ended < 4:  # a whole sweep is not killed; then there is something new to sweep
            imap.append("INBOX", message("goes"))
            self.expunge(imap, "INBOX", "4")
            result = self.purge(check=False, DOVECOT_PRESERVE_ENVS="LD_PRELOAD DIE_AT_STEP", LD_PRELOAD=library,
                                DIE_AT_STEP=str(step))
            if result.returncode == SIGKILLED:
                killed += 1
                step += 1
            else:
                self.assertEqual(0, result.returncode, result.stderr)
                ended += 1
                step = 1
            self.assertEqual(["stays-%d" % n for n in range(3)], self.subjects_read())
        self.assertGreater(killed, 10)
        for _ in range(3):
            self.purge()
        self.assertEqual(stays, self.stored(self.account_dir()))

    def test_first_saves_at_once_agree_on_the_owner(self):
        for n in range(10):
            user = "%s-%d" % (self.user, n)
            savers = [threading.Thread(target=self.site.deliver, args=(message("m%d" % m), user)) for m in range(6)]
            for saver in savers:
                saver.start()
            for saver in savers:
                saver.join(60)
            self.site.doveadm("purge", "-u", user)
        self.assertNotIn("owner.pending", self.site.log())

    # --- where it is not known ---

    def test_refused_where_an_index_was_lost(self):
        imap = self.site.imap(self.user)
        imap.append("INBOX", message("lost"))
        blob, = self.blobs_of()
        imap.close()
        for folder, _, files in os.walk("%s/%s/mail/mailboxes" % (self.site.mail, self.user)):
            for name in files:
                if name.startswith("dovecot.index"):
                    os.unlink(folder + "/" + name)
        for _ in range(4):
            self.refused("lost its index")
        self.assertIn(blob, self.stored())
        with open(self.site.dir + "/log", "w"):
            pass  # says that indexes are lost, as it ought to

    def test_refused_where_the_list_was_lost(self):
        imap = self.site.imap(self.user)
        imap.ok("CREATE Kept")
        imap.append("Kept", message("kept"))
        imap.close()
        root = "%s/%s/mail" % (self.site.mail, self.user)
        for name in os.listdir(root):
            if name.startswith("dovecot.list.index"):
                os.unlink(root + "/" + name)
        before = self.stored()
        for _ in range(4):
            result = self.purge(check=False)
        if result.returncode == 0:  # Dovecot has found them again by itself
            self.assertEqual(["kept"], self.subjects_read())
        self.assertEqual(before, self.stored())

    def test_refused_where_the_account_has_a_replica_and_nobody_answers(self):
        self.site.imap(self.user).append("INBOX", message("replicated"))
        with open(self.control_dir() + "/state", "w") as f:
            f.write("1 source 1 boot\n")
        self.refused("plugin replica is not loaded")

    def test_a_second_store_refuses_and_one_that_saves_stops_both(self):
        imap = self.site.imap(self.user)
        imap.append("INBOX", message("of the first"))
        second = Site(build_dir(), plugins=self.plugins, blobs=self.site.blobs,
                      plugin_settings=self.settings + "  replica_mailstore = second.example.com\n").start()
        try:
            second.doveadm("mailbox", "status", "-u", self.user, "messages", "INBOX")
            self.refused("belong to another store", second)
            second.answer("off")
            second.imap(self.user).append("INBOX", message("of the second"))
            self.refused("more than one store", second)
            self.refused("more than one store")
            self.assertEqual(["of the first"], self.subjects_read())
            self.site.doveadm("cbox", "claim", "-u", self.user)
            self.purge()
            self.assertEqual(1, len(self.unused()))
        finally:
            second.remove()

    def test_a_store_of_the_same_name_without_the_indexes_refuses(self):
        imap = self.site.imap(self.user)
        imap.append("INBOX", message("first"))
        imap.close()
        blob, = self.blobs_of()
        shutil.rmtree("%s/%s" % (self.site.mail, self.user))
        self.site.imap(self.user).append("INBOX", message("after the loss"))
        for _ in range(3):
            self.refused("its indexes may be lost")
        self.assertIn(blob, self.stored())


class Grace(OnSite):
    settings = OnSite.settings + "  replica_blob_grace = 1h\n"

    def test_nothing_goes_before_the_grace_has_passed(self):
        self.site.answer("off")
        imap = self.site.imap(self.user)
        imap.append("INBOX", message("goes"))
        imap.ok("SELECT INBOX")
        imap.ok("STORE 1 +FLAGS (\\Deleted)")
        imap.ok("EXPUNGE")
        for _ in range(4):
            self.site.doveadm("purge", "-u", self.user)
        lines = self.site.doveadm("-f", "tab", "cbox", "unused", "-u", self.user).splitlines()[1:]
        self.assertEqual(["wait"], [line.split("\t")[2] for line in lines])
        self.assertEqual(1, len(self.site.blob_files()))


if __name__ == "__main__":
    run()
