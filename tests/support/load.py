"""Clients that work at the same time, each operation in the journal: LMTP deliveries, and IMAP sessions that append, flag, copy, move,
expunge, create and read. They go on until told to stop or until their connection breaks.

An account has one IMAP session at most, so its own answers tell its state; deliveries come from everywhere.
"""

import random
import re
import threading

from .clients import quote

FLAGS = ["\\Seen", "\\Answered", "\\Flagged", "\\Draft", "$Important", "work", "$Forwarded"]


class Worker(threading.Thread):
    def __init__(self, name, journal, store, seed):
        super().__init__(name=name, daemon=True)
        self.journal, self.store = journal, store
        self.random = random.Random(seed)
        self.stopping = threading.Event()
        self.failure = None  # a fault of the client itself: a test must look at it
        self.done = 0

    def run(self):
        try:
            self.open()
            while not self.stopping.is_set():
                self.work()
                self.done += 1
            self.connection.close()
        except OSError:
            pass  # the store is gone: what was under way is in the journal
        except Exception as error:  # noqa: BLE001
            self.failure = error

    def ask(self, operation, call):
        """Runs the call; the operation is lost if the connection breaks in it. Returns the answer."""
        try:
            return call()
        except OSError as error:
            operation.lose(f"{type(error).__name__}: {error}")
            raise


class Deliverer(Worker):
    def __init__(self, journal, store, mails, users, seed):
        super().__init__(f"lmtp-{seed}", journal, store, seed)
        self.mails, self.users = mails, users

    def open(self):
        self.connection = self.store.lmtp()

    def work(self):
        deliver(self, self.connection, self.random.choice(self.users), self.random.choice(self.mails))


def deliver(worker, lmtp, user, content):
    """One delivery, noted when everything but the final dot is on its way. It ends with a line, as deliveries do."""
    journal = worker.journal
    identity, message, sha = journal.mail(content if not content or content.endswith(b"\n") else content + b"\r\n")
    lmtp.begin_data([user], message)
    operation = journal.begin("deliver", user, mailbox="INBOX", id=identity, sha=sha)

    def finish():
        lmtp.send(b".\r\n")
        return lmtp.reply()

    answer = worker.ask(operation, finish)
    operation.ack() if answer.startswith("250") else operation.refuse(answer)
    return answer


class Reader(Worker):
    """An IMAP session of one account, doing a bit of everything."""

    def __init__(self, journal, store, mails, user, folders, seed):
        super().__init__(f"imap-{seed}", journal, store, seed)
        self.mails, self.user, self.folders = mails, user, folders
        self.account = journal.accounts[user]
        self.read_up_to = {}

    def open(self):
        self.connection = self.store.imap(self.user)

    def work(self):
        action = self.random.choices((self.append, self.flags, self.copy, self.move, self.expunge, self.read, self.create),
                                     (28, 28, 8, 12, 8, 12, 4))[0]
        action()

    def append(self):
        append(self, self.connection, self.user, self.random.choice(sorted(self.account.mailboxes)),
               self.random.choice(self.mails), self.some_flags())

    def some_flags(self):
        return self.random.sample(FLAGS, self.random.randint(0, 3))

    def known(self):
        """A mail of this account whose UID is known and that nothing else touches, or None; its mailbox is selected then."""
        with self.account.lock:
            keys = [key for key, mail in self.account.mails.items() if mail.uid is not None and not mail.optional]
        if not keys:
            return None
        mailbox, identity = self.random.choice(keys)
        if self.connection.selected != mailbox:
            self.note_validity(mailbox, self.connection.select(mailbox))
        return mailbox, identity, self.account.mails[mailbox, identity]

    def note_validity(self, mailbox, selected):
        with self.account.lock:
            self.account.uidvalidity.setdefault(mailbox, selected.code_of("UIDVALIDITY")[0])

    def flags(self):
        if found := self.known():
            mailbox, identity, mail = found
            flags = self.some_flags()
            operation = self.journal.begin("flags", self.user, mailbox=mailbox, id=identity, flags=flags)
            self.answer(operation, "UID STORE", str(mail.uid), f"FLAGS.SILENT ({' '.join(flags)})")

    def copy(self):
        self.transfer("copy", "UID COPY")

    def move(self):
        self.transfer("move", "UID MOVE")

    def transfer(self, kind, command):
        if found := self.known():
            mailbox, identity, mail = found
            targets = [name for name in self.account.mailboxes if (name, identity) not in self.account.mails]
            if targets:
                target = self.random.choice(sorted(targets))
                operation = self.journal.begin(kind, self.user, mailbox=mailbox, id=identity, to=target)
                self.answer(operation, command, str(mail.uid), quote(target), uid_code="COPYUID")

    def expunge(self):
        if found := self.known():
            mailbox, identity, mail = found
            flags = sorted({*mail.flags[0], "\\Deleted"})
            operation = self.journal.begin("flags", self.user, mailbox=mailbox, id=identity, flags=flags)
            self.answer(operation, "UID STORE", str(mail.uid), f"FLAGS.SILENT ({' '.join(flags)})")
            operation = self.journal.begin("expunge", self.user, mailbox=mailbox, id=identity)
            self.answer(operation, "UID EXPUNGE", str(mail.uid))

    def create(self):
        missing = [name for name in self.folders if name not in self.account.mailboxes]
        if missing:
            create(self, self.connection, self.user, missing[0])

    def read(self):
        """Looks at new mail in INBOX: from here on its UID is one that a client has seen."""
        if self.connection.selected != "INBOX":
            self.note_validity("INBOX", self.connection.select("INBOX"))
        look(self.connection, self.journal, self.user, self.read_up_to)

    def answer(self, operation, *command, uid_code=None):
        response = self.ask(operation, lambda: self.connection.command(*command))
        acknowledge(operation, response, uid_code)


def acknowledge(operation, response, uid_code=None):
    if not response.ok:
        operation.refuse(f"{response.status} [{response.code}] {response.text}")
        return
    code = response.code_of(uid_code) if uid_code else None
    operation.ack(*((int(code[-1]), code[0]) if code else ()))


def append(worker, imap, user, mailbox, content, flags=()):
    identity, message, sha = worker.journal.mail(content)
    operation = worker.journal.begin("append", user, mailbox=mailbox, id=identity, sha=sha, flags=list(flags))
    response = worker.ask(operation, lambda: imap.append(mailbox, message, " ".join(flags)))
    acknowledge(operation, response, "APPENDUID")
    return response


def create(worker, imap, user, mailbox):
    operation = worker.journal.begin("create", user, mailbox=mailbox)
    acknowledge(operation, worker.ask(operation, lambda: imap.command("CREATE", quote(mailbox))))


def look(imap, journal, user, read_up_to, mailbox="INBOX"):
    """Notes the UIDs of mails in the selected mailbox that this client has not seen yet."""
    first = read_up_to.get(mailbox, 0) + 1
    for mail in imap.fetch(f"{first}:*", "(UID BODY.PEEK[HEADER.FIELDS (X-JOURNAL)])"):
        if "UID" not in mail:
            continue  # flags that another process changed, told on the way
        uid = int(mail["UID"])
        header = next((value for item, value in mail.items() if item.startswith("BODY[")), b"")
        match = re.search(rb"X-Journal: (\d+)", header if isinstance(header, bytes) else (header or "").encode())
        if match and uid >= first:
            journal.saw(user, mailbox, match.group(1).decode(), uid)
            read_up_to[mailbox] = max(read_up_to.get(mailbox, 0), uid)
