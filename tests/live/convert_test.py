#!/usr/bin/env python3
"""A maildir of years of real mail is converted as docs/operating/convert.md says, gets a replica, and is promoted: nothing changes."""

import datetime
import hashlib
import os
import pathlib
import pwd
import re
import subprocess
import unittest

from support import corpus, maildir, replica
from support.compare import assert_equal_stores, differences, read_account
from support.live import SiteTest
from support.store import MAIL_USER, TREE

MAILS = 600
PAGE = TREE / "docs" / "operating" / "convert.md"


def commands_of_page():
    """The doveadm commands of the page, in order, as words; USER stands for the account."""
    return [line.split()[1:] for line in re.findall(r"^ +(doveadm .*)$", PAGE.read_text(), re.M)]


class Convert(SiteTest):
    site_options = {"accounts": 1}

    def setUp(self):
        super().setUp()
        self.one, self.two = self.site.stores
        self.user = self.users[0]
        self.maildir = self.one.folder / "mail" / self.user / "Maildir"
        mails = corpus.real_mails()
        self.known = maildir.make(self.maildir, mails[::len(mails) // MAILS] + corpus.hostile_mails(large=1 << 20))
        self.own()

    def own(self):
        mail = pwd.getpwnam(MAIL_USER)
        subprocess.run(["chown", "-R", f"{mail.pw_uid}:{mail.pw_gid}", str(self.maildir.parent)], check=True)

    def expected(self):
        return {name: {"uidvalidity": box["uid_validity"], "uidnext": box["next_uid"], "mails": {
            uid: {"flags": mail["flags"], "received": mail["received"], "body": hashlib.sha256(mail["body"]).hexdigest(),
                  "size": len(mail["body"])} | ({"uidl": mail["uidl"] or f"{uid:08x}{box['uid_validity']:08x}"} if name == "INBOX" else {})
            for uid, mail in box["mails"].items()}} for name, box in self.known.items()}

    def shown(self, store):
        """The account as IMAP and POP3 show it, in the form of `expected`."""
        account = read_account(store, self.user)
        self.assertEqual(["Archive/2024", "Sent"], account["subscriptions"])
        shown = {}
        for name, box in account["mailboxes"].items():
            mails = {uid: {"flags": mail["flags"], "size": mail["size"], "body": mail["body"],
                           "received": int(datetime.datetime.strptime(mail["internaldate"].strip(), "%d-%b-%Y %H:%M:%S %z").timestamp())}
                     for uid, mail in box["mails"].items()}
            shown[name] = {"uidvalidity": int(box["uidvalidity"]), "uidnext": int(box["uidnext"]), "mails": mails}
        for uid, uidl in zip(sorted(shown["INBOX"]["mails"]), account["uidls"], strict=True):
            shown["INBOX"]["mails"][uid]["uidl"] = uidl
        return shown

    def assert_shown(self, store):
        found = differences(self.expected(), self.shown(store))
        self.assertFalse(found, f"{len(found)} differences, the first: {found[:5]}")

    def users_go_on(self):
        """Between the passes: a mail comes, one is deleted, one is answered."""
        inbox = self.known["INBOX"]
        gone, answered = sorted(inbox["mails"])[3:5]
        names = {path.stat().st_mtime: path for path in (self.maildir / "cur").iterdir()}
        names[inbox["mails"].pop(gone)["received"]].unlink()
        path = names[inbox["mails"][answered]["received"]]
        base, letters = path.name.split(":2,")
        path.rename(path.with_name(f"{base}:2,{''.join(sorted({*letters, 'R'}))}"))
        inbox["mails"][answered]["flags"] = sorted({*inbox["mails"][answered]["flags"], "\\Answered"})
        content, received = b"Subject: late\n\nbetween the passes\n", 1_700_000_000
        new = self.maildir / "new" / f"{received}.M1P1.mail.example.net"
        new.write_bytes(content)
        os.utime(new, (received, received))
        inbox["mails"][inbox["next_uid"]] = {"flags": [], "received": received, "body": maildir.as_sent(content), "uidl": None}
        inbox["next_uid"] += 1
        self.own()

    def run_page(self, command):
        self.one.doveadm(*(self.user if word == "USER" else word for word in command))

    def test_a_maildir_becomes_a_replicated_account(self):
        first, last, *_ = commands_of_page()
        self.run_page(first)
        self.users_go_on()
        self.run_page(last)
        self.assert_shown(self.one)
        replica.replicate(self.one, self.two, [self.user])
        assert_equal_stores(self.site, [self.user])
        self.assert_shown(self.two)
        with self.one.imap(self.user) as imap:
            imap.select("INBOX")
            imap.expect("UID MOVE 1:* Sent")
        assert_equal_stores(self.site, [self.user])
        replica.promote(self.two, [self.user])
        self.assertTrue(self.two.lmtp().deliver(self.user, b"Subject: new\r\n\r\nnew\r\n")[self.user].startswith("250"))
        assert_equal_stores(self.site, [self.user])


if __name__ == "__main__":
    unittest.main(verbosity=2)
