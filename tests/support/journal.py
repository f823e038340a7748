"""A client's own journal: what it asked for, what was acknowledged, what it has seen; and the judge that compares a store with it.

Every mail begins with "X-Journal: ID", so it is known again wherever it lies. Each operation is noted before it is sent and again when
its answer came. What was acknowledged must be there; what was under way may have happened or not; what a client has seen stays as seen.
Thread: any; an account's model changes under its lock.
"""

import collections
import hashlib
import itertools
import json
import re
import threading
import time

HEADER = b"X-Journal: "


def as_stored(content):
    return re.sub(rb"(?<!\r)\n", b"\r\n", content)


def digest(body):
    """SHA-256 of a stored mail from its X-Journal line on (a delivery puts lines before it), with the mail's id."""
    start = body.find(HEADER)
    if start < 0:
        return None, hashlib.sha256(body).hexdigest()
    identity = body[start + len(HEADER):body.index(b"\r\n", start)].decode()
    return identity, hashlib.sha256(body[start:]).hexdigest()


class Mail:
    """What a mailbox must show of one mail; optional = it may be missing, or_else = unless it lies there; flags: any of these."""

    def __init__(self, sha, flags=frozenset(), uid=None, optional=False):
        self.sha, self.flags, self.uid, self.optional = sha, [frozenset(flags)], uid, optional
        self.or_else = None


class Account:
    def __init__(self, user):
        self.user = user
        self.lock = threading.Lock()
        self.mails = {}  # (mailbox, id) -> Mail
        self.seen = {}  # (mailbox, id) -> UID that a client was shown
        self.mailboxes = {"INBOX"}
        self.maybe_mailboxes = set()
        self.uidvalidity = {}  # mailbox -> as first seen


class Operation:
    """One operation under way. Exactly one of ack, refuse and lose ends it."""

    def __init__(self, journal, number, kind, account, facts):
        self.journal, self.number, self.kind, self.account, self.facts = journal, number, kind, account, facts
        self.sent = time.monotonic()
        self.ended = None
        self.outcome = "under way"

    def ack(self, uid=None, uidvalidity=None):
        with self.account.lock:
            self._apply(uid)
            if uidvalidity is not None:
                self.account.uidvalidity.setdefault(self.facts.get("to") or self.facts["mailbox"], uidvalidity)
        self.end("acknowledged", uid=uid)

    def refuse(self, text):
        self.answer = text
        self.end("refused", text=text)

    def lose(self, why):
        self.end("lost", text=why)

    def end(self, outcome, **facts):
        self.ended, self.outcome = time.monotonic(), outcome
        self.journal.write(self, outcome, **facts)

    def _apply(self, uid):
        account, facts = self.account, self.facts
        key = (facts.get("mailbox"), facts.get("id"))
        target = (facts.get("to"), facts.get("id"))
        if self.kind in ("deliver", "append"):
            account.mails[key] = Mail(facts["sha"], facts.get("flags", ()), uid or account.seen.get(key))
        elif self.kind == "flags":
            account.mails[key].flags = [frozenset(facts["flags"])]
        elif self.kind in ("copy", "move"):
            mail = account.mails[key]
            account.mails[target] = Mail(mail.sha, mail.flags[0], uid)
            if self.kind == "move":
                del account.mails[key]
        elif self.kind == "expunge":
            del account.mails[key]
        elif self.kind == "create":
            account.mailboxes.add(facts["mailbox"])

    def doubt(self):
        """The operation got no acknowledgement: both outcomes are right, and nothing else."""
        account, facts = self.account, self.facts
        key = (facts.get("mailbox"), facts.get("id"))
        target = (facts.get("to"), facts.get("id"))
        if self.kind in ("deliver", "append"):
            account.mails[key] = Mail(facts["sha"], facts.get("flags", ()), account.seen.get(key), optional=key not in account.seen)
        elif self.kind == "flags":
            account.mails[key].flags.append(frozenset(facts["flags"]))
        elif self.kind in ("copy", "move"):
            mail = account.mails[key]
            account.mails[target] = Mail(mail.sha, mail.flags[0], optional=True)
            if self.kind == "move":
                mail.optional, mail.or_else = True, target
        elif self.kind == "expunge":
            account.mails[key].optional = True
        elif self.kind == "create":
            account.maybe_mailboxes.add(facts["mailbox"])


