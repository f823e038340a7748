"""A Ceph of one monitor, one store of objects in memory and one RGW on loopback: what many sites really have. From Debian's packages.

Its frontend is as it comes, so each answer meets the client's delayed acknowledgement. Ready after some 15 seconds.
"""

import http.client
import pathlib
import subprocess
import uuid

from . import processes
from .ports import free_port
from .s3 import BUCKET, OWNER, Endpoint
from .waiting import wait_until

ADMIN = "client.admin"
CONFIG = """\
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon}]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
ms bind msgr1 = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
mon max pg per osd = 1000
keyring = {folder}/keyring
run dir = {folder}/run
admin socket = {folder}/run/$name.asok
pid file = {folder}/run/$name.pid
log file = {folder}/$name.log
crash dir = {folder}/crash
[mon]
mon data = {folder}/mon
mon cluster log file = {folder}/cluster.log
mon osd crush smoke test = false
mon data avail crit = 1
mon data avail warn = 2
[osd]
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
[client.rgw]
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{rgw}
rgw enable usage log = false
rgw enable ops log = false
"""
KEYS = (("mon.", "mon", "allow *"), (ADMIN, "mon", "allow *", "osd", "allow *", "mgr", "allow *"),
        ("client.rgw", "mon", "allow rw", "osd", "allow rwx", "mgr", "allow rw"), ("osd.0", "mon", "allow profile osd", "osd", "allow *"))


class Ceph(Endpoint):
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        for part in ("mon", "osd", "rgw", "run", "crash"):
            (self.folder / part).mkdir(parents=True)
        taken = set()
        mon, rgw = free_port("127.0.0.1", taken), free_port("127.0.0.1", taken)
        self.address, self.url = f"127.0.0.1:{rgw}", f"http://127.0.0.1:{rgw}"
        self.owner = OWNER, uuid.uuid4().hex
        self.fsid, self.mon = str(uuid.uuid4()), f"[v2:127.0.0.1:{mon}]"
        self.config = self.folder / "ceph.conf"
        self.config.write_text(CONFIG.format(folder=self.folder, fsid=self.fsid, mon=mon, rgw=rgw))
        self.started = {}  # pid -> its start time

    @classmethod
    def up(cls, folder):
        ceph = cls(folder)
        try:
            ceph._start()
        except BaseException:
            ceph.kill()
            raise
        return ceph

    def _start(self):
        keyring = self.folder / "keyring"
        for name, *capabilities in KEYS:
            grants = [word for part in range(0, len(capabilities), 2) for word in ("--cap", *capabilities[part:part + 2])]
            self._run("ceph-authtool", keyring, *(() if keyring.exists() else ("--create-keyring",)), "--gen-key", "-n", name, *grants)
        monmap = self.folder / "monmap"
        self._run("monmaptool", "--create", "--addv", "a", self.mon, "--fsid", self.fsid, monmap)
        self._ceph("ceph-mon", "-i", "a", "--mkfs", "--monmap", monmap, "--keyring", keyring)
        self._daemon("ceph-mon", "-i", "a")
        store = uuid.uuid4()
        self._ceph("ceph", "--connect-timeout", "60", "osd", "new", store)
        self._ceph("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", store)
        self._daemon("ceph-osd", "-i", "0")
        wait_until(lambda: "1 up" in self._ceph("ceph", "osd", "stat"), 120, "the store of objects is up", 0.2)
        self._daemon("radosgw", "-n", "client.rgw")
        wait_until(self._answers, 180, f"RGW answers at {self.url}", 0.2)
        access, secret = self.owner
        self._ceph("radosgw-admin", "-n", "client.rgw", "user", "create", "--uid", access, "--display-name", access,
                   "--access-key", access, "--secret-key", secret)
        self.client().create_bucket(Bucket=BUCKET)

    def _answers(self):
        connection = http.client.HTTPConnection(self.address, timeout=5)
        connection.request("GET", "/")
        return connection.getresponse().status == 200

    def _daemon(self, program, *arguments):
        with open(self.folder / f"{program}.out", "ab") as out:
            process = subprocess.Popen([program, "-f", "-c", str(self.config), *arguments], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                       cwd=self.folder, start_new_session=True)
        process.returncode = 0
        self.started[process.pid] = processes.start_time(process.pid)

    def _ceph(self, program, *arguments):
        return self._run(program, "-c", self.config, *arguments)

    def _run(self, *command):
        done = subprocess.run([*map(str, command)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, command))}: {done.stdout}{done.stderr}")
        return done.stdout

    def processes(self):
        return {pid for pid, started in self.started.items() if processes.alive(pid, started)}

    def kill(self):
        processes.kill(self.processes)
