#!/usr/bin/env python3
"""Changes of the mailbox list through the plugin: what they say, and that a refusal changes nothing."""

import pathlib
import re
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from live.fake_agent import NO_GUID  # noqa: E402
from live.plugin_host import (  # noqa: E402,F401
    ADDRESS, MAIL, PluginTest, refuse, setUpModule, tearDownModule)
from support import clients  # noqa: E402


class List(PluginTest):
    def guid(self, user, name):
        line = self.host.doveadm("mailbox", "status", "-u", user, "guid", name).stdout
        return bytes.fromhex(re.search("guid=([0-9a-f]{32})", line)[1])

    def validity(self, imap, name):
        status, = imap.expect(f"STATUS {clients.quote(name)} (UIDVALIDITY)").named("STATUS")
        return int(status[1][1])

    def test_create_says_what_was_made_and_gives_both_their_first_mark(self):
        user, imap = self.session(mails=1)
        self.agent.take()
        imap.expect('CREATE "a/b&AOQ-"')
        change, = self.changes()
        self.assertEqual((change["kind"], change["object"]), ("create", ("", NO_GUID)))
        self.assertEqual(change["payload"]["name"], ["a", "bä"])
        self.assertEqual(change["payload"]["mailbox"], self.guid(user, "a/bä"))
        self.assertEqual(change["subject"], change["payload"]["mailbox"])
        self.assertEqual(change["payload"]["uid_validity"], self.validity(imap, "a/b&AOQ-"))
        number = (1, self.agent.sequence)
        self.assertTrue(imap.append("a/b&AOQ-", MAIL % (1, 1)).ok)
        append, = self.changes()
        self.assertEqual(append["previous"], number)

    def test_the_inbox_is_created_through_the_log_too(self):
        user = self.host.user()
        with clients.Lmtp(ADDRESS, self.host.ports["lmtp"]) as lmtp:
            self.assertRegex(lmtp.deliver(user, MAIL % (1, 1))[user], "^250 ")
        create, append = self.changes()
        self.assertEqual((create["kind"], create["payload"]["name"], create["previous"]), ("create", ["INBOX"], (0, 0)))
        self.assertEqual(append["object"], ("", create["payload"]["mailbox"]))

    def test_the_list_is_a_chain_of_its_own(self):
        user, imap = self.session(mails=1)
        first = self.changes("create")[0]
        self.agent.wait_for(lambda frames: True)
        expected = self.agent.numbers[user, ("", NO_GUID)]
        imap.expect("CREATE box")
        change, = self.changes()
        self.assertEqual(change["previous"], expected)
        self.assertNotEqual(change["previous"], first["previous"])

    def test_delete_names_the_mailbox_and_its_mails_go_without_a_change(self):
        user, imap = self.session(mails=1)
        imap.expect("CREATE box/child")
        imap.expect("CREATE box")
        self.assertTrue(imap.append("box", MAIL % (1, 1)).ok)
        guid = self.guid(user, "box")
        self.agent.take()
        imap.expect("DELETE box")
        change, = self.changes()
        self.assertEqual((change["kind"], change["subject"]), ("delete", guid))
        self.assertEqual(change["payload"], {"mailbox": guid, "name": ["box"]})
        self.assertEqual([line[2] for line in imap.expect('LIST "" box*').named("LIST")], ["box", "box/child"])

    def test_a_noselect_directory_is_deleted_by_name(self):
        user, imap = self.session()
        imap.expect("CREATE dir/")
        change, = self.changes("create")
        self.assertEqual(change["payload"], {"mailbox": NO_GUID, "name": ["dir"], "uid_validity": 0})
        imap.expect("DELETE dir")
        change, = self.changes()
        self.assertEqual((change["kind"], change["subject"]), ("delete", NO_GUID))
        self.assertEqual(change["payload"], {"mailbox": NO_GUID, "name": ["dir"]})

    def test_what_super_would_refuse_is_not_told(self):
        user, imap = self.session(mails=1)
        imap.expect("CREATE a/b")
        imap.expect("CREATE c")
        self.agent.take()
        for command in ("CREATE c", "DELETE a", "DELETE nowhere", "RENAME nowhere x", "RENAME c a/b", "RENAME c c/d",
                        "RENAME c Archive/c", "DELETE INBOX"):
            with self.subTest(command):
                self.assertEqual(imap.command(command).status, "NO")
                self.assertEqual(self.changes(), [])
        done = self.host.doveadm("mailbox", "delete", "-e", "-u", user, "INBOX", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(self.changes(), [])

    def test_rename_states_the_outcome(self):
        user, imap = self.session()
        imap.expect("CREATE a/b")
        guid = self.guid(user, "a/b")
        self.agent.take()
        imap.expect("RENAME a/b x/y")
        change, = self.changes()
        self.assertEqual(change["payload"], {"mailbox": guid, "old_name": ["a", "b"], "name": ["x", "y"]})
        imap.expect("RENAME x z")
        change, = self.changes()
        self.assertEqual(change["payload"], {"mailbox": NO_GUID, "old_name": ["x"], "name": ["z"]})
        self.assertEqual(self.guid(user, "z/y"), guid)

    def test_subscriptions_also_of_names_that_do_not_exist(self):
        user, imap = self.session()
        imap.expect("CREATE box")
        self.agent.take()
        imap.expect("SUBSCRIBE box")
        change, = self.changes()
        self.assertEqual((change["kind"], change["payload"]), ("subscription", {"name": ["box"], "subscribed": True}))
        self.host.doveadm("mailbox", "subscribe", "-u", user, "not/there")
        change, = self.changes()
        self.assertEqual(change["payload"], {"name": ["not", "there"], "subscribed": True})
        imap.expect("UNSUBSCRIBE not/there")
        change, = self.changes()
        self.assertEqual(change["payload"], {"name": ["not", "there"], "subscribed": False})
        imap.expect("UNSUBSCRIBE not/there")  # nothing to change
        self.assertEqual(self.changes(), [])

    def test_another_namespace_has_a_list_of_its_own_and_its_subscriptions_are_where_they_are_kept(self):
        user, imap = self.session(mails=1)
        self.agent.take()
        imap.expect("CREATE Archive/2025")
        change, = self.changes()
        self.assertEqual((change["object"], change["payload"]["name"]), (("Archive/", NO_GUID), ["2025"]))
        self.assertTrue(imap.append("Archive/2025", MAIL % (1, 1)).ok)
        append, = self.changes()
        self.assertEqual(append["object"], ("Archive/", change["payload"]["mailbox"]))
        imap.expect("SUBSCRIBE Archive/2025")
        change, = self.changes()
        self.assertEqual((change["object"], change["payload"]["name"]), (("", NO_GUID), ["Archive", "2025"]))

    def test_refused_changes_of_the_list_change_nothing(self):
        user, imap = self.session()
        imap.expect("CREATE old")
        imap.expect("CREATE dir/")

        def look():
            return (list(imap.expect('LIST "" *').named("LIST")), list(imap.expect('LSUB "" *').named("LSUB")))

        before = look()
        self.agent.obey(on_change=refuse("behind"))
        for command in ("CREATE new", "CREATE newdir/", "DELETE old", "DELETE dir", "RENAME old new", "SUBSCRIBE old"):
            with self.subTest(command):
                self.assert_unavailable(imap.command(command))
                self.assertEqual(look(), before)
        self.agent.obey()
        for command in ("RENAME old new", "SUBSCRIBE new", "DELETE new", "DELETE dir"):
            imap.expect(command)


if __name__ == "__main__":
    unittest.main(verbosity=2)
