"""Are two stores equal, as a client sees them? Everything that IMAP and POP3 show of an account, read from both and compared.

Mailboxes are opened with EXAMINE: comparing changes nothing. \\Recent is a session's own and is left out.
"""

import hashlib

from .clients import quote
from .waiting import wait_until

FETCHED = "(UID FLAGS MODSEQ INTERNALDATE X-SAVEDATE X-GUID RFC822.SIZE BODY.PEEK[])"
STATUS = "(MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ X-GUID)"


def _text(value):
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _mails(imap, bodies):
    mails = {}
    for mail in imap.fetch("1:*", FETCHED if bodies else FETCHED.replace(" BODY.PEEK[]", "")):
        body = mail.get("BODY[]")
        body = body if isinstance(body, bytes) else (body or "").encode("utf-8", "surrogateescape")
        mails[int(mail["UID"])] = {
            "flags": sorted(flag for flag in mail["FLAGS"] if flag != "\\Recent"), "modseq": int(mail["MODSEQ"][0]),
            "internaldate": mail["INTERNALDATE"], "savedate": mail["X-SAVEDATE"], "guid": mail["X-GUID"],
            "size": int(mail["RFC822.SIZE"])} | ({"body": hashlib.sha256(body).hexdigest()} if bodies else {})
    return mails


def read_account(store, user, bodies=True, pop3=True):
    """{mailbox: {status fields, mails, metadata, subscribed}} and the POP3 UIDLs, as plain values."""
    account = {"mailboxes": {}}
    with store.imap(user, 120) as imap:
        subscribed = {_text(line[2]) for line in imap.expect('LSUB "" "*"').named("LSUB")}
        account["subscriptions"] = sorted(subscribed)
        names = [_text(line[2]) for line in imap.expect('LIST "" "*"').named("LIST")
                 if not {"\\noselect", "\\nonexistent"} & {flag.lower() for flag in line[0]}]
        for name in names:
            imap.select(name, readonly=True)
            values = next(imap.expect("STATUS", quote(name), STATUS).named("STATUS"))[1]
            mailbox = dict(zip(map(str.lower, values[::2]), values[1::2]))
            metadata = next(imap.expect("GETMETADATA (DEPTH infinity)", quote(name), "(/private /shared)").named("METADATA"), [None, []])[1]
            mailbox["metadata"] = dict(zip(metadata[::2], map(_text, metadata[1::2])))
            mailbox["mails"] = _mails(imap, bodies)
            account["mailboxes"][name] = mailbox
    if pop3:
        with store.pop3(user) as session:
            account["uidls"] = session.uidls()
            session.command("QUIT")
    return account


def differences(one, other, path=""):
    """Sentences, the deepest place named; empty if equal."""
    if isinstance(one, dict) and isinstance(other, dict):
        found = []
        for key in sorted({*one, *other}, key=str):
            place = f"{path}/{key}"
            if key not in one or key not in other:
                found.append(f"{place}: only at the {'first' if key in one else 'second'}")
            else:
                found += differences(one[key], other[key], place)
        return found
    return [] if one == other else [f"{path}: {one!r} and {other!r}"]


def compare_stores(site, users, first="store1", second="store2", bodies=True, pop3=True):
    """Sentences about what differs between the two stores in these accounts; empty if nothing does."""
    found = []
    for user in users:
        accounts = [read_account(site[name], user, bodies, pop3) for name in (first, second)]
        found += differences(*accounts, path=user)
    return found


def assert_equal_stores(site, users, timeout=120, **options):
    """Waits until the stores are equal; says what differs if they never are."""
    def equal():
        found = compare_stores(site, users, **options)
        if found:
            raise AssertionError(f"{len(found)} differences: " + "; ".join(found[:8]))
        return True

    wait_until(equal, timeout, f"{len(users)} accounts equal on both stores", 0.1)
