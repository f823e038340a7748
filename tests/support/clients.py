"""Mail clients for tests: IMAP with parsed responses, LMTP, POP3. Small, blocking, exact about bytes.

An answer that is NO, -ERR or 4xx is a value, not an exception; a broken connection is an OSError.
"""

import re
import socket


class Refused(RuntimeError):
    """A command that had to succeed was answered NO, BAD, -ERR or 4xx/5xx."""


def greets(address, port):
    try:
        with socket.create_connection((address, port), 2) as connection:
            connection.settimeout(2)
            return bool(connection.recv(64))
    except OSError:
        return False


class _Lines:
    """A connection read by lines and by counted bytes."""

    def __init__(self, address, port, timeout):
        self.socket = socket.create_connection((address, port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def line(self):
        line = self.file.readline()
        if not line.endswith(b"\n"):
            raise ConnectionResetError("the server closed the connection")
        return line.rstrip(b"\r\n")

    def bytes(self, count):
        data = self.file.read(count)
        if len(data) != count:
            raise ConnectionResetError("the server closed the connection in a literal")
        return data

    def send(self, data):
        self.socket.sendall(data)

    def close(self):
        try:
            self.file.close()
        finally:
            self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Response:
    """The tagged answer: status (OK, NO, BAD), code ("APPENDUID 1 2"), text; untagged: parsed lines, in their order."""

    def __init__(self, status, code, text, untagged):
        self.status, self.code, self.text, self.untagged = status, code, text, untagged

    @property
    def ok(self):
        return self.status == "OK"

    def named(self, name):
        """Untagged lines `* NAME ...` or `* N NAME ...`, without their name."""
        name = name.upper()
        for line in self.untagged:
            if line and isinstance(line[0], str) and line[0].upper() == name:
                yield line[1:]
            elif len(line) > 1 and isinstance(line[1], str) and line[1].upper() == name:
                yield [line[0], *line[2:]]

    def code_of(self, name):
        """The words behind NAME of the first response code [NAME ...], tagged or untagged; None if there is none."""
        for code in [self.code] + [line[1] for line in self.untagged if len(line) > 2 and line[0] == "OK"]:
            words = (code or "").split()
            if words and words[0].upper() == name:
                return words[1:]
        return None


_TOKEN = re.compile(rb' *(?:([()])|"((?:[^"\\]|\\.)*)"|\{(\d+)\}$|([^ ()"\[]*\[[^\]]*\][^ ()]*|[^ ()"]+))')


class _Parser:
    def __init__(self, connection):
        self.connection = connection

    def values(self, line):
        """A line and the literals in it as nested lists; atoms are str, quoted strings str, literals bytes, NIL None."""
        stack = [[]]
        position = 0
        while position < len(line):
            match = _TOKEN.match(line, position)
            if not match:
                break
            position = match.end()
            paren, quoted, literal, atom = match.groups()
            if paren == b"(":
                stack.append([])
            elif paren == b")":
                done = stack.pop()
                stack[-1].append(done)
            elif quoted is not None:
                stack[-1].append(re.sub(rb"\\(.)", rb"\1", quoted).decode("utf-8", "surrogateescape"))
            elif literal is not None:
                stack[-1].append(self.connection.bytes(int(literal)))
                line, position = self.connection.line(), 0
            else:
                stack[-1].append(None if atom.upper() == b"NIL" else atom.decode("utf-8", "surrogateescape"))
        return stack[0]


def quote(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class Imap(_Lines):
    """imap("A SELECT", ...): arguments are sent as they are; bytes become literals (LITERAL+), str atoms or quoted text."""

    def __init__(self, address, port, user=None, password=None, timeout=120):
        super().__init__(address, port, timeout)
        self.tag_number = 0
        self.selected = None
        self.greeting = self.line()
        if user is not None:
            self.expect("LOGIN", quote(user), quote(password))

    def begin(self, *parts):
        """Sends a command and does not wait; returns its tag."""
        self.tag_number += 1
        tag = f"t{self.tag_number}"
        data = [tag.encode()]
        for part in parts:
            data.append(b" ")
            data.append(b"{%d+}\r\n%s" % (len(part), part) if isinstance(part, bytes) else part.encode("utf-8"))
        self.send(b"".join(data) + b"\r\n")
        return tag

    def finish(self, tag):
        untagged, parser = [], _Parser(self)
        while True:
            line = self.line()
            if line.startswith(tag.encode() + b" "):
                status, code, text = self._status(line[len(tag) + 1:])
                return Response(status, code, text, untagged)
            if line.startswith(b"* "):
                word = line[2:].split(b" ", 1)[0].upper()
                if word in (b"OK", b"NO", b"BAD", b"BYE", b"PREAUTH"):
                    untagged.append(list(self._status(line[2:])))
                else:
                    untagged.append(parser.values(line[2:]))
            elif line.startswith(b"+"):
                untagged.append(["+", line[1:].strip().decode("utf-8", "replace")])

    @staticmethod
    def _status(line):
        match = re.match(r"(\w+) ?(?:\[([^\]]*)\])? ?(.*)", line.decode("utf-8", "replace"))
        return match.group(1).upper(), match.group(2), match.group(3)

    def command(self, *parts):
        return self.finish(self.begin(*parts))

    def expect(self, *parts):
        response = self.command(*parts)
        if not response.ok:
            shown = " ".join(part if isinstance(part, str) else f"<{len(part)} bytes>" for part in parts[:6])
            raise Refused(f"{shown}: {response.status} [{response.code}] {response.text}")
        return response

    # --- the commands that tests use most ---

    def select(self, mailbox, readonly=False):
        response = self.expect("EXAMINE" if readonly else "SELECT", quote(mailbox))
        self.selected = mailbox
        return response

    def append(self, mailbox, message, flags="", date=None):
        parts = ["APPEND", quote(mailbox)] + ([f"({flags})"] if flags else []) + ([f'"{date}"'] if date else [])
        return self.command(*parts, message)

    def fetch(self, sequence, items, uid=True):
        """[{item: value}] of each mail, with its sequence number as "seq"."""
        response = self.expect("UID FETCH" if uid else "FETCH", sequence, items)
        mails = []
        for number, values in response.named("FETCH"):
            mail = {values[i].upper(): values[i + 1] for i in range(0, len(values), 2)}
            mail["seq"] = int(number)
            mails.append(mail)
        return mails

    def search(self, *criteria):
        response = self.expect("UID SEARCH", *criteria)
        return [int(uid) for line in response.named("SEARCH") for uid in line if uid.isdigit()]

    def logout(self):
        try:
            self.command("LOGOUT")
        except OSError:
            pass
        self.close()


class Lmtp(_Lines):
    def __init__(self, address, port, timeout=120, name="test.example.com"):
        super().__init__(address, port, timeout)
        self.reply()
        self.ask(f"LHLO {name}", b"250")

    def reply(self):
        lines = [self.line()]
        while lines[-1][3:4] == b"-":
            lines.append(self.line())
        return b"\n".join(lines).decode("utf-8", "replace")

    def ask(self, command, expected=None):
        self.send(command.encode("utf-8") + b"\r\n")
        answer = self.reply()
        if expected is not None and not answer.startswith(expected.decode()):
            raise Refused(f"{command}: {answer}")
        return answer

    def begin_data(self, recipients, message, sender="sender@example.net"):
        """Sends everything up to the final dot, which is what a delivery waits for. Returns the accepted recipients."""
        self.ask(f"MAIL FROM:<{sender}>", b"250")
        accepted = [user for user in recipients if self.ask(f"RCPT TO:<{user}>").startswith("250")]
        if accepted:
            self.ask("DATA", b"354")
            lines = re.sub(rb"(?<!\r)\n", b"\r\n", message)
            self.send(re.sub(rb"(?m)^\.", b"..", lines) + (b"" if lines.endswith(b"\r\n") else b"\r\n"))
        else:
            self.ask("RSET", b"250")
        return accepted

    def deliver(self, recipients, message, sender="sender@example.net"):
        """{recipient: final reply} of those that RCPT accepted."""
        recipients = [recipients] if isinstance(recipients, str) else recipients
        accepted = self.begin_data(recipients, message, sender)
        if not accepted:
            return {}
        self.send(b".\r\n")
        return {user: self.reply() for user in accepted}

    def close(self):
        try:
            self.send(b"QUIT\r\n")
        except OSError:
            pass
        super().close()


class Pop3(_Lines):
    def __init__(self, address, port, user, password, timeout=120):
        super().__init__(address, port, timeout)
        self.line()
        self.expect(f"USER {user}")
        self.expect(f"PASS {password}")

    def command(self, text):
        self.send(text.encode("utf-8") + b"\r\n")
        return self.line().decode("utf-8", "replace")

    def expect(self, text):
        answer = self.command(text)
        if not answer.startswith("+OK"):
            raise Refused(f"{text.split()[0]}: {answer}")
        return answer

    def multiline(self, text):
        self.expect(text)
        lines = []
        while (line := self.line()) != b".":
            lines.append(line[1:] if line.startswith(b".") else line)
        return lines

    def uidls(self):
        return [line.decode("utf-8", "replace").split(" ", 1)[1] for line in self.multiline("UIDL")]

    def retrieve(self, number):
        return b"".join(line + b"\r\n" for line in self.multiline(f"RETR {number}"))

    def quit(self):
        answer = self.command("QUIT")
        self.close()
        return answer
