#!/usr/bin/env python3
"""A proxy in front of an S3 server that does what networks, proxies and overloaded servers do. Each request may meet a fault.

FaultProxy is a process of its own (this file), told what to do over its standard input; it ends with whoever started it.
Faults, all switched at run time:
  late MS            the request is served at once, its answer held back
  stall              no answer comes, ever
  status NNN CODE [SECONDS]   an S3 error without asking the server: 503 SlowDown, 429 TooManyRequests, 403 AccessDenied, ...; its Date
                     may be so far from now
  html NNN           a page that some proxy made
  cut-before         connection reset when the request's head has come; the server never hears of it
  cut-request        connection reset in the middle of the request's body
  cut-answer         connection reset instead of the answer: the server has done it
  cut-body           connection reset in the middle of the answer's body
  truncated          the answer's body ends early, the connection in peace
  flipped            one byte of the answer's body is another
  flipped-request    one byte of the request's body is another
  dated SECONDS      the answer's Date is so far from now
"""

import asyncio
import dataclasses
import email.utils
import json
import pathlib
import socket
import struct
import subprocess
import sys
import time

HEAD_MAX = 64 * 1024
HTML = b"<!DOCTYPE html><html><head><title>Proxy</title></head><body><h1>This page was made by a proxy</h1></body></html>\r\n"


class FaultProxy:
    """url is where it listens; http to its clients and to the server."""

    def __init__(self, server_address):
        self.process = subprocess.Popen([sys.executable, str(pathlib.Path(__file__).resolve()), server_address],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip()
        self.url = f"http://{self.address}"

    def set(self, *fault, methods=(), path="", every=1, times=None):
        """From now on every n-th request of these methods and with this in its target meets the fault, `times` times; all others pass."""
        self._tell({"fault": fault, "methods": methods, "path": path, "every": every, "left": times})

    def clear(self):
        self._tell(None)

    def counts(self):
        """Of all requests so far: how many came, how many met a fault, how many at most were under way at once; connections."""
        return self._tell({})

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()

    def _tell(self, order):
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


# --- the process ---


class Cut(Exception):
    """This connection ends here, by a reset."""


@dataclasses.dataclass
class Message:
    """A request or an answer: its head as it came, its body whole (they are mails, not films)."""

    first: str
    head: bytes
    headers: dict
    body: bytes = b""

    @classmethod
    async def read_head(cls, reader):
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        return cls(first, head, {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)})

    async def read_body(self, reader):
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            size = -1
            while size != 0:  # each as it came; no server here sends a trailer
                line = await reader.readuntil(b"\r\n")
                size = int(line.split(b";")[0], 16)
                self.body += line + await reader.readexactly(size + 2)
        elif length := int(self.headers.get("content-length", 0)):
            self.body = await reader.readexactly(length)

    def flip(self):
        middle = len(self.body) // 2
        self.body = self.body[:middle] + bytes([self.body[middle] ^ 1]) + self.body[middle + 1:] if self.body else b""


def http_date(seconds):
    return email.utils.formatdate(time.time() + float(seconds), usegmt=True)


