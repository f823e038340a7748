"""The agent's side of a worker's socket: requests and replies of docs/formats/worker-socket.md, one at a time."""

import socket
import struct

from live.fake_agent import KINDS, NO_GUID, Reader, blob

REQUESTS = ("hello", "set_role", "inspect", "probe", "apply", "snapshot_list", "snapshot_mailbox", "collect", "build", "flush",
            "notify", "kick")
FIRST_REQUEST, REPLY, BULK_OUT = 65, 97, 98
ROLES = ("none", "source", "destination", "removed")
VERDICTS = ("applied", "skipped", "wanted", "diverged", "retry", "failed", "list_wanted")
KIND_BYTES = {name: byte for byte, name in KINDS.items()}
NONE = (0, 0)


def u32(value):
    return struct.pack(">I", value)


def number(value):
    return struct.pack(">QQ", *value)


def obj(value):
    return blob(value[0]) + value[1]


def name(components):
    return u32(len(components)) + b"".join(blob(part) for part in components)


def change(record):
    """A numbered change, as the log keeps it: {number, object, kind, subject, previous, payload}."""
    return (number(record["number"]) + obj(record["object"]) + bytes([KIND_BYTES[record["kind"]]]) + record["subject"]
            + number(record["previous"]) + blob(record["payload"]))


def of_list(prefix, kind, number_, previous, payload, subject=NO_GUID):
    return {"number": number_, "object": (prefix, NO_GUID), "kind": kind, "subject": subject, "previous": previous,
            "payload": payload}


def create(number_, previous, guid, path, uid_validity=1, prefix=""):
    return of_list(prefix, "create", number_, previous, guid + name(path) + u32(uid_validity), guid)


def delete(number_, previous, guid, path, prefix=""):
    return of_list(prefix, "delete", number_, previous, guid + name(path), guid)


def rename(number_, previous, guid, old, new, prefix=""):
    return of_list(prefix, "rename", number_, previous, guid + name(old) + name(new))


def subscription(number_, previous, path, subscribed, prefix=""):
    return of_list(prefix, "subscription", number_, previous, name(path) + bytes([subscribed]))


def list_snapshot(number_, previous, mailboxes, subscriptions, prefix=""):
    payload = u32(len(mailboxes)) + b"".join(guid + name(path) + u32(validity) for guid, path, validity in mailboxes)
    payload += u32(len(subscriptions)) + b"".join(name(path) for path in subscriptions)
    return of_list(prefix, "list_snapshot", number_, previous, payload)


def bulk_head(data):
    """Object, id and n of an encoded Bulk."""
    r = Reader(data)
    return (r.text(), r.raw(16)), r.raw(16), r.u64()


def mark(r):
    return r.number(), bool(r.u8())


def facts_of(r):
    facts = {"exists": bool(r.u8())}
    for field in ("user", "uid", "gid", "home", "mail_root", "blob_root"):
        facts[field] = r.text()
    facts["device"] = r.u64()
    facts["settings"], facts["unfit"], facts["not_covered"] = r.text(), r.text(), r.name()
    facts["objects"] = [{"object": (r.text(), r.raw(16)), "name": r.name(), "mark": mark(r), "mails": r.u64(),
                         "uid_validity": r.u32()} for _ in range(r.u32())]
    return facts


class Lost(Exception):
    """The worker is gone: what was asked may have been done or not."""


class Worker:
    def __init__(self, path, originate=False):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(300)
        self.socket.connect(str(path))
        self.ids, self.buffer = 0, b""
        try:
            reply = self.ask("hello", u32(1) + bytes([originate]))
        except Lost:
            self.close()
            raise
        assert reply["verdict"] == "applied", reply

    def close(self):
        self.socket.close()

    def send(self, kind, body):
        self.ids += 1
        frame = bytes([FIRST_REQUEST + REQUESTS.index(kind)]) + u32(self.ids) + body
        try:
            self.socket.sendall(u32(len(frame)) + frame)
        except OSError as error:
            raise Lost from error

    def receive(self):
        while len(self.buffer) < 4 or len(self.buffer) < 4 + struct.unpack(">I", self.buffer[:4])[0]:
            try:
                data = self.socket.recv(1 << 20)
            except (ConnectionError, BrokenPipeError) as error:
                raise Lost from error
            if not data:
                raise Lost
            self.buffer += data
        length = struct.unpack(">I", self.buffer[:4])[0]
        frame, self.buffer = self.buffer[4:4 + length], self.buffer[4 + length:]
        return frame

    def reply(self, on_bulk=None):
        while True:
            r = Reader(self.receive())
            kind, request = r.u8(), r.u32()
            if kind == BULK_OUT:
                on_bulk(r.blob())
                continue
            assert kind == REPLY and request == self.ids, (kind, request, self.ids)
            reply = {"verdict": VERDICTS[r.u8()], "text": r.text(), "changes": [VERDICTS[r.u8()] for _ in range(r.u32())]}
            reply["facts"] = facts_of(r) if r.u8() else None
            reply["content"], reply["number"] = r.blob(), r.number()
            r.end()
            return reply

    def ask(self, kind, body, on_bulk=None):
        self.send(kind, body)
        return self.reply(on_bulk)

    def set_role(self, account, role, epoch=1):
        return self.ask("set_role", blob(account) + bytes([ROLES.index(role)]) + struct.pack(">Q", epoch))

    def inspect(self, account):
        return self.ask("inspect", blob(account))

    def probe(self, account, blob_name, content=b""):
        return self.ask("probe", blob(account) + blob(blob_name) + blob(content))

    def apply(self, account, records):
        return self.ask("apply", blob(account) + u32(len(records)) + b"".join(change(record) for record in records))

    def snapshot_list(self, account, prefix=""):
        return self.ask("snapshot_list", blob(account) + blob(prefix))

    def snapshot_mailbox(self, account, object_, snapshot, on_bulk):
        return self.ask("snapshot_mailbox", blob(account) + obj(object_) + snapshot, on_bulk)

    def collect(self, account, bulk):
        return self.ask("collect", blob(account) + blob(bulk))

    def build(self, account, object_, snapshot, number_):
        return self.ask("build", blob(account) + obj(object_) + snapshot + number(number_))

    def flush(self, roots):
        return self.ask("flush", u32(len(roots)) + b"".join(blob(root) for root in roots))

    def notify(self, to, subject, text):
        return self.ask("notify", blob(to) + blob(subject) + blob(text))

    def kick(self, account):
        return self.ask("kick", blob(account))


def resident_kib(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Rss:"))


def private_kib(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith(("Private_Clean:", "Private_Dirty:")))

