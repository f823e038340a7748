"""A private Dovecot of its own on 127.0.0.1, for tests of the driver cbox alone: no agent, no broker.

Needs root (processes change to the mail user), the installed Dovecot, and the build directory with our modules.
"""
import glob
import imaplib
import json
import os
import poplib
import pwd
import re
import shutil
import smtplib
import socket
import subprocess
import sys
import tempfile
import time
import unittest

STOCK_MODULES = "/usr/lib/dovecot/modules"
PASSWORD = "secret"
SHARED_NAMESPACE = """
namespace shared {
  type = shared
  prefix = shared/%%u/
  separator = /
  location = cbox:%%h/mail:LAYOUT=index:INDEXPVT=~/shared/%%u
  subscriptions = no
  list = children
}
"""


def build_dir():
    """Where our modules were built: REPLICA_BUILD_DIR."""
    path = os.environ.get("REPLICA_BUILD_DIR")
    if not path:
        sys.exit("REPLICA_BUILD_DIR must name the build directory; run as root")
    return os.path.abspath(path)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(condition, what, seconds=120):
    """Polls; a condition that never comes true is a failure."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        result = condition()
        if result:
            return result
        time.sleep(0.02)
    raise AssertionError("did not happen within %d s: %s" % (seconds, what))


def mail_user():
    for name in ("vmail", "mail", "dovecot"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            pass
    raise SystemExit("no user for mail: vmail, mail or dovecot")


class Site:
    def __init__(self, build, driver="cbox", plugins=(), plugin_settings="", extra="", blobs=None,
                 layout="index", blob_fs="posix:dirs:prefix=BLOBS/"):
        self.build, self.driver, self.layout, self.blob_fs = build, driver, layout, blob_fs
        self.dir = tempfile.mkdtemp(prefix="cbox-site-")
        os.chmod(self.dir, 0o755)
        self.user = mail_user()
        self.mail = self.make_dir("mail")
        self.probe = self.make_dir("probe")
        self.blobs = blobs or self.dir + "/blobs"
        os.makedirs(self.blobs, exist_ok=True)
        os.chown(self.blobs, self.user.pw_uid, self.user.pw_gid)
        self.imap_port, self.pop3_port, self.lmtp_port = free_port(), free_port(), free_port()
        self.modules()
        self.config = self.dir + "/dovecot.conf"
        with open(self.config, "w") as f:
            f.write(self.config_text(plugins, plugin_settings) + extra)
        self.process = None

    def own(self, path):
        """Gives a file tree to the mail user."""
        subprocess.run(["chown", "-R", "%d:%d" % (self.user.pw_uid, self.user.pw_gid), path], check=True)

    def make_dir(self, name):
        path = self.dir + "/" + name
        os.mkdir(path)
        os.chown(path, self.user.pw_uid, self.user.pw_gid)
        return path

    def modules(self):
        path = self.dir + "/modules"
        os.mkdir(path)
        for name in os.listdir(STOCK_MODULES):
            os.symlink(STOCK_MODULES + "/" + name, path + "/" + name)
        for module in ("plugin/cbox/lib90_cbox_plugin.so", "tests/support/lib95_callout_probe_plugin.so"):
            target = path + "/" + os.path.basename(module)
            if os.path.lexists(target):
                os.unlink(target)
            shutil.copy(self.build + "/" + module, target)

    def config_text(self, plugins, plugin_settings):
        location = "%s:~/mail:LAYOUT=%s" % (self.driver, self.layout)
        own = ["cbox", "callout_probe"] if self.driver == "cbox" else []
        return f"""
