#!/usr/bin/env python3
"""The agent is away, slow or dies; the store is not the source."""

import os
import pathlib
import signal
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from live.plugin_host import (  # noqa: E402,F401
    ACK_TIMEOUT, ADDRESS, MAIL, PASSWORD, PluginTest, silent, setUpModule, tearDownModule)
from support import clients  # noqa: E402
from support.waiting import wait_until  # noqa: E402


class Agent(PluginTest):
    """The agent is away, slow or dies."""

    def test_a_lost_agent_is_found_again_silently(self):
        user, imap = self.session(mails=1)
        for _ in range(3):
            self.agent.stop()
            self.agent.start()
            self.assertTrue(imap.append("INBOX", MAIL % (1, 1)).ok)
        self.assertNotIn("replica_refused", self.host.new_log())

    def test_an_agent_that_dies_before_it_read_the_change_costs_nothing(self):
        user, imap = self.session(mails=1)
        died = []

        def die_once(connection, frame):
            if died:
                self.agent.number(connection, frame)
            else:
                died.append(frame)
                connection.close()
        self.agent.obey(on_change=die_once)
        self.assertTrue(imap.append("INBOX", MAIL % (1, 1)).ok)
        self.assertEqual(self.host.new_log().count("replica_refused"), 0)

    def test_an_agent_that_dies_behind_the_number_leaves_the_change_in_doubt(self):
        user, imap = self.session(mails=1)

        def number_and_die(connection, frame):
            self.agent.number(connection, frame, answer=False)
            self.agent.obey()
            connection.close()
        self.agent.obey(on_change=number_and_die)
        self.assert_unavailable(imap.append("INBOX", MAIL % (1, 1)))
        imap.select("INBOX")
        self.assertEqual(len(imap.fetch("1:*", "(UID)")), 1)  # until it is rolled forward
        self.assert_unavailable(imap.append("INBOX", MAIL % (2, 2)))

    def test_an_agent_that_dies_before_done_is_not_told_on_another_connection(self):
        user, imap = self.session(mails=1)

        def ack_and_die(connection, frame):
            self.agent.obey()
            os.kill(connection.pid, signal.SIGSTOP)
            self.agent.number(connection, frame)
            connection.close()
            os.kill(connection.pid, signal.SIGCONT)
        self.agent.obey(on_change=ack_and_die)
        self.agent.take()
        self.assertTrue(imap.append("INBOX", MAIL % (1, 1)).ok)
        self.assertTrue(imap.append("INBOX", MAIL % (2, 2)).ok)
        self.agent.wait_for(lambda frames: frames[-1]["frame"] == "done")
        frames = self.agent.take()
        done = [f["request"] for f in frames if f["frame"] == "done"]
        changes = [f["request"] for f in frames if f["frame"] == "change"]
        self.assertEqual(done, changes[1:])

    def test_a_mail_process_that_dies_between_ack_and_commit_leaves_its_object_behind(self):
        user, imap = self.session(mails=1)
        imap.expect("CREATE old")
        listed = sorted(line[2] for line in imap.expect('LIST "" *').named("LIST"))

        def ack_and_kill(connection, frame):
            self.agent.obey()
            os.kill(connection.pid, signal.SIGSTOP)
            self.agent.number(connection, frame)
            os.kill(connection.pid, signal.SIGKILL)
        for command in (("APPEND INBOX", MAIL % (1, 1)), ("STORE 1 +FLAGS (\\Seen)",), ("CREATE new",), ("DELETE old",),
                        ("RENAME old new",), ("SUBSCRIBE old",)):
            with self.subTest(command[0]):
                session = self.host.imap(user)
                session.select("INBOX")
                before = self.agent.numbers.copy()
                self.agent.obey(on_change=ack_and_kill)
                with self.assertRaises(OSError):
                    session.command(*command)
                # Nothing of it is there, no lock is left, and the object's next change is convicted by its mark.
                session = self.host.imap(user)
                session.select("INBOX")
                self.assertEqual([mail["FLAGS"] for mail in session.fetch("1:*", "(FLAGS)")].count(["\\Seen"]), 0)
                self.assertEqual(len(session.fetch("1:*", "(UID)")), 1)
                self.assertEqual(sorted(line[2] for line in session.expect('LIST "" *').named("LIST")), listed)
                self.assertEqual([line[2] for line in session.expect('LSUB "" *').named("LSUB")], ["Auto"])
                self.assert_unavailable(session.command(*command))
                self.agent.numbers = before  # as if it had been taken back: the next command begins anew

    def test_a_silent_agent_costs_one_timeout_then_nothing_and_a_probe_ends_it(self):
        user, imap = self.session(mails=1)
        imap.select("INBOX")
        self.agent.obey(on_change=silent)
        begin = time.monotonic()
        self.assert_unavailable(imap.command("STORE 1 +FLAGS (\\Seen)"))
        self.assertGreaterEqual(time.monotonic() - begin, ACK_TIMEOUT)
        self.agent.obey(on_clear=silent, on_change=silent)
        begin = time.monotonic()
        for _ in range(20):
            self.assert_unavailable(imap.command("STORE 1 +FLAGS (\\Seen)"))
        self.assertLess(time.monotonic() - begin, ACK_TIMEOUT)
        self.assertEqual(self.host.new_log().count("replica_refused"), 1)
        self.agent.obey()
        wait_until(lambda: imap.command("STORE 1 +FLAGS (\\Seen)").ok, 60, "the probe")
        # What was in doubt did not happen there, and what happened since is one change.
        self.assertEqual(imap.fetch("1", "(FLAGS)", uid=False)[0]["FLAGS"].count("\\Seen"), 1)

    def test_fifty_recipients_do_not_wait_fifty_times(self):
        users = [self.host.user() for _ in range(50)]
        for name, on_clear, on_change in (("clear", silent, None), ("change", None, silent)):
            with self.subTest(name):
                self.agent.obey(on_clear, on_change)
                with clients.Lmtp(ADDRESS, self.host.ports["lmtp"], timeout=300) as lmtp:
                    begin = time.monotonic()
                    replies = lmtp.deliver(users, MAIL % (1, 1))
                    took = time.monotonic() - begin
                self.assertEqual(len(replies), 50)
                self.assertTrue(all(reply.startswith("451 ") for reply in replies.values()), replies)
                self.assertLess(took, 8 * ACK_TIMEOUT)
        self.agent.obey()
        with clients.Lmtp(ADDRESS, self.host.ports["lmtp"], timeout=300) as lmtp:
            wait_until(lambda: lmtp.deliver(users[0], MAIL % (1, 1))[users[0]].startswith("250 "), 60, "the probe")

    def test_an_absent_agent_is_a_refusal_at_once_and_reading_goes_on(self):
        user, imap = self.session(mails=1)
        self.agent.stop()
        begin = time.monotonic()
        imap.select("INBOX")
        self.assertEqual(len(imap.fetch("1:*", "(BODY.PEEK[])")), 1)
        self.assert_unavailable(imap.command("STORE 1 +FLAGS (\\Seen)"))
        self.assert_unavailable(imap.command("CREATE box"))
        second = self.host.imap(user)
        second.select("INBOX")
        self.assertLess(time.monotonic() - begin, ACK_TIMEOUT)

    def test_a_login_waits_for_a_silent_agent_a_second_at_most(self):
        user, imap = self.session(mails=1)
        self.agent.obey(on_clear=silent)
        begin = time.monotonic()
        second = self.host.imap(user)
        second.select("INBOX")
        self.assertLess(time.monotonic() - begin, ACK_TIMEOUT)

    def test_a_first_delivery_without_an_agent_is_refused_without_calling_it_a_bug(self):
        user = self.host.user()
        self.agent.stop()
        with clients.Lmtp(ADDRESS, self.host.ports["lmtp"]) as lmtp:
            self.assertRegex(lmtp.deliver(user, MAIL % (1, 1))[user], "^451 ")
        imap = self.host.imap(user)
        self.assert_unavailable(imap.command("SELECT INBOX"))
        self.assertNotIn("Failed to autocreate", self.host.new_log())


