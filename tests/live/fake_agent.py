"""An agent for tests of the plugin alone: speaks the frames of docs/formats/agent-socket.md, keeps no log, obeys a script.

It numbers changes as an agent would and convicts a change whose offered mark is not the object's last number. What it does
instead of answering is set by `on_clear` and `on_change`: a function of (connection, frame), or None for the ordinary answer.
"""

import os
import socket
import struct
import threading

HELLO, CLEAR, CHANGE, DONE, ANSWER, ACK, REFUSED = 1, 2, 3, 4, 33, 34, 35
REASONS = ("none", "unavailable", "not_source", "behind", "deleted", "too_large", "stopped", "busy", "protocol")
KINDS = {1: "mailbox", 2: "snapshot", 16: "create", 17: "delete", 18: "rename", 19: "subscription", 20: "list_snapshot"}
NO_GUID = bytes(16)


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def raw(self, count):
        if self.at + count > len(self.data):
            raise ValueError("cut short")
        self.at += count
        return self.data[self.at - count:self.at]

    def u8(self):
        return self.raw(1)[0]

    def u32(self):
        return struct.unpack(">I", self.raw(4))[0]

    def u64(self):
        return struct.unpack(">Q", self.raw(8))[0]

    def blob(self):
        return self.raw(self.u32())

    def text(self):
        return self.blob().decode()

    def number(self):
        return self.u64(), self.u64()

    def name(self):
        return [self.text() for _ in range(self.u32())]

    def end(self):
        assert self.at == len(self.data), f"{len(self.data) - self.at} bytes are left"


def blob(data):
    data = data.encode() if isinstance(data, str) else data
    return struct.pack(">I", len(data)) + data


def mailbox_change(data):
    """The parts of a MailboxChange that tests look at."""
    r = Reader(data)
    change = {"base_modseq": r.u64(), "modseq": r.u64(), "uid_validity": r.u32(), "next_uid": r.u32()}
    change["appends"] = []
    for _ in range(r.u32()):
        append = {"uid": r.u32(), "guid": r.raw(16), "blob": r.raw(16), "physical_size": r.u64(), "virtual_size": r.u64(),
                  "received": r.u32(), "saved": r.u32(), "flags": r.u8(), "keywords": r.name(), "pop3_uidl": r.text(),
                  "pop3_order": r.u32(), "modseq": r.u64(), "cache": r.blob()}
        change["appends"].append(append)
    change["flags"] = [(r.u32(), r.u32(), r.u8(), r.u8()) for _ in range(r.u32())]
    change["keywords"] = [(r.text(), bool(r.u8()), [(r.u32(), r.u32()) for _ in range(r.u32())]) for _ in range(r.u32())]
    change["expunges"] = [(r.u32(), r.raw(16)) for _ in range(r.u32())]
    change["attributes"] = [(bool(r.u8()), r.text(), r.text() if r.u8() else None) for _ in range(r.u32())]
    change["header"] = (r.u32(), r.u32(), r.u64())
    r.end()
    return change


def payload_of(kind, data):
    r = Reader(data)
    if kind == "mailbox":
        return mailbox_change(data)
    if kind == "create":
        payload = {"mailbox": r.raw(16), "name": r.name(), "uid_validity": r.u32()}
    elif kind == "delete":
        payload = {"mailbox": r.raw(16), "name": r.name()}
    elif kind == "rename":
        payload = {"mailbox": r.raw(16), "old_name": r.name(), "name": r.name()}
    elif kind == "subscription":
        payload = {"name": r.name(), "subscribed": bool(r.u8())}
    else:
        return data
    r.end()
    return payload


def decode(data):
    r = Reader(data)
    kind = r.u8()
    if kind == HELLO:
        frame = {"frame": "hello", "version": r.u32(), "service": r.text(), "pid": r.u32()}
    elif kind == CLEAR:
        frame = {"frame": "clear", "request": r.u64(), "account": r.text(), "object": (r.text(), r.raw(16)),
                 "mark": r.number(), "unlogged": bool(r.u8())}
    elif kind == CHANGE:
        frame = {"frame": "change", "request": r.u64(), "account": r.text(), "object": (r.text(), r.raw(16)),
                 "kind": KINDS[r.u8()], "subject": r.raw(16), "previous": r.number(), "payload": r.blob()}
        frame["payload"] = payload_of(frame["kind"], frame["payload"])
    elif kind == DONE:
        frame = {"frame": "done", "request": r.u64(), "ok": bool(r.u8())}
    else:
        raise ValueError(f"type {kind}")
    r.end()
    return frame


