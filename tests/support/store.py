"""One Dovecot mailstore of a site: its own base directory, configuration, homes and log on a loopback address of its own."""

import os
import pathlib
import pwd
import shutil
import signal
import subprocess

from . import clients, processes
from .waiting import wait_until

TREE = pathlib.Path(__file__).resolve().parents[2]
MAIL_USER, AGENT_USER = "vmail", "dovecot-replica"
PORTS = ("imap", "pop3", "lmtp", "sieve")
LOCATION = {"cbox": "cbox:~/mail:LAYOUT=index", "sdbox": "sdbox:~/mail", "maildir": "maildir:~/Maildir"}

CONFIG = """\
# Made by tests/support/site for {name}.
listen = {address}
base_dir = {folder}/run
state_dir = {folder}/state
instance_name = {name}
hostname = {name}
postmaster_address = postmaster@{name}
log_path = {folder}/dovecot.log
log_timestamp = "%Y-%m-%d %H:%M:%S.%{{usecs}} "
protocols = imap pop3 lmtp sieve
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain
first_valid_uid = {uid}
mail_uid = {uid}
mail_gid = {gid}
mail_location = {location}
mail_plugins = {plugins}
mail_attribute_dict = file:%h/dovecot-attributes
mail_max_userip_connections = 0
namespace inbox {{
  inbox = yes
  prefix =
  separator = /
}}
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {users}
}}
userdb {{
  driver = passwd-file
  args = username_format=%u {users}
  default_fields = uid={uid} gid={gid} home={folder}/mail/%u
}}
protocol imap {{
  imap_metadata = yes
  imap_fetch_failure = no-after
}}
protocol lmtp {{
  mail_plugins = $mail_plugins sieve
}}
plugin {{
  sieve = file:~/sieve;active=~/.dovecot.sieve
}}
service imap-login {{
  service_count = 0
  process_min_avail = 1
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service pop3-login {{
  service_count = 0
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
service managesieve-login {{
  service_count = 0
  inet_listener sieve {{
    port = {sieve}
  }}
}}
service lmtp {{
  process_min_avail = 1
  inet_listener lmtp {{
    address = {address}
    port = {lmtp}
  }}
}}
"""


class Store:
    """A mailstore as the site knows it; pid is Dovecot's master, 0 while it is down."""

    def __init__(self, name, folder, address, ports, driver, replica, password, pid=0, started=None):
        self.name, self.folder, self.address = name, pathlib.Path(folder), address
        self.ports, self.driver, self.replica, self.password = ports, driver, replica, password
        self.pid, self.started = pid, started

    def saved(self):
        return {"name": self.name, "folder": str(self.folder), "address": self.address, "ports": self.ports,
                "driver": self.driver, "replica": self.replica, "password": self.password,
                "pid": self.pid, "started": self.started}

    @property
    def config(self):
        return self.folder / "dovecot.conf"

    @property
    def log(self):
        return self.folder / "dovecot.log"

    def endpoint(self, protocol):
        return f"{self.address}:{self.ports[protocol]}"

    # --- making it ---

    def configure(self, users, plugin_settings, extra=""):
        mail, agent = pwd.getpwnam(MAIL_USER), pwd.getpwnam(AGENT_USER)
        for name in ("run", "state", "mail", "replica"):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)
        os.chown(self.folder / "mail", mail.pw_uid, mail.pw_gid)
        os.chown(self.folder / "replica", agent.pw_uid, agent.pw_gid)
        (self.folder / "replica").chmod(0o700)
        plugins = " ".join((["cbox"] if self.driver == "cbox" else []) + (["replica"] if self.replica else []))
        text = CONFIG.format(name=self.name, folder=self.folder, address=self.address, uid=mail.pw_uid, gid=mail.pw_gid,
                             location=LOCATION[self.driver], plugins=plugins, users=users, **self.ports)
        if self.replica:
            shutil.copy(TREE / "conf.d" / "90-replica.conf", self.folder / "90-replica.conf")
            text += f"!include {self.folder}/90-replica.conf\n"
        text += "plugin {\n" + "".join(f"  {key} = {value}\n" for key, value in plugin_settings.items()) + "}\n" + extra
        self.config.write_text(text, encoding="utf-8")

    # --- its life ---

    def start(self):
        """Dovecot puts itself into the background. Returns when every listener greets (and the agent answers)."""
        (self.folder / "run" / "master.pid").unlink(missing_ok=True)  # of a killed one; its pid may be another's now
        said = self.folder / "start.out"  # a file: the daemon would hold a pipe open
        with open(said, "w", encoding="utf-8") as output:
            done = subprocess.run(["/usr/sbin/dovecot", "-c", str(self.config)], stdin=subprocess.DEVNULL,
                                  stdout=output, stderr=output, timeout=120, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{self.name} does not start: {said.read_text()}")
        master = self.folder / "run" / "master.pid"  # written by the child, after its parent has gone
        self.pid = int(wait_until(lambda: master.read_text().strip(), 60, f"{self.name}: {master}"))
        self.started = processes.start_time(self.pid)
        self.wait_ready()

    def wait_ready(self):
        wait_until(lambda: all(clients.greets(self.address, self.ports[name]) for name in PORTS), 120,
                   f"{self.name}: greetings on {', '.join(map(self.endpoint, PORTS))}")
        if self.replica:
            wait_until(lambda: self.doveadm("replica", "getAccountStatus", check=False).returncode == 0, 120,
                       f"{self.name}: its agent answers")

    def processes(self):
        master = self.pid if self.pid and processes.alive(self.pid, self.started) else 0
        return processes.family(master, str(self.folder))

    def kill(self):
        instant = processes.kill(self.processes)
        self.pid, self.started = 0, None
        return instant

    def stop(self, patience=10):
        """In peace: what Dovecot does on SIGTERM; what is left after the patience is killed."""
        if self.pid and processes.alive(self.pid, self.started):
            processes.thaw(self.processes)
            os.kill(self.pid, signal.SIGTERM)
            try:
                wait_until(lambda: not self.processes(), patience, f"{self.name} stopped")
            except AssertionError:
                pass
        self.kill()

    def reload(self):
        self.doveadm("reload")

    # --- using it ---

    def doveadm(self, *arguments, check=True, timeout=120, stdin=None):
        """Runs `doveadm -c CONFIG ARGUMENTS`; check raises with what doveadm said."""
        done = subprocess.run(["doveadm", "-c", str(self.config), *map(str, arguments)], capture_output=True, text=True,
                              timeout=timeout, check=False, input=stdin if stdin is not None else "")
        if check and done.returncode != 0:
            raise RuntimeError(f"doveadm {' '.join(map(str, arguments))} at {self.name} exits {done.returncode}: "
                               f"{done.stdout}{done.stderr}")
        return done

    def imap(self, user, timeout=120):
        return clients.Imap(self.address, self.ports["imap"], user, self.password, timeout)

    def pop3(self, user, timeout=120):
        return clients.Pop3(self.address, self.ports["pop3"], user, self.password, timeout)

    def lmtp(self, timeout=120):
        return clients.Lmtp(self.address, self.ports["lmtp"], timeout)