class Journal:
    """Owns its file, one JSON object a line."""

    def __init__(self, path, users):
        self.file = open(path, "a", encoding="utf-8", buffering=1)
        self.lock = threading.Lock()
        self.numbers = itertools.count(1)
        self.ids = itertools.count(1)
        self.operations = []
        self.accounts = {user: Account(user) for user in users}

    def mail(self, content):
        """(id, bytes to send, SHA-256 as it must be stored)."""
        identity = str(next(self.ids))
        message = HEADER + identity.encode() + b"\r\n" + as_stored(content)
        return identity, message, hashlib.sha256(message).hexdigest()

    def begin(self, kind, user, **facts):
        operation = Operation(self, next(self.numbers), kind, self.accounts[user], facts)
        with self.lock:
            self.operations.append(operation)
        self.write(operation, "intent", **facts)
        return operation

    def write(self, operation, phase, **facts):
        line = {"n": operation.number, "t": round(time.time(), 6), "op": operation.kind, "user": operation.account.user, "phase": phase}
        with self.lock:
            self.file.write(json.dumps(line | facts, default=sorted) + "\n")

    def saw(self, user, mailbox, identity, uid):
        account = self.accounts[user]
        with account.lock:
            account.seen[mailbox, identity] = uid
            mail = account.mails.get((mailbox, identity))
            if mail and mail.uid is None:
                mail.uid = uid

    def count(self, outcome):
        with self.lock:
            return sum(operation.outcome == outcome for operation in self.operations)

    def refusals(self):
        """{answer without its numbers: how often}."""
        with self.lock:
            texts = [operation.answer for operation in self.operations if operation.outcome == "refused"]
        return dict(collections.Counter(f"{re.sub(r'[<(].*', '', text)}" for text in texts))

    def under_way_at(self, instant):
        """Operations sent before the instant and not acknowledged until then, nor ever."""
        with self.lock:
            return [operation for operation in self.operations if operation.sent < instant and operation.outcome != "acknowledged"
                    and (operation.ended is None or operation.ended >= instant)]

    def close_doubts(self):
        for operation in self.operations:
            if operation.outcome != "acknowledged":
                operation.doubt()
        self.file.close()


def observe(store, user):
    """What a client of the store sees: {mailbox: (UIDVALIDITY, {id: [(UID, flags, SHA-256)]})}."""
    seen = {}
    with store.imap(user, 120) as imap:
        names = [line[2] for line in imap.expect('LIST "" "*"').named("LIST") if "\\Noselect" not in line[0]]
        for name in names:
            name = name.decode() if isinstance(name, bytes) else name
            validity = imap.select(name, readonly=True).code_of("UIDVALIDITY")[0]
            mails = {}
            for mail in imap.fetch("1:*", "(UID FLAGS BODY.PEEK[])"):
                body = mail["BODY[]"]
                identity, sha = digest(body if isinstance(body, bytes) else (body or "").encode("utf-8", "surrogateescape"))
                flags = frozenset(flag for flag in mail["FLAGS"] if flag != "\\Recent")
                mails.setdefault(identity, []).append((int(mail["UID"]), flags, sha))
            seen[name] = (validity, mails)
    return seen


class Verdict:
    """Counts, and a sentence for each thing that is not as acknowledged."""

    def __init__(self):
        self.counts = dict.fromkeys(("mails", "present", "missing", "twice", "unexpected", "uid", "flags", "body", "mailboxes"), 0)
        self.sentences = []

    def fault(self, what, sentence):
        self.counts[what] += 1
        self.sentences.append(sentence)

    @property
    def good(self):
        return not self.sentences


def judge(account, observed, verdict):
    """Compares one account as `observed` with its journal. Call close_doubts first."""
    there = {(mailbox, identity): found for mailbox, (_, mails) in observed.items() for identity, found in mails.items()}
    for mailbox in account.mailboxes - observed.keys():
        verdict.fault("mailboxes", f"{account.user}: mailbox {mailbox} is missing")
    for mailbox, validity in account.uidvalidity.items():
        if mailbox in observed and observed[mailbox][0] != validity:
            verdict.fault("uid", f"{account.user}/{mailbox}: UIDVALIDITY {observed[mailbox][0]}, was {validity}")
    for key, mail in account.mails.items():
        _judge_mail(account, key, mail, there, verdict)
    for key in there.keys() - account.mails.keys():
        verdict.fault("unexpected", f"{account.user}/{key[0]}: mail {key[1]} is there, its expunge or move was acknowledged")


def _judge_mail(account, key, mail, there, verdict):
    found = there.get(key, [])
    where = f"{account.user}/{key[0]}: mail {key[1]}"
    acknowledged = not mail.optional or (mail.or_else is not None and mail.or_else not in there)
    verdict.counts["mails"] += acknowledged
    if not found:
        if acknowledged:
            verdict.fault("missing", f"{where} is missing")
        return
    if len(found) > 1:
        verdict.fault("twice", f"{where} is there {len(found)} times")
    verdict.counts["present"] += acknowledged
    uid, flags, sha = found[0]
    if mail.uid is not None and uid != mail.uid:
        verdict.fault("uid", f"{where} has UID {uid}, had {mail.uid}")
    if flags not in mail.flags:
        verdict.fault("flags", f"{where} has flags {sorted(flags)}, acknowledged {[sorted(option) for option in mail.flags]}")
    if sha != mail.sha:
        verdict.fault("body", f"{where} has another body")
