#!/usr/bin/env python3
"""The one commit sequence of cbox: what is announced, what a refusal leaves, what races do."""
import os
import random
import re
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cbox_site import OnSite, message, wait_for, run  # noqa: E402


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
        imap.append("INBOX", message("and again"))
        # Only a snapshot clears it.
        self.assertEqual([True, True], [c["unlogged"] for c in self.commits()])
        self.assertEqual(self.commits()[0]["number"], self.commits()[1]["mark"])

    def test_force_resync_of_a_whole_index_changes_nothing(self):
        imap = self.site.imap(self.user)
        for n in range(5):
            imap.append("INBOX", message("m%d" % n), "\\Seen $K")
        imap.ok("SELECT INBOX")
        imap.ok("STORE 2 +FLAGS (\\Deleted)")
        imap.ok("EXPUNGE")
        untagged, _ = imap.ok("SELECT INBOX")
        uid_validity = [line for line in untagged if "UIDVALIDITY" in line]
        fields = "(UID FLAGS MODSEQ INTERNALDATE RFC822.SIZE BODY.PEEK[])"
        before, _ = imap.ok("FETCH 1:* " + fields)
        guid = self.site.doveadm("mailbox", "status", "-u", self.user, "guid", "INBOX")
        mark = self.commits()[-1]["number"]
        imap.close()
        self.assertEqual("", self.site.doveadm("force-resync", "-u", self.user, "INBOX", check=False).stderr)
        imap = self.site.imap(self.user)
        untagged, _ = imap.ok("SELECT INBOX")
        self.assertEqual(uid_validity, [line for line in untagged if "UIDVALIDITY" in line])
        recent = [line.replace(" \\Recent", "") for line in before]
        self.assertEqual(recent, [line.replace(" \\Recent", "") for line in imap.ok("FETCH 1:* " + fields)[0]])
        self.assertEqual(guid, self.site.doveadm("mailbox", "status", "-u", self.user, "guid", "INBOX"))
        imap.append("INBOX", message("after"))
        self.assertEqual((mark, False), (self.commits()[-1]["mark"], self.commits()[-1]["unlogged"]))

    def test_a_mail_without_a_record_comes_back_from_its_body_by_force_resync(self):
        imap = self.site.imap(self.user)
        for n in range(1, 5):
            imap.append("INBOX", message("m%d" % n), "\\Seen $K")
        self.site.probe_file("forget", "2")
        imap.append("INBOX", message("m5"), "\\Flagged")
        mark = self.commits()[-1]["number"]
        imap.close()
        highest = self.site.imap(self.user).highest_modseq("INBOX")
        self.assertIn("UID 2 has no record",
                      self.site.doveadm("force-resync", "-u", self.user, "INBOX", check=False).stderr)
        imap = self.site.imap(self.user)
        imap.ok("SELECT INBOX")
        lines, _ = imap.ok("FETCH 1:* (UID FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
        seen = [(int(re.search(r"UID (\d+)", line).group(1)), "$K" in line, "\\Seen" in line, "\\Flagged" in line)
                for line in lines if "UID" in line]
        self.assertEqual([(1, True, True, False), (3, True, True, False), (4, True, True, False),
                          (5, False, False, True), (6, False, False, False)], seen)
        self.assertGreaterEqual(imap.highest_modseq("INBOX"), highest)
        imap.append("INBOX", message("m6"))
        self.assertEqual((mark, True, 7), (self.commits()[-1]["mark"], self.commits()[-1]["unlogged"],
                                           self.commits()[-1]["appends"][0]["uid"]))


if __name__ == "__main__":
    run()