class NotTheSource(PluginTest):
    def test_a_destination_is_read_and_takes_no_change(self):
        user, imap = self.session(mails=1)
        imap.expect("CREATE box")
        imap.logout()
        for role in ("destination", "removed"):
            self.host.set_role(user, role)
            imap = self.host.imap(user)
            self.agent.take()
            imap.select("INBOX")
            self.assertEqual(len(imap.fetch("1:*", "(BODY.PEEK[])")), 1)
            for command in ("STORE 1 +FLAGS (\\Seen)", "COPY 1 box", "CREATE new", "DELETE box", "RENAME box new",
                            "SUBSCRIBE box", 'SETMETADATA INBOX (/private/comment "c")'):
                with self.subTest(role=role, command=command):
                    self.assert_unavailable(imap.command(command))
            self.assert_unavailable(imap.append("INBOX", MAIL % (1, 1)))
            self.assertEqual(self.agent.take(), [])

    def test_a_destination_makes_no_mailbox_by_itself(self):
        user, imap = self.session(role="destination")
        self.assert_unavailable(imap.command("SELECT INBOX"))
        self.assert_unavailable(imap.command("SELECT Auto"))
        self.assertTrue(imap.command('LIST "" *').ok)
        imap.command("STATUS INBOX (MESSAGES)")
        mailboxes = self.host.folder / "mail" / user / "mail" / "mailboxes"
        self.assertFalse(mailboxes.exists() and any(mailboxes.iterdir()))
        self.assertNotIn("Failed to autocreate", self.host.new_log())

    def test_after_a_boot_nobody_sees_the_past(self):
        user, imap = self.session(mails=1)
        imap.logout()
        for role in ("source", "destination"):
            self.host.set_role(user, role, boot="another-boot")
            with self.subTest(role):
                refused = self.host.doveadm("mailbox", "status", "-u", user, "messages", "INBOX", check=False)
                self.assertNotEqual(refused.returncode, 0)
                with self.assertRaises((clients.Refused, OSError)):
                    imap = self.host.imap(user)
                    imap.expect("STATUS INBOX (MESSAGES)")
                with clients.Lmtp(ADDRESS, self.host.ports["lmtp"]) as lmtp:
                    self.assertRegex(lmtp.deliver(user, MAIL % (1, 1))[user], "^451 ")
        self.host.set_role(user, "source")
        self.host.imap(user).select("INBOX")

    def test_a_control_dir_that_cannot_be_understood_refuses_changes_and_says_why(self):
        user, imap = self.session(mails=1)
        state = self.host.folder / "mail" / user / "mail" / ".replica" / "state"
        state.write_text("2 something new\n")
        self.assert_unavailable(imap.append("INBOX", MAIL % (1, 1)))
        self.assertIn("its version is not 1", self.host.new_log())


if __name__ == "__main__":
    unittest.main(verbosity=2)
