"""A site: N Dovecot mailstores, a Kafka cluster and, if bodies live there, an S3 server on loopback addresses, remembered in DIR/site.json.

Site.up makes one, Site.load finds one again from another process; the program tests/support/site is this class's shell.
Several sites may live side by side. The machine's own Dovecot configuration is neither read nor changed.
"""

import concurrent.futures
import json
import os
import pathlib
import pwd
import secrets
import shutil
import stat
import subprocess
import tempfile

from . import kafka, processes, replica, s3
from .ports import free_addresses, free_port
from .store import AGENT_USER, MAIL_USER, PORTS, Store
from .waiting import wait_until

SOCKET_PATH_MAX = 107  # sun_path; the longest socket below a base directory is login/ipc-proxy or so
FOLDER_MAX = SOCKET_PATH_MAX - len("/store00/run/replica-apply-snapshot-00")


class SiteError(RuntimeError):
    """The person who asked can do something about it: one sentence."""


def scratch_folder(prefix="replica-"):
    """A new folder below /tmp that the mail user can pass through."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))
    folder.chmod(0o755)
    return folder


class Site:
    def __init__(self, folder, facts):
        self.folder = pathlib.Path(folder)
        self.facts = facts
        self.stores = [Store(**saved) for saved in facts["stores"]]
        self.brokers = [kafka.Broker(**saved) for saved in facts["brokers"]]
        self.s3 = s3.Server(**facts["s3"]) if facts.get("s3") else None

    # --- making and finding ---

    @classmethod
    def up(cls, folder, stores=2, brokers=1, accounts=100, driver="cbox", bodies="posix", replica=None, settings=None, extra=""):
        """settings: replica_* and other plugin settings, the same on all stores; extra: configuration text behind all."""
        replica = driver == "cbox" if replica is None else replica
        folder = _checked_folder(folder, stores, driver, bodies, replica)
        brokers = brokers if replica else 0
        class_path, options = kafka.prepare() if brokers else ("", [])
        if bodies == "s3":
            s3.prepare()
        for user in (MAIL_USER, AGENT_USER):
            _ensure_user(user)
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        taken = set()
        password = secrets.token_hex(8)
        site = cls(folder, {
            "stores": [], "brokers": [], "class_path": class_path, "java_options": options,
            "accounts": {"format": "u%04d@example.com", "first": 1, "count": accounts, "password": password}})
        for number in range(1, stores + 1):
            address = f"127.0.0.{number}"
            ports = {name: free_port(address, taken) for name in PORTS}
            site.stores.append(Store(f"store{number}.example.com", folder / f"store{number}", address, ports, driver, replica, password))
        for number in range(1, brokers + 1):
            address, controller = free_addresses("127.0.0.1", 2, taken)
            site.brokers.append(kafka.Broker(f"broker{number}", folder / f"broker{number}", address, controller, number))
        if bodies == "s3":
            site.s3 = s3.Server.new(folder / "s3", taken=taken)
        site.save()
        try:
            site._make(settings or {}, extra)
        except BaseException:
            for part in site.parts():
                part.kill()
            site.save()
            raise
        return site

    @classmethod
    def load(cls, folder):
        path = pathlib.Path(folder) / "site.json"
        if not path.exists():
            raise SiteError(f"there is no site in {folder}")
        return cls(pathlib.Path(folder).resolve(), json.loads(path.read_text()))

    def save(self):
        self.facts["stores"] = [store.saved() for store in self.stores]
        self.facts["brokers"] = [broker.saved() for broker in self.brokers]
        self.facts["s3"] = self.s3 and self.s3.saved()
        part = self.folder / "site.json.part"
        part.write_text(json.dumps(self.facts, indent=1))
        part.rename(self.folder / "site.json")

    def _make(self, settings, extra):
        mail, agent = pwd.getpwnam(MAIL_USER), pwd.getpwnam(AGENT_USER)
        users = self.folder / "users"
        users.write_text("".join(f"{user}:{{PLAIN}}{self.password}:{mail.pw_uid}:{mail.pw_gid}::::\n" for user in self.users()))
        _private(users, pwd.getpwnam("dovecot"))
        bodies = self._make_bodies(mail)
        key = self.folder / "replica.key"
        key.write_text(f"name {secrets.token_hex(32)}\nkey 1 {secrets.token_hex(32)}\nactive 1\n")
        _private(key, agent)
        cluster_id = kafka.new_cluster_id()
        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(lambda broker: broker.configure(self.brokers, cluster_id, self.facts["class_path"]), self.brokers))
        for broker in self.brokers:
            broker.start(self.facts["class_path"], self.facts["java_options"])
        for store in self.stores:
            store.configure(users, {**self._plugin_settings(store, bodies[store.name], key), **settings}, extra)
        for broker in self.brokers:
            broker.wait_ready()
        self.save()
        for store in self.stores:
            store.start()
            self.save()
        replicas = [store for store in self.stores if store.replica]
        for store in replicas:
            wait_until(lambda store=store: replica.living(store) >= {other.name for other in replicas}, 120,
                       f"{store.name} hears every store")

    def _make_bodies(self, mail):
        """{store: where its cbox finds all bodies}; on S3 each store has credentials of its own, at first of the same user."""
        if not self.s3:
            blobs = self.folder / "blobs"
            blobs.mkdir()
            _private(blobs, mail, 0o700)
            return {store.name: f"posix:prefix={blobs}/" for store in self.stores}
        self.s3.start()
        self.s3.make_owner_and_bucket()
        return {store.name: self.s3.location(self.give_credentials(store, *self.s3.owner)) for store in self.stores}

    def give_credentials(self, store, access, secret):
        """What the store's processes show to S3 from now on (those that run already: from their next start)."""
        return s3.write_credentials(self.s3.folder / f"{store.name}.credentials", access, secret, pwd.getpwnam(MAIL_USER))

    def _plugin_settings(self, store, bodies, key):
        values = {}
        if store.driver == "cbox":
            values["cbox_blobs"] = bodies
        if store.replica:
            values |= {
                "replica_mailstore": store.name,
                "replica_address": store.address,
                "replica_brokers": ",".join(broker.address for broker in self.brokers),
                "replica_key_file": key,
                "replica_state_dir": store.folder / "replica",
                "replica_replication_factor": len(self.brokers),
                "replica_min_insync": min(2, len(self.brokers)),
            }
        return values

    # --- parts and accounts ---

    def parts(self):
        return [*self.stores, *self.brokers, *([self.s3] if self.s3 else [])]

    def part(self, name):
        """A store by its name or its first word (store1), a broker or the S3 server by its name."""
        for part in self.parts():
            if name in (part.name, part.name.split(".")[0]):
                return part
        raise SiteError(f"{name} is no part of this site: it has {', '.join(part.name for part in self.parts())}")

    def __getitem__(self, name):
        return self.part(name)

    @property
    def password(self):
        return self.facts["accounts"]["password"]

    def user(self, number):
        return self.facts["accounts"]["format"] % number

    def users(self, count=None):
        accounts = self.facts["accounts"]
        return [self.user(accounts["first"] + i) for i in range(accounts["count"] if count is None else count)]

    # --- the verbs ---

    def kill(self, name):
        """Returns the instant (time.monotonic) at which the part stood still for ever."""
        instant = self.part(name).kill()
        self.save()
        return instant

    def freeze(self, name):
        processes.freeze(self.part(name).processes)

    def thaw(self, name):
        processes.thaw(self.part(name).processes)

    def start(self, name):
        part = self.part(name)
        if part.processes():
            raise SiteError(f"{part.name} is running")
        if isinstance(part, kafka.Broker):
            part.start(self.facts["class_path"], self.facts["java_options"])
            self.save()
            part.wait_ready()
        else:
            part.start()
        self.save()

    def stop(self, name):
        part = self.part(name)
        part.stop() if isinstance(part, Store) else part.kill()
        self.save()

    def reload(self, name):
        part = self.part(name)
        if not isinstance(part, Store):
            raise SiteError(f"{part.name} is no store")
        part.reload()

    def down(self, keep=False):
        """Ends every process of the site; removes its folder unless told to keep it."""
        for part in self.parts():
            part.kill()
        self.save()
        if not keep:
            shutil.rmtree(self.folder)

    def logs(self, lines=None):
        """{part: the last lines of its log}."""
        texts = {}
        for part in self.parts():
            text = part.log.read_text(errors="replace") if part.log.exists() else ""
            texts[part.name] = "\n".join(text.splitlines()[-lines:]) if lines else text
        return texts

    def wait_until(self, condition, timeout=120.0, what="the condition"):
        return wait_until(condition, timeout, what)

    def describe(self):
        """What `site up` prints."""
        return {
            "stores": [{"name": store.name, "imap": store.endpoint("imap"), "pop3": store.endpoint("pop3"),
                        "lmtp": store.endpoint("lmtp"), "sieve": store.endpoint("sieve"),
                        "config": str(store.config), "log": str(store.log), "pid": store.pid} for store in self.stores],
            "brokers": [{"name": broker.name, "address": broker.address, "pid": broker.pid, "log": str(broker.log)}
                        for broker in self.brokers],
            "accounts": self.facts["accounts"],
            "dir": str(self.folder),
        } | ({"s3": self.s3.describe()} if self.s3 else {})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.down()


