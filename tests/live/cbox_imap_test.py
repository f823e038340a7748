#!/usr/bin/env python3
"""What the RFCs of IMAP's extensions say, on cbox with every change numbered, and on stock sdbox, which shows that the tests are fair."""
import os
import re
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cbox_site import BAD_LOG, MIXED, Site, build_dir, message, run  # noqa: E402

THREADED = [("root", ""), ("Re: root", "References: <root@example.com>\r\nIn-Reply-To: <root@example.com>\r\n"),
            ("other", ""), ("Fwd: root", "References: <root@example.com>\r\n")]


def numbers(text):
    return [int(n) for n in re.findall(r"\d+", text)]


class Facts:
    driver, count = None, 0

    @classmethod
    def setUpClass(cls):
        cls.site = Site(build_dir(), driver=cls.driver).start()

    @classmethod
    def tearDownClass(cls):
        cls.site.remove()

    def setUp(self):
        Facts.count += 1
        self.user = "user%d" % Facts.count
        self.site.answer("number")
        self.imap = self.site.imap(self.user)

    def tearDown(self):
        self.imap.close()
        self.assertNotRegex(self.site.log(), BAD_LOG)

    def filled(self, *mails, enable=""):
        """INBOX with these mails, selected; what SELECT said."""
        for mail in mails or [message("m%d" % n) for n in range(1, 6)]:
            self.imap.append("INBOX", mail)
        if enable:
            self.imap.ok("ENABLE " + enable)
        return " ".join(self.imap.ok("SELECT INBOX")[0])

    def lines(self, command, literal=None):
        return self.imap.ok(command, literal)[0]

    def line(self, command, literal=None):
        lines = self.lines(command, literal)
        self.assertEqual(1, len(lines), (command, lines))
        return lines[0]

    def modseq(self):
        return self.imap.highest_modseq("INBOX")

    # --- RFC 7162: CONDSTORE, QRESYNC ---

    def test_condstore(self):
        self.filled()
        before = self.modseq()
        line = self.line("STORE 2 +FLAGS (\\Flagged)")
        self.assertIn("\\Flagged", line)
        after = self.modseq()
        self.assertGreater(after, before)
        self.assertEqual("* 2 FETCH (MODSEQ (%d))" % after, self.line("FETCH 2 MODSEQ"))
        self.assertEqual(["* 2 FETCH (UID 2 FLAGS (\\Flagged) MODSEQ (%d))" % after],
                         [re.sub(r" \\Recent|\\Recent ", "", l) for l in self.lines("UID FETCH 1:* (FLAGS) (CHANGEDSINCE %d)" % before)])
        self.assertRegex(self.line("SEARCH MODSEQ %d" % after), r"SEARCH 2 \(MODSEQ %d\)" % after)
        untagged, tagged = self.imap.ok("STORE 1:3 (UNCHANGEDSINCE %d) +FLAGS.SILENT ($Mine)" % before)
        self.assertIn("[MODIFIED 2]", tagged)
        self.assertEqual(["1", "3"], re.findall(r"\* (\d) FETCH", " ".join(untagged)))
        self.assertNotIn("$Mine", " ".join(self.lines("FETCH 2 FLAGS")))
        # A store that changes nothing raises nothing.
        now = self.modseq()
        self.imap.ok("STORE 2 +FLAGS (\\Flagged)")
        self.assertEqual(now, self.modseq())

    def test_qresync(self):
        said = self.filled(*[message("q%d" % n) for n in range(1, 9)], enable="QRESYNC")
        validity, before = re.search(r"UIDVALIDITY (\d+)", said).group(1), self.modseq()
        other = self.site.imap(self.user)
        self.addCleanup(other.close)
        other.ok("SELECT INBOX")
        other.ok("STORE 2,5 +FLAGS (\\Deleted)")
        other.ok("EXPUNGE")
        other.ok("STORE 1 +FLAGS (\\Seen)")
        self.assertIn("* VANISHED 2,5", self.lines("NOOP"))
        self.imap.ok("UNSELECT")
        said = self.lines("SELECT INBOX (QRESYNC (%s %d 1:8))" % (validity, before))
        self.assertIn("* VANISHED (EARLIER) 2,5", said)
        self.assertEqual(["1"], re.findall(r"FETCH \(UID (\d+)", " ".join(said)))
        self.assertIn("* VANISHED (EARLIER) 2,5", self.lines("UID FETCH 1:8 (FLAGS) (CHANGEDSINCE %d VANISHED)" % before))
        # RFC 7162 3.2.5.2: where the client's sequence matches, only what is behind it is told.
        self.imap.ok("UNSELECT")
        self.assertIn("VANISHED (EARLIER) 2", " ".join(self.lines(
            "SELECT INBOX (QRESYNC (%s %d 1:8 (1,3 1,3)))" % (validity, before))))
        self.imap.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
        untagged, tagged = self.imap.ok("EXPUNGE")
        self.assertEqual(["* VANISHED 1"], untagged)
        self.assertIn("HIGHESTMODSEQ %d" % self.modseq(), tagged)
        self.imap.ok("UNSELECT")
        self.assertNotIn("VANISHED", " ".join(self.lines("SELECT INBOX (QRESYNC (%d %d))" % (int(validity) + 1, before))))

    # --- RFC 3516, 8970: BINARY, PREVIEW ---

    def test_binary(self):
        self.filled(MIXED)
        self.assertIn("BINARY[2] ~{5}\r\n\x00\x01\x02\x03\x04", self.line("FETCH 1 BINARY.PEEK[2]"))
        self.assertIn("BINARY.SIZE[2] 5", self.line("FETCH 1 BINARY.SIZE[2]"))
        self.assertIn("\x02\x03", self.line("FETCH 1 BINARY.PEEK[2]<2.2>"))
        self.imap.tag += 1
        raw = b"Subject: nul\r\nContent-Transfer-Encoding: binary\r\n\r\na\0b\r\n"
        self.imap.socket.sendall(b"a%d APPEND INBOX ~{%d+}\r\n%s\r\n" % (self.imap.tag, len(raw), raw))
        self.assertTrue(self.imap.finish("a%d" % self.imap.tag)[1].startswith("OK"))
        self.assertIn("a\0b", self.line("FETCH 2 BINARY.PEEK[1]"))

    def test_preview(self):
        self.filled(message("p", "The quick  brown fox\r\njumps\r\n"), MIXED)
        self.assertIn('PREVIEW "The quick brown fox jumps"', self.line("FETCH 1 PREVIEW"))
        self.assertIn('PREVIEW (FUZZY "The quick brown fox jumps")', self.line("FETCH 1 (PREVIEW (FUZZY))"))
        self.assertIn('SNIPPET (FUZZY "first")', self.line("FETCH 2 SNIPPET"))

    # --- RFC 5256, 5957, 5267: SORT, THREAD, ESORT, contexts ---

    def test_sort(self):
        for day, (subject, size) in enumerate((("b", 300), ("Re: a", 1), ("c", 50)), 1):
            self.imap.append("INBOX", message(subject, "x" * size + "\r\n"), date="0%d-Feb-2003 04:05:06 +0000" % day)
        self.imap.ok("SELECT INBOX")
        for criteria, want in (("SUBJECT", [2, 1, 3]), ("REVERSE SUBJECT", [3, 1, 2]), ("SIZE", [2, 3, 1]), ("ARRIVAL", [1, 2, 3]),
                               ("REVERSE ARRIVAL", [3, 2, 1]), ("DISPLAYFROM SIZE", [2, 3, 1])):
            self.assertEqual(want, numbers(self.line("SORT (%s) UTF-8 ALL" % criteria)), criteria)
        self.assertRegex(self.line("SORT RETURN (MIN MAX COUNT ALL) (SUBJECT) UTF-8 ALL"), r"MIN 2 MAX 3 ALL 2,1,3 COUNT 3")

    def test_thread(self):
        self.filled(*[message(subject, headers=headers) for subject, headers in THREADED])
        self.assertEqual("* THREAD (1 (2)(4))(3)", self.line("THREAD REFERENCES UTF-8 ALL"))
        self.assertEqual("* THREAD (1 (2)(4))(3)", self.line("THREAD REFS UTF-8 ALL"))
        self.assertEqual(4, len(numbers(self.line("THREAD ORDEREDSUBJECT UTF-8 ALL"))))
        self.imap.ok("STORE 1 +FLAGS (\\Deleted)")
        self.imap.ok("EXPUNGE")
        self.assertEqual({1, 2, 3}, set(numbers(self.line("THREAD REFERENCES UTF-8 ALL"))))

    def test_a_search_context_follows_changes(self):
        self.filled()
        tag = self.imap.send("SEARCH RETURN (UPDATE COUNT) UNSEEN")
        self.assertIn("COUNT 5", " ".join(self.imap.finish(tag)[0]))
        self.assertIn('(TAG "%s") REMOVEFROM (0 2)' % tag, " ".join(self.lines("STORE 2 +FLAGS (\\Seen)")))
        other = self.site.imap(self.user)
        self.addCleanup(other.close)
        other.append("INBOX", message("late"))
        self.assertRegex(" ".join(self.lines("NOOP")), r"ADDTO \(0 6\)")
        self.imap.ok('CANCELUPDATE "%s"' % tag)

    # --- RFC 4731, 5182, 5032, 9051: ESEARCH, SEARCHRES, WITHIN ---

    def test_esearch_and_its_result(self):
        self.filled()
        self.imap.ok("STORE 2,4 +FLAGS.SILENT (\\Flagged $Word)")
        self.assertRegex(self.line("UID SEARCH RETURN (MIN MAX ALL COUNT) KEYWORD $Word"), r"UID MIN 2 MAX 4 ALL 2,4 COUNT 2$")
        self.assertRegex(self.line("SEARCH RETURN (COUNT) FLAGGED"), r"COUNT 2$")
        self.imap.ok("SEARCH RETURN (SAVE) FLAGGED")
        self.assertEqual(2, len(self.lines("FETCH $ UID")))
        self.imap.ok("MOVE $ Trash")
        self.assertEqual([1, 3, 5], numbers(self.line("UID SEARCH ALL")))
        self.assertEqual([1, 2, 3], numbers(self.line("SEARCH YOUNGER 3600")))
        self.assertEqual([], numbers(self.line("SEARCH OLDER 3600")))

    def test_search_reads_headers_bodies_dates_and_sizes(self):
        self.filled(message("alpha", "needle in hay\r\n"), message("beta", "hay " * 600 + "\r\n"), MIXED)
        for key, want in (("SUBJECT alp", [1]), ("BODY needle", [1]), ("TEXT NEEDLE", [1]), ("BODY alpha", []), ("TEXT alpha", [1]),
                          ("LARGER 2000", [2]), ("SMALLER 2000", [1, 3]), ("HEADER Message-Id beta", [2]), ("BODY first", [3]),
                          ("NOT BODY hay", [3]), ("OR SUBJECT beta BODY first", [2, 3]), 
                          ("SINCE 1-Jan-2000", [1, 2, 3]), ("FROM a@example.com 2:3", [2, 3]), ("UID 2", [2])):
            self.assertEqual(want, numbers(self.line("SEARCH " + key)), key)

    # --- RFC 3502, 4469, 4315, 6851 ---

    def test_multiappend_is_all_or_nothing(self):
        one, two = message("one"), message("two")
        self.imap.tag += 1
        tag = "a%d" % self.imap.tag
        self.imap.socket.sendall(b"%s APPEND INBOX (\\Seen) {%d+}\r\n%s (\\Flagged) {%d+}\r\n%s\r\n"
                                 % (tag.encode(), len(one), one, len(two), two))
        self.assertRegex(self.imap.finish(tag)[1], r"APPENDUID \d+ 1:2\]")
        self.imap.tag += 1
        tag = "a%d" % self.imap.tag
        self.imap.socket.sendall(b"%s APPEND INBOX {%d+}\r\n%s (\\Flagged) {0+}\r\n\r\n" % (tag.encode(), len(one), one))
        self.assertTrue(self.imap.finish(tag)[1].startswith("NO"))
        self.assertIn("MESSAGES 2 UIDNEXT 3", self.line("STATUS INBOX (MESSAGES UIDNEXT)"))

    def test_catenate(self):
        self.filled(MIXED)
        validity = re.search(r"UIDVALIDITY (\d+)", self.line("STATUS INBOX (UIDVALIDITY)")).group(1)
        self.imap.tag += 1
        tag = "a%d" % self.imap.tag
        text = b"Subject: joined\r\n\r\nbefore "
        self.imap.socket.sendall(b'%s APPEND INBOX CATENATE (TEXT {%d+}\r\n%s URL "/INBOX;UIDVALIDITY=%s/;UID=1/;SECTION=1")\r\n'
                                 % (tag.encode(), len(text), text, validity.encode()))
        self.assertTrue(self.imap.finish(tag)[1].startswith("OK"))
        self.assertIn("before first", self.line("FETCH 2 BODY.PEEK[TEXT]"))

    def test_uidplus_and_move(self):
        self.filled()
        self.assertRegex(self.imap.ok("COPY 2:3 Trash")[1], r"\[COPYUID \d+ 2:3 1:2\]")
        self.assertRegex(" ".join(self.lines("UID MOVE 4:5 Trash")), r"\[COPYUID \d+ 4:5 3:4\].* 5 EXPUNGE .* 4 EXPUNGE")
        self.imap.ok("STORE 1:3 +FLAGS.SILENT (\\Deleted)")
        self.assertIn("* 2 EXPUNGE", self.lines("UID EXPUNGE 2,9"))
        self.assertTrue(self.imap.command("COPY 1 Nowhere")[1].startswith("NO [TRYCREATE]"))
        self.assertTrue(self.imap.command("MOVE 1 Nowhere")[1].startswith("NO [TRYCREATE]"))
        self.assertEqual([1, 3], numbers(self.line("UID SEARCH ALL")))

    # --- identity: RFC 8474 and Dovecot's own items ---

    def test_identity(self):
        self.filled()
        guids = [re.search(r"X-GUID (\w+)", line).group(1) for line in self.lines("FETCH 1:* X-GUID")]
        self.assertEqual(5, len(set(guids)))
        self.imap.ok("MOVE 2 Trash")
        self.imap.ok("RENAME Trash Bin")
        self.assertIn("X-MAILBOX INBOX", self.lines("FETCH 1 X-MAILBOX")[0])
        self.imap.ok("SELECT Bin")
        self.assertRegex(self.line("FETCH 1 X-GUID"), guids[1])
        if "OBJECTID" not in self.line("CAPABILITY"):
            return
        mailbox_id = re.search(r"MAILBOXID \((\w+)\)", self.line("STATUS Bin (MAILBOXID)")).group(1)
        self.imap.ok("RENAME Bin Trash")
        self.assertIn(mailbox_id, self.line("STATUS Trash (MAILBOXID)"))
        self.assertRegex(self.line("FETCH 1 EMAILID"), r"EMAILID \(\w+\)")

    # --- RFC 5258, 5819, 8438, 6154, 5464, 3691 ---

    def test_lists_status_and_metadata(self):
        self.filled()
        self.imap.ok("CREATE Work (USE (\\Archive))" if "CREATE-SPECIAL-USE" in self.line("CAPABILITY") else "CREATE Work")
        self.imap.ok("CREATE Work/Deep")
        self.imap.ok("SUBSCRIBE Work/Deep")
        self.assertIn('* LIST (\\Subscribed) "/" Work/Deep', self.lines('LIST (SUBSCRIBED) "" *'))
        listed = " ".join(self.lines('LIST "" (INBOX Work) RETURN (CHILDREN STATUS (MESSAGES SIZE UNSEEN))'))
        self.assertIn("\\HasChildren", listed)
        sizes = sum(numbers(line)[-1] for line in self.lines("FETCH 1:* RFC822.SIZE"))
        self.assertRegex(listed, r"STATUS INBOX \(MESSAGES 5 UNSEEN 5 SIZE %d\)" % sizes)
        self.imap.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
        self.imap.ok("EXPUNGE")
        less = sum(numbers(line)[-1] for line in self.lines("FETCH 1:* RFC822.SIZE"))
        self.assertIn("SIZE %d" % less, self.line("STATUS INBOX (SIZE)"))
        self.imap.ok('SETMETADATA Work (/private/comment "mine")')
        self.imap.ok("RENAME Work Play")
        self.assertIn("mine", " ".join(self.lines("GETMETADATA Play /private/comment")))

    def test_a_read_only_mailbox_stays_as_it_is(self):
        self.filled()
        self.imap.ok("EXAMINE INBOX")
        self.imap.ok("FETCH 1 BODY[]")
        self.assertNotIn("\\Seen", self.line("FETCH 1 FLAGS"))
        self.imap.command("STORE 1 +FLAGS (\\Seen)")
        self.imap.ok("SELECT INBOX")
        self.assertNotIn("\\Seen", self.line("FETCH 1 FLAGS"))
        self.imap.ok("FETCH 1 BODY[]")
        self.assertIn("\\Seen", self.line("FETCH 1 FLAGS"))


class Sdbox(Facts, unittest.TestCase):
    driver = "sdbox"


class Cbox(Facts, unittest.TestCase):
    driver = "cbox"

    # sdbox begins to keep them when a client first asks.
    def test_each_mail_has_a_modseq_of_its_own_and_a_copy_a_new_one(self):
        self.filled(enable="CONDSTORE")
        values = [numbers(line)[1] for line in self.lines("FETCH 1:* MODSEQ")]
        self.assertEqual(sorted(set(values)), values)
        self.imap.ok("COPY 1:* Trash")
        self.imap.ok("SELECT Trash")
        self.assertEqual({self.imap.highest_modseq("Trash")}, {numbers(line)[1] for line in self.lines("FETCH 1:* MODSEQ")})


if __name__ == "__main__":
    run()