class Connection:
    def __init__(self, agent, sock):
        self.agent, self.socket, self.service, self.pid = agent, sock, None, None

    def send(self, kind, body):
        self.socket.sendall(struct.pack(">IB", len(body) + 1, kind) + body)

    def answer(self, frame, reason="none", text=""):
        self.send(ANSWER, struct.pack(">QB", frame["request"], REASONS.index(reason)) + blob(text))

    def ack(self, frame, number):
        self.send(ACK, struct.pack(">QQQ", frame["request"], *number))

    def refuse(self, frame, reason="unavailable", text="by the test"):
        self.send(REFUSED, struct.pack(">QB", frame["request"], REASONS.index(reason)) + blob(text))

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)


class FakeAgent:
    def __init__(self, path):
        self.path = str(path)
        self.frames, self.numbers, self.sequence = [], {}, 0
        self.on_clear = self.on_change = None
        self.listener, self.connections = None, set()
        self.lock = threading.Condition()
        self.failures = []

    def start(self):
        if os.path.exists(self.path):
            os.unlink(self.path)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        os.chmod(self.path, 0o666)
        self.listener.listen(64)
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def stop(self):
        """As a crash looks: the listener and every connection are gone at once."""
        listener, self.listener = self.listener, None
        if listener:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self.lock:
            for connection in self.connections:
                try:
                    connection.close()
                except OSError:
                    pass

    def obey(self, on_clear=None, on_change=None):
        self.on_clear, self.on_change = on_clear, on_change

    def _accept(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(Connection(self, sock),), daemon=True).start()

    def _serve(self, connection):
        with self.lock:
            self.connections.add(connection)
        buffer = b""
        try:
            while data := connection.socket.recv(1 << 16):
                buffer += data
                while len(buffer) >= 4 and len(buffer) >= 4 + struct.unpack(">I", buffer[:4])[0]:
                    length = struct.unpack(">I", buffer[:4])[0]
                    frame, buffer = decode(buffer[4:4 + length]), buffer[4 + length:]
                    self._take(connection, frame)
        except OSError:
            pass
        except Exception as error:  # a frame that this test cannot read is a failure of the test, not of a thread
            self.failures.append(repr(error))
        finally:
            with self.lock:
                self.connections.discard(connection)
            connection.socket.close()

    def _take(self, connection, frame):
        with self.lock:
            frame["service"] = connection.service
            self.frames.append(frame)
            self.lock.notify_all()
        if frame["frame"] == "hello":
            connection.service, connection.pid = frame["service"], frame["pid"]
        elif frame["frame"] == "clear":
            (self.on_clear or Connection.answer)(connection, frame)
        elif frame["frame"] == "change":
            (self.on_change or self.number)(connection, frame)

    def number(self, connection, frame, answer=True):
        """The ordinary answer: the next number, if the offered mark is the last one."""
        with self.lock:
            key = frame["account"], frame["object"]
            if self.numbers.get(key, frame["previous"]) != frame["previous"]:
                number = None
            else:
                self.sequence += 1
                number = self.numbers[key] = (1, self.sequence)
                if frame["kind"] == "create" and frame["subject"] != NO_GUID:
                    self.numbers[frame["account"], (frame["object"][0], frame["subject"])] = number
        if not answer:
            return
        if number:
            connection.ack(frame, number)
        else:
            connection.refuse(frame, "behind", f"{frame['previous']} is not the last number of {frame['object']}")

    def take(self):
        """The frames since the last call."""
        with self.lock:
            frames, self.frames = self.frames, []
            return frames

    def wait_for(self, condition, timeout=60):
        """Until condition(frames) is true."""
        with self.lock:
            assert self.lock.wait_for(lambda: condition(self.frames), timeout), self.frames
