#!/usr/bin/env python3
"""The plugin `replica` in a real Dovecot against a scripted agent: refusals, timeouts, crashes of the agent at each step,
what the list's changes say, and what an account without a replica pays.

    replica_plugin.py --modules BUILD [--keep] [TEST...]

BUILD is the folder where lib90_cbox_plugin.so and lib95_replica_plugin.so stand (searched below it). Needs root.
"""

import argparse
import contextlib
import os
import pathlib
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.live.fake_agent import NO_GUID, FakeAgent  # noqa: E402
from tests.support import clients, ports  # noqa: E402
from tests.support.waiting import wait_until  # noqa: E402

SYSTEM_MODULES = pathlib.Path("/usr/lib/dovecot/modules")
ADDRESS, PASSWORD = "127.0.0.1", "secret"
ACK_TIMEOUT = 1.0
MAIL = b"From: a@example.net\r\nTo: b@example.net\r\nSubject: one\r\nMessage-ID: <%d@x>\r\n\r\nbody %d\r\n"

CONFIG = """\
listen = {address}
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/dovecot.log
protocols = imap pop3 lmtp
ssl = no
disable_plaintext_auth = no
first_valid_uid = 1
mail_uid = vmail
mail_gid = vmail
mail_location = cbox:~/mail:LAYOUT=index
mail_plugins = {plugins}
mail_plugin_dir = {folder}/modules
mail_attribute_dict = file:%h/dovecot-attributes
mail_max_userip_connections = 0
mail_fsync = never
namespace inbox {{
  inbox = yes
  separator = /
  mailbox Auto {{
    auto = subscribe
  }}
}}
namespace archive {{
  prefix = Archive/
  separator = /
  location = cbox:~/archive:LAYOUT=index
  subscriptions = no
}}
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid=vmail gid=vmail home={folder}/mail/%u
}}
protocol imap {{
  imap_metadata = yes
  mail_plugins = $mail_plugins
}}
plugin {{
  cbox_blobs = posix:prefix=%h/blobs/
  replica_ack_timeout = {timeout}ms
}}
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    port = {lmtp}
  }}
}}
"""