class Proxy:
    def __init__(self, target):
        host, _, port = target.rpartition(":")
        self.target = host, int(port)
        self.rule = None
        self.matched = 0
        self.now = 0
        self.counts = {"requests": 0, "faults": 0, "at_once": 0, "connections": 0}

    def order(self, order):
        if order != {}:
            self.rule, self.matched = order, 0
        return self.counts

    def pick(self, request):
        """The fault that this request meets, as a list of words."""
        method, target, _ = request.first.split(" ", 2)
        rule = self.rule
        if not rule or (rule["methods"] and method not in rule["methods"]) or rule["path"] not in target:
            return ["none"]
        self.matched += 1
        if self.matched % rule["every"] or rule["left"] == 0:
            return ["none"]
        if rule["left"] is not None:
            rule["left"] -= 1
        self.counts["faults"] += 1
        return [str(word) for word in rule["fault"]]

    async def serve(self, reader, writer):
        self.counts["connections"] += 1
        server = None
        try:
            server = await asyncio.open_connection(*self.target, limit=HEAD_MAX)
            server[1].get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while await self.exchange(reader, writer, *server):
                pass
        except Cut:
            # A reset, not an end: nothing of what was buffered is sent any more.
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        except (OSError, EOFError, asyncio.CancelledError):  # an end; the last is the proxy's own
            pass
        finally:
            for one in (writer, server and server[1]):
                if one:
                    one.close()

    async def exchange(self, reader, writer, server_reader, server_writer):
        """One request and its answer. False when the connection is to end."""
        request = await Message.read_head(reader)
        started = time.monotonic()
        self.counts["requests"] += 1
        self.now += 1
        self.counts["at_once"] = max(self.counts["at_once"], self.now)
        try:
            kind, *details = self.pick(request)
            await self.take(kind, request, reader, writer)
            if kind in ("status", "html"):
                await self.answer_instead(kind, details, request, writer)
                return True
            answer = await self.ask(request, server_reader, server_writer)
            return await self.give(kind, details, answer, started, writer)
        finally:
            self.now -= 1

    async def take(self, kind, request, reader, writer):
        if kind == "cut-before":
            raise Cut
        if request.headers.get("expect", "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if kind == "cut-request":
            if length := int(request.headers.get("content-length", 0)):
                await reader.readexactly(length // 2)
            raise Cut
        if kind == "stall":
            await asyncio.sleep(86400)
        await request.read_body(reader)
        if kind == "flipped-request":
            request.flip()

    async def ask(self, request, reader, writer):
        head = request.head.replace(b"Expect: 100-continue\r\n", b"")
        writer.write(head + request.body)
        while True:
            answer = await Message.read_head(reader)
            status = int(answer.first.split(" ")[1])
            if status >= 200:
                break
        if not request.first.startswith("HEAD ") and status not in (204, 304):
            await answer.read_body(reader)
        return answer

    async def give(self, kind, details, answer, started, writer):
        if kind == "cut-answer":
            raise Cut
        if kind == "late":
            await asyncio.sleep(max(0.0, started + float(details[0]) / 1000 - time.monotonic()))
        if kind == "flipped":
            answer.flip()
        if kind == "dated":
            date = f"Date: {http_date(details[0])}"
            lines = [date if line.lower().startswith("date:") else line for line in answer.head.decode("latin-1").split("\r\n")]
            answer.head = "\r\n".join(lines).encode("latin-1")
        if kind in ("cut-body", "truncated"):
            writer.write(answer.head + answer.body[:len(answer.body) // 2])
            await writer.drain()
            if kind == "cut-body":
                await asyncio.sleep(0.05)  # a reset overtakes what was sent; the client is to have it
                raise Cut
            return False
        writer.write(answer.head + answer.body)
        await writer.drain()
        return answer.headers.get("connection", "").lower() != "close"

    async def answer_instead(self, kind, details, request, writer):
        status = details[0]
        body, sort = HTML, "text/html"
        if kind == "status":
            sort = "application/xml"
            body = (f"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{details[1]}</Code><Message>said the fault proxy</Message>"
                    f"<Resource>/</Resource><RequestId>F</RequestId></Error>").encode()
        head = (f"HTTP/1.1 {status} Fault\r\nDate: {http_date(details[2] if len(details) > 2 else 0)}\r\nContent-Type: {sort}\r\n"
                f"Content-Length: {len(body)}\r\nConnection: keep-alive\r\n\r\n")
        writer.write(head.encode() + (b"" if request.first.startswith("HEAD ") else body))
        await writer.drain()


async def main(target):
    proxy = Proxy(target)
    listener = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, limit=HEAD_MAX, backlog=512)
    print("%s:%d" % listener.sockets[0].getsockname(), flush=True)
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        print(json.dumps(proxy.order(json.loads(line))), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
