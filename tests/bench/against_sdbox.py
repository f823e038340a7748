"""cbox against stock sdbox on the same machine, disk and fsync settings: one site of each, the same work in turns.

A round does everything on both, the order changing from round to round; what counts is the median of the rounds' ratios.
"""

import contextlib
import pathlib
import shutil
import statistics
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from support.mailsite import Site, scratch_folder  # noqa: E402

BODY = b"A line of seventy-six bytes, as mail has them, one after the other, like this.\r\n"
MESSAGE = b"From: a@example.net\r\nTo: b@example.net\r\nSubject: bench\r\n\r\n" + BODY * 40
MAILS, CLIENTS, DELIVERIES, APPENDS = 1000, 8, 50, 200


def lmtp(site, _):
    """Clients that deliver one mail after the other; seconds for all."""
    users, faults = site.users(), []

    def client(number):
        with site["store1"].lmtp() as session:
            for n in range(DELIVERIES):
                user = users[1 + (number + n * CLIENTS) % (len(users) - 1)]
                if not session.deliver(user, MESSAGE).get(user, "").startswith("250"):
                    faults.append(user)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise RuntimeError(f"LMTP refused {len(faults)} deliveries")
    return time.monotonic() - started


def timed(imap, *command):
    """Seconds until the tagged line; what comes before it is only read, so that the client costs little."""
    started = time.monotonic()
    tag = imap.begin(*command).encode()
    while True:
        line = imap.line()
        while line.endswith(b"}"):
            imap.bytes(int(line[line.rindex(b"{") + 1:-1]))
            line = imap.line()
        if line.startswith(tag + b" "):
            if not line.startswith(tag + b" OK"):
                raise RuntimeError(line.decode())
            return time.monotonic() - started


def append(site, number):
    with site["store1"].imap(site.user(1)) as imap:
        imap.expect(f"CREATE Append{number}")
        started = time.monotonic()
        for _ in range(APPENDS):
            if not imap.append(f"Append{number}", MESSAGE).ok:
                raise RuntimeError("APPEND was refused")
        return time.monotonic() - started


def fetch(site, _):
    with site["store1"].imap(site.user(1)) as imap:
        imap.select("Seed")
        return timed(imap, "FETCH 1:* BODY.PEEK[]")


def copy(site, number):
    with site["store1"].imap(site.user(1)) as imap:
        imap.expect(f"CREATE Copy{number}")
        imap.select("Seed")
        return timed(imap, f"COPY 1:* Copy{number}")


def move(site, number):
    """What `copy` has copied, in the same round."""
    with site["store1"].imap(site.user(1)) as imap:
        imap.expect(f"CREATE Move{number}")
        imap.select(f"Copy{number}")
        seconds = timed(imap, f"MOVE 1:* Move{number}")
        imap.select("Seed")
        for name in ("Copy", "Move"):
            imap.expect(f"DELETE {name}{number}")
        return seconds


WORK = {"lmtp": lmtp, "append": append, "fetch": fetch, "copy": copy, "move": move}


def fill(site):
    """A mailbox Seed of MAILS mails, each with a body of its own; everybody has an INBOX."""
    with site["store1"].imap(site.user(1)) as imap:
        imap.expect("CREATE Seed")
        for _ in range(MAILS):
            imap.append("Seed", MESSAGE)
    with site["store1"].lmtp() as session:
        for user in site.users():
            session.deliver(user, MESSAGE)


def index_bytes(site, mails=32_000):
    """Bytes of the index for each mail, without cache, and of index and logs together, of one mailbox grown by copies."""
    with site["store1"].imap(site.user(1), 600) as imap:
        imap.expect("CREATE Large")
        imap.select("Seed")
        for _ in range(mails // MAILS):
            imap.expect("COPY 1:* Large")
        imap.select("Large")
        imap.expect("NOOP")
    files = max((list(path.parent.glob("dovecot.index*")) for path in site["store1"].folder.rglob("dovecot.index.log")),
                key=lambda found: sum(file.stat().st_size for file in found))
    sizes = {file.name: file.stat().st_size for file in files if "cache" not in file.name and "backup" not in file.name}
    return round(sizes["dovecot.index"] / mails, 1), round(sum(sizes.values()) / mails, 1)


def measure(rounds, remark):
    with contextlib.ExitStack() as cleanup:
        folder = scratch_folder("replica-bench-")
        cleanup.callback(shutil.rmtree, folder)
        sites = {driver: cleanup.enter_context(Site.up(folder / driver, stores=1, accounts=20, driver=driver, replica=False))
                 for driver in ("cbox", "sdbox")}
        for site in sites.values():
            fill(site)
        for name in WORK:  # warm
            for site in sites.values():
                WORK[name](site, 0)
        seconds = {name: [] for name in WORK}
        for number in range(1, rounds + 1):
            remark(f"round {number} of {rounds}")
            for name in WORK:
                order = list(sites)[::1 if number % 2 else -1]
                took = {driver: WORK[name](sites[driver], number) for driver in order}
                seconds[name].append((took["cbox"], took["sdbox"]))
        index, with_logs = index_bytes(sites["cbox"])
    result = {"index_bytes_per_mail": index, "with_logs": with_logs}
    for name, pairs in seconds.items():
        ours, stock = (statistics.median(column) for column in zip(*pairs))
        ratios = sorted(stock / own for own, stock in pairs)
        result[name] = {"cbox_ms": round(ours * 1000, 1), "sdbox_ms": round(stock * 1000, 1), "times_as_fast": round(statistics.median(ratios), 2),
                        "from": round(ratios[0], 2), "to": round(ratios[-1], 2)}
    return result
