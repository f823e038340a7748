"""The doveadm replica commands, and waiting for what they begin."""

import json

from .waiting import wait_until

ACCOUNTS_PER_COMMAND = 2000


def status(store):
    """One dict for each account and destination, with getAccountStatus's columns."""
    return json.loads(store.doveadm("-f", "json", "replica", "getAccountStatus").stdout or "[]")


def living(store):
    """The stores whose heartbeats this one hears, itself among them."""
    rows = json.loads(store.doveadm("-f", "json", "replica", "stores").stdout or "[]")
    return {row["store"] for row in rows if row["alive"] == "yes"}


def set_destination(store, destination, users, priority=10):
    for first in range(0, len(users), ACCOUNTS_PER_COMMAND):
        words = ("replica", "setAccountDestination", destination.name, priority, "accounts",
                 ",".join(users[first:first + ACCOUNTS_PER_COMMAND]))

        def done():
            """None while the store only just becomes the accounts' source, and says so."""
            said = store.doveadm(*words, check=False, timeout=300)
            return None if "try again" in said.stderr else said

        said = wait_until(done, 120, f"{store.name} takes {' '.join(map(str, words))}")
        if said.returncode != 0:
            raise RuntimeError(said.stdout + said.stderr)


def complete(store, destination, users):
    """Every account is initialised at the destination, and follows."""
    ready = {row["account"] for row in status(store)
             if row["replicaServer"] == destination.name and row["phase"] == "complete" and row["available"] == "yes"}
    return ready >= set(users)


def replicate(store, destination, users, timeout=300):
    set_destination(store, destination, users)
    wait_until(lambda: complete(store, destination, users), timeout, f"{len(users)} accounts complete on {destination.name}", 0.05)


def promote(store, users=None, source=None, timeout=300, force=False):
    """At the store that is to be the new source. Returns when all are active there."""
    which = ("source_mail_host", source.name) if source else ("accounts", ",".join(users))
    store.doveadm("replica", "promoteAccounts", *which, "target", store.name, *(("force", "yes") if force else ()), timeout=timeout)
    if users:
        wait_until(lambda: active(store, users), timeout, f"{len(users)} accounts active on {store.name}", 0.05)


def operations_over(store):
    """Every command that the store knows of has ended."""
    rows = json.loads(store.doveadm("-f", "json", "replica", "operations").stdout or "[]")
    return all(row["phase"] in ("done", "failed") for row in rows)


def active(store, users):
    return {row["account"] for row in status(store) if row["mailHost"] == store.name and row["state"] == "active"} >= set(users)
