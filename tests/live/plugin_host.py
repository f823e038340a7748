"""A Dovecot with the modules of a build, its agent played by the test: what the tests of the plugin `replica` share.

A file of tests imports setUpModule and tearDownModule from here and ends in `unittest.main()`. Needs root;
REPLICA_BUILD_DIR names the build directory. REPLICA_KEEP=1 keeps the folder with log and mail.
"""

import contextlib
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from live.fake_agent import FakeAgent  # noqa: E402
from support import clients, ports  # noqa: E402
from support.waiting import wait_until  # noqa: E402

BUILD = os.environ.get("REPLICA_BUILD_DIR", "")
SYSTEM_MODULES = pathlib.Path("/usr/lib/dovecot/modules")
ADDRESS, PASSWORD = "127.0.0.1", "secret"
ACK_TIMEOUT = 4.0  # all that must not wait for it is far below, also on a busy machine
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

    def __init__(self, replica=True):
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
            found = next(pathlib.Path(BUILD).rglob(name))
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
        self.pid = int(wait_until(lambda: (self.folder / "run" / "master.pid").read_text(), 120, "a master"))
        wait_until(lambda: all(clients.greets(ADDRESS, port) for port in self.ports.values()), 120, "greetings")

    def stop(self):
        self.agent.stop()
        if not self.pid:
            return
        os.kill(self.pid, signal.SIGTERM)
        wait_until(lambda: not os.path.exists(f"/proc/{self.pid}"), 120, "Dovecot stopped")

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
        done = subprocess.run(["doveadm", "-c", self.config, *arguments], capture_output=True, text=True, timeout=120,
                              stdin=subprocess.DEVNULL)
        if check and done.returncode != 0:
            raise AssertionError(f"doveadm {arguments}: {done.returncode} {done.stderr}")
        return done

    def new_log(self):
        """What was logged since the last call. Processes log through pipes: wait for a line that comes later."""
        def marks():
            return (self.folder / "dovecot.log").read_text().count("imap-login: Info: Disconnected")
        before = marks()
        clients.greets(ADDRESS, self.ports["imap"])
        wait_until(lambda: marks() > before, 60, "the log's next line")
        text = (self.folder / "dovecot.log").read_text()
        new, self.log_seen = text[self.log_seen:], len(text)
        return new


def refuse(reason):
    return lambda connection, frame: connection.refuse(frame, reason, "by the test")


def silent(_connection, _frame):
    pass


def hang_up(connection, _frame):
    connection.close()


def setUpModule():
    if not BUILD:
        raise SystemExit(__doc__)
    PluginTest.host = Host()
    PluginTest.host.start()


def tearDownModule():
    PluginTest.host.stop()
    if os.environ.get("REPLICA_KEEP"):
        print(PluginTest.host.folder)
    else:
        shutil.rmtree(PluginTest.host.folder)


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
        self.assertNotRegex(log, r"Panic:|Fatal:(?!.*killed with signal 9)|assertion failed|killed with signal 11")

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
