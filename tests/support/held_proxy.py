"""A TCP proxy in front of a broker that can hold back what its present clients send, while newer ones pass."""

import select
import socket
import threading

from .ports import free_addresses


class HeldProxy(threading.Thread):
    """Listens on `address`; forwards to `target`. Thread: its own; hold, release and held are for any other."""

    def __init__(self, target):
        super().__init__(daemon=True)
        self.target = self._pair(target)
        self.address, = free_addresses("127.0.0.1", 1, set())
        self.listener = socket.create_server(self._pair(self.address))
        self.lock = threading.Lock()
        self.peers = {}  # client or server socket -> the other one
        self.clients = set()
        self.kept = {}  # client held back -> what it sent since
        self.start()

    @staticmethod
    def _pair(address):
        host, _, port = address.rpartition(":")
        return host, int(port)

    def hold(self):
        with self.lock:
            self.kept = {client: b"" for client in self.clients}

    def held(self):
        """What each held client has sent since."""
        with self.lock:
            return list(self.kept.values())

    def release(self):
        with self.lock:
            kept, self.kept = self.kept, {}
            for client, data in kept.items():
                if client in self.peers:
                    self.peers[client].sendall(data)

    def run(self):
        while True:
            for ready in select.select([self.listener, *self.peers], [], [], 0.2)[0]:
                self._accept() if ready is self.listener else self._forward(ready)

    def _accept(self):
        client, _ = self.listener.accept()
        server = socket.create_connection(self.target)
        for one in (client, server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.lock:
            self.peers |= {client: server, server: client}
            self.clients.add(client)

    def _forward(self, source):
        try:
            data = source.recv(1 << 16)
            with self.lock:
                if data and source in self.kept:
                    self.kept[source] += data
                elif data:
                    self.peers[source].sendall(data)
        except OSError:
            data = b""
        if not data:
            with self.lock:
                other = self.peers.pop(source, None)
                for one in (source, other):
                    self.peers.pop(one, None)
                    self.clients.discard(one)
                    self.kept.pop(one, None)
                    if one:
                        one.close()
