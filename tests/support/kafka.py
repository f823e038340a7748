"""Apache Kafka for tests: jars by Maven into a cache, brokers in KRaft mode (broker and controller in one), loopback only.

Ready is a log line; an open port is not. The settings that make a fail-over quick are those of docs/operating.
"""

import base64
import os
import pathlib
import signal
import socket
import struct
import subprocess
import uuid

from . import cache, processes
from .ports import free_addresses
from .waiting import wait_until

VERSION = "4.4.0"
HERE = pathlib.Path(__file__).resolve().parent
JAVA = ["java", "-Xms96m", "-Xmx256m", "-Xss512k", "-XX:+UseSerialGC", "-Xshare:auto"]
READY = b"Kafka Server started"

SETTINGS = """\
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://{address},CONTROLLER://{controller}
advertised.listeners=PLAINTEXT://{address}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
num.network.threads=2
num.io.threads=2
num.partitions=1
auto.create.topics.enable=false
default.replication.factor={replication}
min.insync.replicas={insync}
offsets.topic.num.partitions=1
offsets.topic.replication.factor={replication}
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor={replication}
transaction.state.log.min.isr={insync}
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=16777216
message.max.bytes=9437184
replica.fetch.max.bytes=9437184
broker.session.timeout.ms=1500
broker.heartbeat.interval.ms=300
replica.lag.time.max.ms=1500
replica.fetch.wait.max.ms=100
controller.quorum.fetch.timeout.ms=800
controller.quorum.election.timeout.ms=300
controller.quorum.election.backoff.max.ms=200
controller.quorum.request.timeout.ms=800
controller.quorum.retry.backoff.ms=20
"""


def _class_path(folder):
    """By name, not by *: a class data archive is only used with the very same class path."""
    return ":".join(str(jar) for jar in sorted(folder.glob("*.jar")))


def _fetch_jars(folder):
    part = folder.with_name(f"{folder.name}.part")
    subprocess.run(["rm", "-rf", str(part)], check=True)
    done = subprocess.run(
        ["mvn", "-q", "-B", "-f", str(HERE / "kafka" / "pom.xml"), "dependency:copy-dependencies",
         "-DincludeScope=runtime", f"-DoutputDirectory={part}"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not any(part.glob("kafka_2.13-*.jar")):
        raise RuntimeError(f"Maven could not fetch Kafka's jars:\n{done.stdout}{done.stderr}")
    part.rename(folder)


def prepare():
    """(class path, JVM options): jars and class data archive, made once and kept in the cache."""
    with cache.locked("kafka") as kept:
        folder = kept / f"kafka-{VERSION}"
        if not folder.is_dir():
            _fetch_jars(folder)
        java = os.path.realpath("/usr/bin/java")
        archive = folder / f"classes-{int(os.stat(java).st_mtime)}.jsa"
        if not archive.exists():
            _make_archive(folder, archive)
    return _class_path(folder), [f"-XX:SharedArchiveFile={archive}"] if archive.exists() else []


def _make_archive(folder, archive):
    """A first run whose only purpose is the archive. Without one a broker merely starts slower."""
    trial = folder / "trial"
    subprocess.run(["rm", "-rf", str(trial)], check=True)
    address, controller = free_addresses("127.0.0.1", 2, set())
    broker = Broker("trial", trial, address, controller, 1)
    part = archive.with_suffix(".part")
    broker.configure([broker], new_cluster_id(), _class_path(folder))
    broker.start(_class_path(folder), [f"-XX:ArchiveClassesAtExit={part}"])
    broker.wait_ready()
    os.kill(broker.pid, signal.SIGTERM)
    wait_until(lambda: not processes.alive(broker.pid), 60, "Kafka wrote its class data archive")
    if part.exists():
        part.rename(archive)
    subprocess.run(["rm", "-rf", str(trial)], check=True)


def new_cluster_id():
    # Without "-": an id that begins with one would be taken for an option.
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")


class Broker(processes.One):
    """One Kafka node. Its folder holds data, configuration and log; pid is 0 while it is down."""

    def __init__(self, name, folder, address, controller, node, pid=0, started=None):
        self.name, self.folder = name, pathlib.Path(folder)
        self.address, self.controller, self.node = address, controller, node
        self.pid, self.started = pid, started

    @property
    def log(self):
        return self.folder / "kafka.log"

    @property
    def data(self):
        return self.folder / "data"

    def saved(self):
        return {"name": self.name, "folder": str(self.folder), "address": self.address, "controller": self.controller,
                "node": self.node, "pid": self.pid, "started": self.started}

    def configure(self, cluster, cluster_id, class_path):
        self.folder.mkdir(parents=True)
        settings = self.folder / "server.properties"
        settings.write_text(SETTINGS.format(
            node=self.node, address=self.address, controller=self.controller, data=self.data,
            voters=",".join(f"{peer.node}@{peer.controller}" for peer in cluster),
            replication=len(cluster), insync=min(2, len(cluster))), encoding="ascii")
        done = subprocess.run([*JAVA, "-XX:TieredStopAtLevel=1", "-cp", class_path, "kafka.tools.StorageTool", "format",
                               "-t", cluster_id, "-c", str(settings)],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{self.name}: cannot format its storage:\n{done.stdout}{done.stderr}")

    def start(self, class_path, options):
        self.log_offset = self.log.stat().st_size if self.log.exists() else 0
        with open(self.log, "ab") as log:
            process = subprocess.Popen(
                [*JAVA, *options, "-Dorg.slf4j.simpleLogger.showDateTime=true",
                 "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
                 "-cp", class_path, "kafka.Kafka", str(self.folder / "server.properties")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, start_new_session=True)
        process.returncode = 0  # it outlives us on purpose: no warning about a running child
        self.pid, self.started = process.pid, processes.start_time(process.pid)

    def wait_ready(self, timeout=180):
        def ready():
            with open(self.log, "rb") as log:
                log.seek(self.log_offset)
                text = log.read()
            if READY in text:
                return True
            if not processes.alive(self.pid, self.started):
                raise SystemExit(f"{self.name} died while starting:\n{text[-3000:].decode(errors='replace')}")
            return False

        wait_until(ready, timeout, f"{self.name}: log line {READY.decode()!r}")

    def delete_records(self, topic, partitions):
        """All that the partitions hold now, as retention would. The broker leads them."""
        def text(value):
            return struct.pack(">h", len(value)) + value.encode()
        up_to_the_end = b"".join(struct.pack(">iq", partition, -1) for partition in range(partitions))
        request = struct.pack(">hhi", 21, 1, 1) + text("test") + struct.pack(">i", 1) + text(topic) + struct.pack(">i", partitions) + \
            up_to_the_end + struct.pack(">i", 10_000)
        host, port = self.address.split(":")
        with socket.create_connection((host, int(port)), 10) as connection, connection.makefile("rb") as answers:
            connection.sendall(struct.pack(">i", len(request)) + request)
            answer = answers.read(struct.unpack(">i", answers.read(4))[0])
        results = answer[-14 * partitions:]
        errors = {struct.unpack(">iqh", results[14 * n:14 * (n + 1)])[2] for n in range(partitions)}
        if errors != {0}:
            raise RuntimeError(f"{self.name}: the records of {topic} were not deleted: errors {errors}")