class Host:
    """One Dovecot with the modules of a build, its agent played by the test."""

    def __init__(self, modules, replica=True):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="replica-plugin-"))
        self.folder.chmod(0o755)
        self.users = self.pid = 0
        taken = set()
        self.ports = {name: ports.free_port(ADDRESS, taken) for name in ("imap", "pop3", "lmtp")}
        for name in ("run", "state", "mail", "modules"):
            (self.folder / name).mkdir()
        vmail = pwd.getpwnam("vmail")
        self.uid, self.gid = vmail.pw_uid, vmail.pw_gid
        os.chown(self.folder / "mail", self.uid, self.gid)
        for module in SYSTEM_MODULES.iterdir():
            (self.folder / "modules" / module.name).symlink_to(module)
        for name in ("lib90_cbox_plugin.so", "lib95_replica_plugin.so"):
            found = next(pathlib.Path(modules).rglob(name))
            with contextlib.suppress(FileNotFoundError):
                (self.folder / "modules" / name).unlink()
            (self.folder / "modules" / name).symlink_to(found.resolve())
        self.config = self.folder / "dovecot.conf"
        self.config.write_text(CONFIG.format(address=ADDRESS, folder=self.folder, password=PASSWORD,
                                             timeout=int(ACK_TIMEOUT * 1000),
                                             plugins="cbox replica" if replica else "cbox", **self.ports))
        self.agent = FakeAgent(self.folder / "run" / "replica")
        self.log_seen = 0

    def start(self):
        subprocess.run(["/usr/sbin/dovecot", "-c", self.config], check=True, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.pid = int(wait_until(lambda: (self.folder / "run" / "master.pid").read_text(), 20, "a master"))
        wait_until(lambda: all(clients.greets(ADDRESS, port) for port in self.ports.values()), 20, "greetings")

    def stop(self):
        self.agent.stop()
        if not self.pid:
            return
        os.kill(self.pid, signal.SIGTERM)
        wait_until(lambda: not os.path.exists(f"/proc/{self.pid}"), 20, "Dovecot stopped")

    def user(self, role="source", boot=None, epoch=1):
        self.users += 1
        name = f"u{self.users}@example.com"
        home = self.folder / "mail" / name
        (home / "mail").mkdir(parents=True)
        for path in (home, home / "mail"):
            os.chown(path, self.uid, self.gid)
        if role:
            self.set_role(name, role, boot, epoch)
        return name

    def set_role(self, user, role, boot=None, epoch=1):
        folder = self.folder / "mail" / user / "mail" / ".replica"
        if role is None:
            shutil.rmtree(folder)
            return
        folder.mkdir(exist_ok=True)
        boot = boot or pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        (folder / "state.new").write_text(f"1 {role} {epoch} {boot}\n")
        (folder / "state.new").rename(folder / "state")
        os.chown(folder, self.uid, self.gid)

    def imap(self, user):
        return clients.Imap(ADDRESS, self.ports["imap"], user, PASSWORD)

    def doveadm(self, *arguments, check=True):
        done = subprocess.run(["doveadm", "-c", self.config, *arguments], capture_output=True, text=True, timeout=60,
                              stdin=subprocess.DEVNULL)
        if check and done.returncode != 0:
            raise AssertionError(f"doveadm {arguments}: {done.returncode} {done.stderr}")
        return done

    def new_log(self):
        """What was logged since the last call."""
        text = (self.folder / "dovecot.log").read_text()
        new, self.log_seen = text[self.log_seen:], len(text)
        return new


def refuse(reason):
    return lambda connection, frame: connection.refuse(frame, reason, "by the test")


def silent(_connection, _frame):
    pass


def hang_up(connection, _frame):
    connection.close()


class PluginTest(unittest.TestCase):
    host = None

    def setUp(self):
        self.agent = self.host.agent
        self.agent.stop()
        self.agent.obey()
        self.agent.start()
        self.host.new_log()
        self.agent.take()

    def tearDown(self):
        self.assertEqual(self.agent.failures, [])
        log = self.host.new_log()
        self.assertNotRegex(log, r"Panic:|Fatal:|assertion failed|killed with signal")

    def changes(self, kind=None):
        return [f for f in self.agent.take() if f["frame"] == "change" and kind in (None, f["kind"])]

    def session(self, role="source", mails=0):
        user = self.host.user(role)
        imap = self.host.imap(user)
        for i in range(mails):
            self.assertTrue(imap.append("INBOX", MAIL % (i, i)).ok)
        return user, imap

    def assert_unavailable(self, response):
        self.assertEqual((response.status, (response.code or "").split()[:1]), ("NO", ["UNAVAILABLE"]), response.text)


class WithoutAReplica(PluginTest):
    def test_nothing_is_asked_and_an_absent_agent_is_not_missed(self):
        self.agent.stop()
        user, imap = self.session(role=None, mails=1)
        imap.expect("CREATE box")
        imap.expect("SUBSCRIBE box")
        imap.select("INBOX")
        imap.expect("STORE 1 +FLAGS (\\Seen k)")
        imap.expect("COPY 1 box")
        imap.expect("STORE 1 +FLAGS (\\Deleted)")
        imap.expect("EXPUNGE")
        imap.expect('SETMETADATA INBOX (/private/comment "c")')
        imap.expect("RENAME box other")
        imap.expect("UNSUBSCRIBE box")
        imap.expect("DELETE other")
        self.assertEqual(self.agent.take(), [])
        self.assertNotIn("replica", self.host.new_log())

    def test_a_replica_that_is_set_up_later_is_seen_by_a_running_session(self):
        user, imap = self.session(role=None, mails=1)
        self.assertEqual(self.agent.take(), [])
        self.host.set_role(user, "source")
        self.assertTrue(imap.append("INBOX", MAIL % (1, 1)).ok)
        change, = self.changes()
        self.assertEqual(change["previous"], (0, 0))


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
                    self.assertNotIn("done", [f["frame"] for f in self.agent.take()])
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
            self.agent.number(connection, frame)
            self.agent.obey()
            connection.close()
        self.agent.obey(on_change=ack_and_die)
        self.agent.take()
        self.assertTrue(imap.append("INBOX", MAIL % (1, 1)).ok)
        self.assertTrue(imap.append("INBOX", MAIL % (2, 2)).ok)
        self.agent.wait_for(lambda frames: frames[-1]["frame"] == "done")
        frames = self.agent.take()
        done = [f["request"] for f in frames if f["frame"] == "done"]
        changes = [f["request"] for f in frames if f["frame"] == "change"]
        self.assertEqual(done, changes[1:])

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
        wait_until(lambda: imap.command("STORE 1 +FLAGS (\\Seen)").ok, 5, "the probe")
        # What was in doubt did not happen there, and what happened since is one change.
        self.assertEqual(imap.fetch("1", "(FLAGS)", uid=False)[0]["FLAGS"].count("\\Seen"), 1)

    def test_fifty_recipients_do_not_wait_fifty_times(self):
        users = [self.host.user() for _ in range(50)]
        for name, on_clear, on_change in (("clear", silent, None), ("change", None, silent)):
            with self.subTest(name):
                self.agent.obey(on_clear, on_change)
                with clients.Lmtp(ADDRESS, self.host.ports["lmtp"], timeout=60) as lmtp:
                    begin = time.monotonic()
                    replies = lmtp.deliver(users, MAIL % (1, 1))
                    took = time.monotonic() - begin
                self.assertEqual(len(replies), 50)
                self.assertTrue(all(reply.startswith("451 ") for reply in replies.values()), replies)
                self.assertLess(took, ACK_TIMEOUT + 3)
        self.agent.obey()
        with clients.Lmtp(ADDRESS, self.host.ports["lmtp"], timeout=60) as lmtp:
            wait_until(lambda: lmtp.deliver(users[0], MAIL % (1, 1))[users[0]].startswith("250 "), 5, "the probe")

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


class Weight(PluginTest):
    LIMIT_KB = 300

    @staticmethod
    def private_dirty_kb(pid):
        return sum(int(line.split()[1]) for line in open(f"/proc/{pid}/smaps_rollup") if line.startswith("Private_Dirty"))

    def test_an_imap_process_grows_little_and_has_one_thread(self):
        plain = Host(self.modules, replica=False)
        plain.start()
        try:
            _, without = self.pid_and_session(plain, None)
            session, with_plugin = self.pid_and_session(self.host, "source")
            grown = self.private_dirty_kb(with_plugin) - self.private_dirty_kb(without)
            print(f"private dirty memory: {self.private_dirty_kb(without)} kB, with the plugin {grown} kB more")
            self.assertLess(grown, self.LIMIT_KB)
            self.assertEqual(len(os.listdir(f"/proc/{with_plugin}/task")), 1)
        finally:
            plain.stop()
            shutil.rmtree(plain.folder)

    def pid_and_session(self, host, role):
        """An imap process that did a bit of everything. The session is kept: it keeps the process."""
        before = set(self.imap_pids(host))
        user = host.user(role)
        imap = host.imap(user)
        self.assertTrue(imap.append("INBOX", MAIL % (1, 1)).ok)
        imap.expect("CREATE box")
        imap.select("INBOX")
        imap.expect("STORE 1 +FLAGS (\\Seen)")
        pid, = set(self.imap_pids(host)) - before
        self.addCleanup(imap.logout)
        return imap, pid

    @staticmethod
    def imap_pids(host):
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                stat = (process / "stat").read_text().rpartition(")")[2].split()
                if int(stat[1]) == host.pid and os.readlink(process / "exe").endswith("/imap"):
                    yield int(process.name)
            except OSError:
                continue


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--modules", required=True)
    parser.add_argument("--keep", action="store_true", help="keep the folder with log and mail")
    parser.add_argument("tests", nargs="*")
    options = parser.parse_args()
    host = Host(options.modules)
    PluginTest.host, PluginTest.modules = host, options.modules
    try:
        host.start()
        program = unittest.main(argv=[sys.argv[0], "-v", *options.tests], exit=False, warnings="ignore")
    finally:
        host.stop()
        if options.keep:
            print(host.folder)
        else:
            shutil.rmtree(host.folder)
    sys.exit(not program.result.wasSuccessful())


if __name__ == "__main__":
    main()