def _checked_folder(folder, stores, driver, bodies, replica):
    folder = pathlib.Path(folder).resolve()
    if os.geteuid() != 0:
        raise SiteError("a site is made by root: Dovecot's master needs it")
    if replica and driver != "cbox":
        raise SiteError(f"--driver {driver} cannot have --replica on: only cbox has the commit that the replica needs")
    if bodies == "s3" and driver != "cbox":
        raise SiteError(f"--driver {driver} cannot have --bodies s3: only cbox keeps bodies apart")
    if not 1 <= stores <= 50:
        raise SiteError("--stores is a number from 1 to 50")
    if (folder / "site.json").exists():
        raise SiteError(f"{folder} has a site already: `site down --dir {folder}` first")
    if folder.is_dir() and any(folder.iterdir()):
        raise SiteError(f"{folder} is not empty")
    if len(str(folder)) > FOLDER_MAX:
        raise SiteError(f"{folder} is too long a name: socket paths below it pass {SOCKET_PATH_MAX} bytes; at most {FOLDER_MAX}")
    for parent in folder.parents:
        if parent.exists() and not parent.stat().st_mode & stat.S_IXOTH:
            raise SiteError(f"{parent} is closed to others: the mail user could not reach its homes below it")
    return folder


def _private(path, owner, mode=0o600):
    os.chown(path, owner.pw_uid, owner.pw_gid)
    path.chmod(mode)


def _ensure_user(name):
    try:
        pwd.getpwnam(name)
    except KeyError:
        subprocess.run(["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent",
                        "--shell", "/usr/sbin/nologin", name], check=True)