base_dir = {self.dir}/run
state_dir = {self.dir}/state
log_path = {self.dir}/log
instance_name = {os.path.basename(self.dir)}
protocols = imap pop3 lmtp
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
first_valid_uid = 1
auth_mechanisms = plain
passdb {{
  driver = static
  args = password={PASSWORD}
}}
userdb {{
  driver = static
  args = uid={self.user.pw_uid} gid={self.user.pw_gid} home={self.mail}/%u
}}
mail_location = {location}
mail_plugin_dir = {self.dir}/modules
mail_plugins = {" ".join(own + list(plugins))}
mail_attribute_dict = file:%h/attributes
mail_max_userip_connections = 100
namespace inbox {{
  inbox = yes
  separator = /
  mailbox Trash {{
    auto = create
  }}
}}
service imap-login {{
  inet_listener imap {{
    port = {self.imap_port}
  }}
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {self.pop3_port}
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    port = {self.lmtp_port}
  }}
}}
service stats {{
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
protocol lmtp {{
  mail_plugins = $mail_plugins sieve
}}
protocol imap {{
  imap_metadata = yes
}}
plugin {{
  cbox_blobs = {self.blob_fs.replace("BLOBS", self.blobs)}
  callout_probe = {self.probe}
  sieve = file:~/sieve;active=~/.dovecot.sieve
  {plugin_settings}
}}
"""

    def start(self):
        self.process = subprocess.Popen(["dovecot", "-F", "-c", self.config])
        wait_for(self.answers, "dovecot answers")
        return self

    def answers(self):
        if self.process.poll() is not None:
            raise AssertionError("dovecot ended: " + self.log())
        try:
            for port in (self.imap_port, self.pop3_port, self.lmtp_port):
                with socket.create_connection(("127.0.0.1", port), 5) as s:
                    if not s.recv(1):
                        return False
            return True
        except OSError:
            return False

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
            self.process = None

    def remove(self):
        self.stop()
        shutil.rmtree(self.dir)

    def log(self):
        with open(self.dir + "/log", errors="replace") as f:
            return f.read()

    def imap(self, user):
        return Imap(self.imap_port, user)

    def pop3(self, user):
        client = poplib.POP3("127.0.0.1", self.pop3_port, 120)
        client.user(user)
        client.pass_(PASSWORD)
        return client

    def deliver(self, message, *recipients):
        """One LMTP transaction. The answers by recipient, 250 left out."""
        client = smtplib.LMTP("127.0.0.1", self.lmtp_port)
        try:
            return client.sendmail("sender@example.com", recipients, message)
        except smtplib.SMTPRecipientsRefused as refused:
            return refused.recipients
        except smtplib.SMTPDataError as error:
            return {r: (error.smtp_code, error.smtp_error) for r in recipients}
        finally:
            client.close()

    def doveadm(self, *args, check=True, stdin=None):
        result = subprocess.run(["doveadm", "-c", self.config, *args], input=stdin, capture_output=True,
                                text=True, errors="surrogateescape")
        if check and result.returncode != 0:
            raise AssertionError("doveadm %s: %d %s%s" % (args, result.returncode, result.stdout, result.stderr))
        return result.stdout if check else result

    # --- the probe ---

    def answer(self, mode):
        """How the call-out is answered from now on, see tests/support/callout_probe.cpp. Forgets the log."""
        path = self.probe + "/mode"
        with open(path + ".new", "w") as f:
            f.write(mode)
        os.chmod(f.name, 0o666)
        os.rename(path + ".new", path)
        self.probe_forget()

    def probe_file(self, name, text=""):
        with open(self.probe + "/" + name, "w") as f:
            f.write(text)
        os.chmod(f.name, 0o666)

    def hold(self):
        """The next change waits before its lock, until the returned function is called."""
        self.probe_file("hold")
        return lambda: (wait_for(lambda: os.path.exists(self.probe + "/held"), "a change is held"),
                        os.unlink(self.probe + "/held"))

    def probe_forget(self):
        if os.path.exists(self.probe + "/log"):
            os.unlink(self.probe + "/log")

    def calls(self, event=None, mailbox=None):
        path = self.probe + "/log"
        if not os.path.exists(path):
            return []
        with open(path) as f:
            calls = [json.loads(line) for line in f]
        return [c for c in calls if event in (None, c["event"]) and mailbox in (None, c["mailbox"])]

    def blob_files(self):
        return sorted(os.path.join(d, f) for d, _, files in os.walk(self.blobs) for f in files if f != "owner")


class Imap:
    """IMAP in raw commands: what goes out is what is written here, what comes back is every line."""

    def __init__(self, port, user):
        self.socket = socket.create_connection(("127.0.0.1", port), 120)
        self.file = self.socket.makefile("rb")
        self.tag = 0
        self.file.readline()
        self.ok("LOGIN %s %s" % (user, PASSWORD))

    def line(self):
        line = self.file.readline()
        if not line:
            raise EOFError("the server closed the connection")
        whole = line
        while (literal := re.search(rb"\{(\d+)\}\r\n$", line)):
            whole += self.file.read(int(literal.group(1)))
            line = self.file.readline()
            whole += line
        return whole.decode("utf-8", "replace").rstrip("\r\n")

    def send(self, command, literal=None):
        self.tag += 1
        tag = "a%d" % self.tag
        if literal is not None:
            command += " {%d+}" % len(literal)
        self.socket.sendall(("%s %s\r\n" % (tag, command)).encode() + (literal + b"\r\n" if literal is not None else b""))
        return tag

    def finish(self, tag):
        untagged = []
        while True:
            line = self.line()
            if line.startswith(tag + " "):
                return untagged, line[len(tag) + 1:]
            untagged.append(line)

    def command(self, command, literal=None):
        """Untagged lines, and the tagged line without its tag."""
        return self.finish(self.send(command, literal))

    def ok(self, command, literal=None):
        untagged, tagged = self.command(command, literal)
        if not tagged.startswith("OK"):
            raise AssertionError("%s: %s" % (command, tagged))
        return untagged, tagged

    def append(self, mailbox, message, flags="", date=""):
        extra = (" (%s)" % flags if flags else "") + (' "%s"' % date if date else "")
        return self.ok("APPEND %s%s" % (mailbox, extra), message)[1]

    def highest_modseq(self, mailbox):
        untagged, _ = self.ok("STATUS %s (HIGHESTMODSEQ)" % mailbox)
        return int(re.search(r"HIGHESTMODSEQ (\d+)", untagged[-1]).group(1))

    def close(self):
        try:
            self.command("LOGOUT")
        except (EOFError, OSError):
            pass
        self.socket.close()


def message(subject, body="Hello\r\n", headers=""):
    return ("From: a@example.com\r\nTo: b@example.com\r\nSubject: %s\r\n%sMessage-Id: <%s@example.com>\r\n\r\n%s"
            % (subject, headers, subject.replace(" ", "."), body)).encode()


MIXED = message("mixed", headers="MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n", body=(
    "--x\r\nContent-Type: text/plain\r\n\r\nfirst\r\n--x\r\nContent-Type: application/octet-stream\r\n"
    "Content-Transfer-Encoding: base64\r\n\r\nAAECAwQ=\r\n--x--\r\n"))
BAD_LOG = re.compile(r"Panic|Fatal(?!.*killed with signal 9)|Corrupted|fscking|assert", re.IGNORECASE)


class OnSite(unittest.TestCase):
    """Each test has a user of its own on one site."""
    plugins, settings = ("acl", "quota", "notify", "mail_log"), """
  acl = vfile
  quota = count:User quota
  quota_vsizes = yes
"""
    driver, extra, count = "cbox", "", 0

    @classmethod
    def setUpClass(cls):
        cls.site = Site(build_dir(), cls.driver, plugins=cls.plugins, plugin_settings=cls.settings, extra=cls.extra).start()

    @classmethod
    def tearDownClass(cls):
        cls.site.remove()

    def setUp(self):
        OnSite.count += 1
        self.user = "user%d" % OnSite.count
        self.site.answer("number")

    def tearDown(self):
        self.assertNotRegex(self.site.log(), BAD_LOG)

    def subjects(self, user, mailbox="INBOX"):
        out = self.site.doveadm("fetch", "-u", user, "hdr.subject", "mailbox", mailbox)
        return re.findall(r"^hdr.subject: (.*)$", out, re.M)

    def commits(self, mailbox=None):
        return self.site.calls("commit", mailbox)


class Mailboxes(OnSite):
    """What tests do with mailboxes."""

    def filled(self, count=4, mailbox="INBOX", text="text\r\n", flags=""):
        imap = self.site.imap(self.user)
        self.addCleanup(imap.close)
        for n in range(count):
            imap.append(mailbox, message("%s%d" % (mailbox[0].lower(), n), text), flags)
        imap.ok("SELECT " + mailbox)
        return imap

    def expunge(self, imap, messages):
        imap.ok("STORE %s +FLAGS.SILENT (\\Deleted)" % messages)
        return imap.ok("EXPUNGE")[0]

    def fetch(self, user, fields, *query):
        return self.site.doveadm("fetch", "-u", user, fields, *(query or ("mailbox", "INBOX")))

    def lose_caches(self, user):
        for path in glob.glob("%s/%s/**/dovecot.index.cache" % (self.site.mail, user), recursive=True):
            os.unlink(path)


def run():
    build_dir()
    unittest.main(verbosity=2)
