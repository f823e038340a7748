"""A Maildir++ as a site of years has it: UIDs with holes, flags in names, keywords, dates, POP3 UIDLs of an older server, folders,
subscriptions. Written by hand after the format's description, so that a conversion is judged by what is known, not by Dovecot."""

import os
import pathlib
import random
import time

KEYWORDS = ["$Label1", "Work", "NonJunk"]
FLAGS = {"D": "\\Draft", "F": "\\Flagged", "R": "\\Answered", "S": "\\Seen", "T": "\\Deleted"}
FOLDERS = ["INBOX", "Sent", "Archive", "Archive/2024", "Entw&APw-rfe"]
MODIFIED = 1_500_000_000


def as_sent(content):
    """What IMAP shows of a file: lines end with CRLF."""
    return content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def make(path, mails, seed=1):
    """Spreads `mails`, [(name, content)], over FOLDERS below `path`. {mailbox: {"uid_validity", "next_uid", "mails"}}, and mails is
    {uid: {"flags": sorted, "received": seconds, "body": as IMAP shows it, "uidl": or None}}."""
    rng = random.Random(seed)
    path = pathlib.Path(path)
    made = {}
    for number, folder in enumerate(FOLDERS):
        share = mails[number::len(FOLDERS)]
        place = path if folder == "INBOX" else path / ("." + folder.replace("/", "."))
        made[folder] = _folder(place, share, rng, 1_600_000_000 + number, uidls=folder == "INBOX")
    (path / "subscriptions").write_text("V\t2\n\nSent\nArchive\t2024\n")
    return made


def _folder(place, mails, rng, uid_validity, uidls):
    for sub in ("cur", "new", "tmp"):
        (place / sub).mkdir(parents=True)
    (place / "maildirfolder").touch()
    (place / "dovecot-keywords").write_text("".join(f"{n} {word}\n" for n, word in enumerate(KEYWORDS)))
    uid, lines, known = 0, [], {}
    for number, (_, content) in enumerate(mails):
        uid += rng.choice((1, 1, 1, 2, 7))
        received = MODIFIED + rng.randrange(10 ** 8)
        letters = sorted(rng.sample(sorted(FLAGS), rng.randrange(3)))
        words = sorted(rng.sample(range(len(KEYWORDS)), rng.randrange(2)))
        uidl = f"old-{rng.randrange(10 ** 9)}.{number}" if uidls and rng.random() < 0.7 else None
        base = f"{received}.M{number}P{uid}.mail.example.net,S={len(content)}"
        name = place / "cur" / (base + ":2," + "".join(letters) + "".join(chr(ord("a") + w) for w in words))
        name.write_bytes(content)
        os.utime(name, (received, received))
        lines.append(f"{uid}{f' P{uidl}' if uidl else ''} :{base}\n")
        known[uid] = {"flags": sorted([FLAGS[x] for x in letters] + [KEYWORDS[w] for w in words]), "received": received,
                      "body": as_sent(content), "uidl": uidl}
    uid += 5
    (place / "dovecot-uidlist").write_text(f"3 V{uid_validity} N{uid} G{rng.randrange(16 ** 32):032x}\n" + "".join(lines))
    past = time.time() - 60  # a directory that changed a moment ago is read again and again
    for sub in ("cur", "new"):
        os.utime(place / sub, (past, past))
    return {"uid_validity": uid_validity, "next_uid": uid, "mails": known}
