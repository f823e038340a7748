"""Mail for demo and tests: 2,557 real messages out of Debian packages, fetched when first asked for and kept in the cache, and
hostile or large ones made here. Nothing of it is committed."""

import random
import re

from .debian import unpacked

PACKAGES = ("golang-github-gatherstars-com-jwz-dev", "golang-github-jhillyerd-enmime-dev", "libpython3.11-testsuite",
            "libmime-explode-perl")
PLACES = ("usr/share/gocode/src/github.com/gatherstars-com/jwz/test/testdata/ham/*.eml",
          "usr/share/gocode/src/github.com/jhillyerd/enmime/testdata/mail/*.raw",
          "usr/share/gocode/src/github.com/jhillyerd/enmime/testdata/parts/*.raw",
          "usr/share/gocode/src/github.com/jhillyerd/enmime/testdata/low-quality/*.raw",
          "usr/lib/python3.11/test/test_email/data/msg_*.txt",
          "usr/share/doc/libmime-explode-perl/examples/testmsgs/*.msg")


def real_mails():
    """[(name, content)], without the "From " line of a mailbox file, in a fixed order."""
    folder = unpacked("mail", PACKAGES)
    mails = []
    for place in PLACES:
        for path in sorted(folder.glob(place)):
            content = path.read_bytes()
            mails.append((path.name, re.sub(rb"\A>?From [^\n]*\n", b"", content)))
    return mails


def hostile_mails(large=8 << 20):
    """[(name, content)]: shapes that break mail software; `large` is the size of the largest."""
    rng = random.Random(7)
    words = [b"sealed", b"account", b"log", b"mark", b"chain", b"fence", b"replica", b"epoch"]

    def text(size):
        lines, length = [], 0
        while length < size:
            lines.append(b" ".join(rng.choice(words) for _ in range(10)))
            length += len(lines[-1]) + 2
        return b"\r\n".join(lines) + b"\r\n"

    nested = b"deep\r\n"
    for depth in range(120):
        nested = (b"Content-Type: multipart/mixed; boundary=\"b%d\"\r\n\r\n--b%d\r\n" % (depth, depth)) + nested + b"--b%d--\r\n" % depth
    return [
        ("large", b"Subject: large\r\nFrom: big@example.net\r\n\r\n" + text(large)),
        ("two-megabytes-in-one-line", b"Subject: one line\r\n\r\n" + b"x" * (2 << 20) + b"\r\n"),
        ("a-hundred-thousand-short-lines", b"Subject: lines\r\n\r\n" + b"a\r\n" * 100_000),
        ("twenty-thousand-recipients-in-one-header",
         b"Subject: many\r\nTo: " + b",\r\n ".join(b"person%d@example.net" % i for i in range(20_000)) + b"\r\n\r\nhello\r\n"),
        ("five-thousand-headers", b"".join(b"X-Header-%d: %d\r\n" % (i, i) for i in range(5000)) + b"\r\nbody\r\n"),
        ("nested-120-deep", b"Subject: nested\r\nMIME-Version: 1.0\r\n" + nested),
        ("no-header", b"\r\nonly a body\r\n"),
        ("no-body", b"Subject: no body\r\n"),
        ("no-end-of-line", b"Subject: unfinished\r\n\r\nno newline at the end"),
        ("only-dots", b"Subject: dots\r\n\r\n.\r\n..\r\n...\r\n.\r\n"),
        ("from-lines", b"Subject: From\r\n\r\nFrom someone Mon Jan  1 00:00:00 2024\r\n>From quoted\r\n"),
        ("eight-bit-everywhere", b"Subject: \xfc\xe4\xf6 \xff\xfe\r\nFrom: \x80\x81@\x82\r\n\r\n" + bytes(range(128, 256)) * 40 + b"\r\n"),
        ("broken-utf8-and-encoded-words", b"Subject: =?utf-8?q?=ff=fe?= =?x-none?b?!!!?=\r\n\r\n\xc3\x28\xf0\x28\x8c\r\n"),
        ("bare-carriage-returns", b"Subject: bare\r\n\r\na\rb\rc\r\n"),
        ("boundary-that-never-comes", b"Content-Type: multipart/mixed; boundary=never\r\n\r\nprologue\r\n--nev\r\nx\r\n"),
        ("header-without-colon", b"Subject: x\r\nthis is no header\r\nTo: y@example.net\r\n\r\nbody\r\n"),
        ("empty-lines-only", b"\r\n\r\n\r\n"),
    ]


MAILBOX_NAMES = ["Sent", "Archive", "Archive/2024", "Archive/2024/Q1", "Entw&APw-rfe", "Lists/dev.example.net", "with space",
                 "quote\"and\\slash", "100%", "&2D3cMg-", "a" * 60, "[brackets]", "star#hash"]
"""Mailbox names as IMAP sends them (modified UTF-7), the awkward ones included."""
