"""Free loopback ports, below the range that the kernel gives to outgoing connections, so that a port which is free
while its server is down stays free for its next start."""

import random
import socket

FIRST, LAST = 10240, 32000


def free_port(address, taken):
    for _ in range(1000):
        port = random.randint(FIRST, LAST)
        if port in taken:
            continue
        with socket.socket() as probe:
            try:
                probe.bind((address, port))
            except OSError:
                continue
        taken.add(port)
        return port
    raise RuntimeError(f"no free port on {address}")


def free_addresses(address, count, taken):
    return [f"{address}:{free_port(address, taken)}" for _ in range(count)]
