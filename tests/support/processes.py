"""Process trees through /proc: who belongs to a store or a broker, freezing and killing all of them at one instant.

A process is named by (pid, start time), so a pid that was used again is never taken for the old process.
Needs root, nothing else: a fresh machine has no ps.
"""

import os
import signal
import time

from .waiting import wait_until

DOVECOT_PROGRAMS = ("/usr/lib/dovecot/", "/usr/libexec/dovecot/", "/usr/sbin/dovecot")


def _stat(pid):
    """(state, parent, start time), or None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], int(fields[1]), int(fields[19])


def start_time(pid):
    stat = _stat(pid)
    return stat[2] if stat else None


def alive(pid, started=None):
    """A zombie is dead; our own ones are reaped on the way."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except (ChildProcessError, OSError):
        pass
    stat = _stat(pid)
    return bool(stat) and stat[0] not in "ZX" and (started is None or stat[2] == started)


def _link(pid, name):
    try:
        return os.readlink(f"/proc/{pid}/{name}")
    except OSError:
        return ""


def _below(path, folder):
    return path == folder or path.startswith(folder + "/")


def family(master, folder):
    """All living processes of a Dovecot instance: the descendants of its master, and those that outlived one: Dovecot
    programs whose working directory or root lies in the instance's folder."""
    stats = {int(name): _stat(name) for name in os.listdir("/proc") if name.isdigit()}
    stats = {pid: stat for pid, stat in stats.items() if stat and stat[0] not in "ZX"}
    found = {master} & stats.keys()
    found |= {
        pid
        for pid in stats
        if _link(pid, "exe").startswith(DOVECOT_PROGRAMS)
        and (_below(_link(pid, "cwd"), folder) or _below(_link(pid, "root"), folder))
    }
    while True:
        children = {pid for pid, stat in stats.items() if stat[1] in found} - found
        if not children:
            return found
        found |= children


def _send(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _stands(pid):
    stat = _stat(pid)
    return stat is None or stat[0] in "TtZX"


def freeze(find):
    """Stops every process that find() names, and their children that were born meanwhile, until none moves.
    Returns (processes, the instant of the first signal by time.monotonic())."""
    stopped, instant = set(), None
    while True:
        moving = find() - stopped
        instant = instant or time.monotonic()
        if not moving:
            return stopped, instant
        for pid in sorted(moving):
            _send(pid, signal.SIGSTOP)
        stopped |= moving
        wait_until(lambda: all(_stands(pid) for pid in stopped), 60, "every process stopped", 0.001)


def thaw(find):
    for pid in find():
        _send(pid, signal.SIGCONT)


def kill(find):
    """SIGKILL to all of them at one instant: frozen first, so none sees another one die. Returns that instant."""
    doomed, instant = freeze(find)
    for pid in doomed:
        _send(pid, signal.SIGKILL)
    wait_until(lambda: not any(alive(pid) for pid in doomed), 60, "every process dead", 0.002)
    return instant


class One:
    """A server that is one process. `pid` and `started` say which; pid is 0 while it is down."""

    def processes(self):
        return {self.pid} if self.pid and alive(self.pid, self.started) else set()

    def kill(self):
        instant = kill(self.processes)
        self.pid, self.started = 0, None
        return instant
