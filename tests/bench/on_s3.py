"""bench s3: cbox with bodies on S3 (versitygw) against cbox with bodies in a directory, and on an S3 that answers late."""

import contextlib
import shutil
import statistics
import time

from support.mailsite import Site, scratch_folder
from support.s3_faults import FaultProxy

CLIENTS, PREFETCH, LATE_MS = 32, 32, 10
MAILS, BODY_BYTES = 1000, 20_000
LINE = b"A line of seventy-six bytes, as mail has them, one after the other, like this.\r\n"
BODY = b"From: a@example.net\r\nSubject: bench\r\n\r\n" + LINE * (BODY_BYTES // len(LINE) + 1)


def pairs(rounds, one, other):
    """Rounds of both in turns: the medians, and the median of the ratios."""
    found = [(one(), other()) for _ in range(rounds)]
    return [round(statistics.median(column), 2) for column in zip(*found)], round(statistics.median(a / b for a, b in found), 3)


def everybody_has_an_inbox(site):
    with site["store1"].lmtp() as lmtp:
        for user in site.users():
            lmtp.deliver(user, BODY)


def configure(store, old, new):
    """Another setting, and a new start."""
    text = store.config.read_text()
    if old not in text:
        raise RuntimeError(f"the configuration has no {old}")
    store.config.write_text(text.replace(old, new))
    store.stop()
    store.start()


def fill(store, user):
    with store.imap(user) as imap:
        imap.expect("CREATE Thousand")
        for _ in range(MAILS):
            imap.append("Thousand", BODY)


def fetch_seconds(store, user, prefetch):
    now = next(line for line in store.config.read_text().splitlines() if line.startswith("mail_prefetch_count"))
    configure(store, now, f"mail_prefetch_count = {prefetch}")
    with store.imap(user) as imap:
        imap.select("Thousand")
        started = time.monotonic()
        bodies = imap.fetch("1:*", "(BODY.PEEK[])")
        seconds = time.monotonic() - started
    if len(bodies) != MAILS or any(mail["BODY[]"] != BODY for mail in bodies):
        raise RuntimeError(f"FETCH did not bring {MAILS} bodies")
    return seconds


def measure(rounds, remark, rate):
    """rate(site, clients): LMTP deliveries per second."""
    with contextlib.ExitStack() as cleanup:
        folder = scratch_folder("replica-bench-")
        cleanup.callback(shutil.rmtree, folder)
        options = {"stores": 1, "accounts": 100, "replica": False}
        directory = cleanup.enter_context(Site.up(folder / "posix", **options))
        site = cleanup.enter_context(Site.up(folder / "s3", bodies="s3", extra="mail_prefetch_count = 0\n", **options))
        for one in (site, directory):
            everybody_has_an_inbox(one)
            rate(one, CLIENTS)  # warm
        (on_s3, in_directory), ratio = pairs(rounds, lambda: rate(site, CLIENTS), lambda: rate(directory, CLIENTS))
        directory["store1"].stop()

        remark("a proxy before S3")
        proxy = cleanup.enter_context(FaultProxy(site.s3.address))
        store, user = site["store1"], site.user(1)
        configure(store, site.s3.url, proxy.url)

        def late_rate(ms):
            proxy.set("late", ms)
            return rate(site, CLIENTS)

        (late, at_once), late_ratio = pairs(rounds, lambda: late_rate(LATE_MS), lambda: late_rate(0))

        remark(f"FETCH of {MAILS} bodies")
        proxy.clear()
        fill(store, user)
        proxy.set("late", LATE_MS)
        (singly, together), faster = pairs(rounds, lambda: fetch_seconds(store, user, 0), lambda: fetch_seconds(store, user, PREFETCH))
    return {"lmtp_s3": on_s3, "lmtp_directory": in_directory, "ratio": ratio, "lmtp_late": late, "lmtp_at_once": at_once,
            "late_ratio": late_ratio, "fetch_singly_s": singly, "fetch_together_s": together, "times_faster": faster}
