#!/usr/bin/env python3
"""Changes of mailboxes through the plugin: what is shipped, and that a refusal changes nothing."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from live.fake_agent import NO_GUID  # noqa: E402
from live.plugin_host import (  # noqa: E402,F401
    ADDRESS, MAIL, PASSWORD, PluginTest, refuse, setUpModule, tearDownModule)
from support import clients  # noqa: E402


class Mailbox(PluginTest):
    def test_each_kind_of_change_is_one_acknowledged_change_in_a_chain(self):
        user, imap = self.session(mails=1)
        imap.expect("CREATE box")
        imap.select("INBOX")
        self.agent.take()
        for command, present in (("STORE 1 +FLAGS (\\Seen)", "flags"), ("STORE 1 +FLAGS (kw)", "keywords"),
                                 ('SETMETADATA INBOX (/private/comment "c")', "attributes"),
                                 ("COPY 1 box", "appends"), ("STORE 1 +FLAGS (\\Deleted)", "flags"),
                                 ("EXPUNGE", "expunges")):
            with self.subTest(command):
                imap.expect(*command.split(" ", 1))
                self.agent.wait_for(lambda frames: frames and frames[-1]["frame"] == "done")
                frames = self.agent.take()
                self.assertEqual([f["frame"] for f in frames], ["clear", "change", "done"])
                clear, change, done = frames
                self.assertEqual(clear["object"], change["object"])
                self.assertEqual(clear["mark"], change["previous"])
                self.assertNotEqual(change["previous"], (0, 0))
                self.assertEqual(change["account"], user)
                self.assertTrue(change["payload"][present])
                self.assertTrue(done["ok"])
                self.assertEqual(done["request"], change["request"])

    def test_a_move_is_an_append_and_then_an_expunge(self):
        user, imap = self.session(mails=1)
        imap.expect("CREATE box")
        imap.select("INBOX")
        self.agent.take()
        imap.expect("MOVE 1 box")
        first, second = self.changes()
        self.assertTrue(first["payload"]["appends"])
        self.assertTrue(second["payload"]["expunges"])
        self.assertNotEqual(first["object"], second["object"])

    def refused(self, command, prepare, look):
        """The same command refused at either step leaves what `look` sees as it was, and succeeds afterwards."""
        user, imap = self.session(mails=2)
        prepare(imap)
        before = look(imap)
        for step in ("on_clear", "on_change"):
            for reason in ("unavailable", "not_source", "behind", "stopped", "busy"):
                with self.subTest(command=command, step=step, reason=reason):
                    if step == "on_clear":
                        self.agent.obey(on_clear=lambda c, f, r=reason: c.answer(f, r, "by the test"))
                    else:
                        self.agent.obey(on_change=refuse(reason))
                    self.agent.take()
                    self.assert_unavailable(imap.command(*command))
                    frames = self.agent.take()  # a late DONE of the change before may be among them
                    self.assertFalse({f["request"] for f in frames if f["frame"] == "change"} &
                                     {f["request"] for f in frames if f["frame"] == "done"})
                    self.agent.obey()
                    self.assertEqual(look(imap), before)
        imap.expect(*command)
        self.assertNotEqual(look(imap), before)

    @staticmethod
    def state(imap):
        mails = [(m["UID"], sorted(m["FLAGS"]), m["MODSEQ"]) for m in imap.fetch("1:*", "(FLAGS UID MODSEQ)")]
        status = list(imap.expect("STATUS box (MESSAGES UIDNEXT HIGHESTMODSEQ)").named("STATUS"))
        return mails, status, imap.expect("NOOP").status

    @staticmethod
    def prepare(imap):
        imap.expect("CREATE box")
        imap.select("INBOX")
        imap.fetch("1:*", "(MODSEQ)")

    def test_store_is_refused_cleanly(self):
        self.refused(("STORE 1 +FLAGS (\\Seen)",), self.prepare, self.state)

    def test_keywords_are_refused_cleanly(self):
        self.refused(("STORE 1 +FLAGS (kw)",), self.prepare, self.state)

    def test_copy_is_refused_cleanly(self):
        self.refused(("COPY 1:2 box",), self.prepare, self.state)

    def test_append_is_refused_cleanly(self):
        self.refused(("APPEND box", MAIL % (9, 9)), self.prepare, self.state)

    def test_expunge_is_refused_cleanly(self):
        def prepare(imap):
            self.prepare(imap)
            imap.expect("STORE 1 +FLAGS (\\Deleted)")
        self.refused(("EXPUNGE",), prepare, self.state)

    def test_metadata_is_refused_cleanly(self):
        def look(imap):
            return list(imap.expect("GETMETADATA INBOX (/private/comment)").named("METADATA"))
        self.refused(('SETMETADATA INBOX (/private/comment "c")',), self.prepare, look)

    def test_lmtp_is_refused_for_a_while_and_pop3_temporarily(self):
        user, imap = self.session(mails=1)
        self.agent.obey(on_change=refuse("unavailable"))
        with clients.Lmtp(ADDRESS, self.host.ports["lmtp"]) as lmtp:
            self.assertRegex(lmtp.deliver(user, MAIL % (1, 1))[user], r"^451 4\.[0-9]\.0 ")
        pop3 = clients.Pop3(ADDRESS, self.host.ports["pop3"], user, PASSWORD)
        pop3.expect("DELE 1")
        self.assertRegex(pop3.quit(), r"^-ERR \[SYS/TEMP\]")
        self.agent.obey()
        imap.select("INBOX")
        self.assertEqual(len(imap.fetch("1:*", "(UID)")), 1)

    def test_a_refusal_is_logged_once(self):
        user, imap = self.session(mails=1)
        imap.select("INBOX")
        self.agent.obey(on_change=lambda c, f: c.refuse(f, "behind", "sentence of the agent"))
        self.assert_unavailable(imap.command("STORE 1 +FLAGS (\\Seen)"))
        self.assertEqual(self.host.new_log().count("sentence of the agent"), 1)

    def test_what_was_changed_past_the_log_takes_no_change_before_its_snapshot(self):
        user, imap = self.session(mails=1)
        imap.select("INBOX")
        self.host.set_role(user, None)
        imap.expect("STORE 1 +FLAGS (\\Flagged)")
        imap.expect("CREATE box")
        self.host.set_role(user, "source")
        for command, object_ in (("STORE 1 +FLAGS (\\Seen)", "mailbox"), ("CREATE other", "list")):
            with self.subTest(command):
                self.agent.take()
                self.assert_unavailable(imap.command(command))
                self.agent.wait_for(lambda frames: frames and frames[-1]["frame"] == "clear")
                frames = self.agent.take()
                self.assertEqual({f["frame"] for f in frames}, {"clear"})
                self.assertTrue(all(f["unlogged"] for f in frames))
                self.assertEqual(frames[-1]["object"][1] == NO_GUID, object_ == "list")

    def test_a_change_of_the_guid_is_refused_and_other_updates_are_changes(self):
        user, imap = self.session(mails=1)
        imap.expect("CREATE box")
        self.agent.take()
        before = self.host.doveadm("mailbox", "status", "-u", user, "guid", "box").stdout
        done = self.host.doveadm("mailbox", "update", "-u", user, "--mailbox-guid", "00112233445566778899aabbccddeeff",
                                 "box", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(self.host.doveadm("mailbox", "status", "-u", user, "guid", "box").stdout, before)
        self.assertEqual(self.changes(), [])
        self.host.doveadm("mailbox", "update", "-u", user, "--min-next-uid", "100", "box")
        change, = self.changes()
        self.assertEqual(change["payload"]["header"][1], 100)

    def test_what_doveadm_imports_is_shipped(self):
        user, imap = self.session(mails=2)
        other = self.host.user()
        self.agent.take()
        self.host.doveadm("import", "-u", other, "-U", user, f"cbox:{self.host.folder}/mail/{user}/mail:LAYOUT=index", "imported",
                          "all")
        appends = [a for c in self.changes("mailbox") if c["account"] == other for a in c["payload"]["appends"]]
        self.assertEqual(len(appends), 2)

    def test_what_doveadm_sync_brings_is_shipped(self):
        user, imap = self.session(mails=2)
        imap.expect("CREATE box/child")
        imap.append("box/child", MAIL % (3, 3))
        imap.expect("SUBSCRIBE box/child")
        imap.expect("CREATE dir/")
        imap.expect("CREATE gone")
        copy = f"sdbox:{self.host.folder}/mail/{user}/copy:LAYOUT=index"
        self.host.doveadm("sync", "-1", "-u", user, copy)
        other = self.host.user()
        self.agent.take()
        self.host.doveadm("sync", "-u", other, copy)
        changes = [change for change in self.changes() if change["account"] == other]
        self.assertEqual(sum(len(c["payload"]["appends"]) for c in changes if c["kind"] == "mailbox"), 3)
        created = {tuple(c["payload"]["name"]): c["subject"] for c in changes if c["kind"] == "create"}
        self.assertLessEqual({("INBOX",), ("box", "child"), ("dir",)}, created.keys())
        self.assertIn((["box", "child"], True), [(c["payload"]["name"], c["payload"]["subscribed"])
                                                 for c in changes if c["kind"] == "subscription"])
        # What changes its name or goes away there does so here, through the log too.
        imap.expect("DELETE gone")
        imap.expect("RENAME box/child moved")
        self.host.doveadm("backup", "-u", user, copy)
        self.agent.take()
        self.host.doveadm("backup", "-R", "-u", other, copy)
        changes = [change for change in self.changes() if change["account"] == other]
        self.assertIn(created["box", "child"], [c["payload"]["mailbox"] for c in changes if c["kind"] == "rename"])
        self.assertIn(created["gone",], [c["subject"] for c in changes if c["kind"] == "delete"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
