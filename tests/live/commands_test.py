#!/usr/bin/env python3
"""The doveadm replica commands on three stores: what they take, what they print in each of Dovecot's formats, and what they refuse:
with a sentence, a failing exit, and nothing done for any account."""

import grp
import json
import os
import unittest

from support import replica
from support.compare import compare_stores
from support.live import SiteTest
from support.waiting import wait_until

MAIL = b"Subject: one\r\n\r\nbody\r\n"
FORMATS = ("table", "tab", "json", "flow", "pager")
USAGE, BAD_DATA = 64, 65  # sysexits(3)


def delivered(store, user):
    return store.lmtp().deliver(user, MAIL)[user].startswith("250")


def destinations(store, user):
    """{destination: priority} as the store sees it, once it shows any."""
    return {row["replicaServer"]: int(row["priority"]) for row in replica.status(store) if row["account"] == user and row["replicaServer"]}


def source(store, user):
    return next((row["mailHost"] for row in replica.status(store) if row["account"] == user), None)


class Commands(SiteTest):
    site_options = {"stores": 3, "accounts": 12, "settings": {"replica_heartbeat": "500ms"}}

    def setUp(self):
        super().setUp()
        self.one, self.two, self.three = self.site.stores
        wait_until(lambda: all(len(self.alive(store)) == 3 for store in self.site.stores), 30, "every store knows all three")

    def alive(self, store):
        rows = json.loads(store.doveadm("-f", "json", "replica", "stores").stdout or "[]")
        return {row["store"] for row in rows if row["alive"] == "yes"}

    def picture(self):
        """What no refused command may change: destinations and operations."""
        rows = [[row[name] for name in ("account", "mailHost", "epoch", "state", "replicaServer", "priority")] for row in replica.status(self.one)]
        under_way = [row["operation"] for row in json.loads(self.one.doveadm("-f", "json", "replica", "operations").stdout or "[]")
                     if row["phase"] in ("checking", "running")]
        return rows, under_way

    def refused(self, exit_code, sentences, *words, store=None):
        with self.subTest(words=words):
            before = self.picture()
            done = (store or self.one).doveadm("replica", *words, check=False)
            self.assertEqual(exit_code, done.returncode, done.stdout + done.stderr)
            self.assertEqual("", done.stdout)
            for sentence in [sentences] if isinstance(sentences, str) else sentences:
                self.assertIn(sentence, done.stderr)
            self.assertEqual(before, self.picture())

    def file(self, content):
        path = self.folder / "accounts"
        path.write_bytes(content)
        return path

    def add_alias(self, name, user):
        with open(self.site.folder / "users", "a", encoding="utf-8") as users:
            users.write(f"{name}:{{PLAIN}}x::::::userdb_user={user}\n")

    def test_bad_input_is_refused_with_a_sentence_and_nothing_is_done(self):
        first, second, third = self.users[:3]
        two, three = self.two.name, self.three.name
        replica.replicate(self.one, self.two, [first])
        self.assertTrue(delivered(self.one, second))

        # the words
        self.refused(USAGE, "write: setAccountDestination", "setAccountDestination")
        self.refused(USAGE, "write: setAccountDestination", "setAccountDestination", two)
        self.refused(USAGE, "write either `accounts", "setAccountDestination", two, 10)
        self.refused(USAGE, "`accounts` needs a value", "setAccountDestination", two, 10, "accounts")
        self.refused(USAGE, "`surplus` is not expected", "setAccountDestination", two, 10, "accounts", second, "surplus")
        self.refused(USAGE, "`surplus` is not expected", "setAccountDestination", two, 10, "surplus", "accounts", second)
        self.refused(USAGE, "`accounts` is given twice", "setAccountDestination", two, 10, "accounts", second, "accounts", third)
        self.refused(USAGE, "write either `accounts", "setAccountDestination", two, 10, "accounts", second, "input_file", "/dev/null")
        self.refused(USAGE, "write: removeAccountDestination", "removeAccountDestination")
        self.refused(USAGE, "write `accounts", "promoteAccounts")
        self.refused(USAGE, "not both", "promoteAccounts", "accounts", first, "source_mail_host", self.one.name)
        self.refused(USAGE, "`force` is `yes` or `no`", "promoteAccounts", "accounts", first, "force", "perhaps")
        self.refused(USAGE, "`surplus` is not expected", "getAccountStatus", "surplus")
        self.refused(USAGE, "`replicaStatus` is `available` or `unavailable`", "getAccountStatus", "replicaStatus", "good")
        self.refused(USAGE, "takes no argument", "operations", "surplus")
        self.refused(USAGE, "takes no argument", "stores", "surplus")
        for priority in ("first", "-1", "1.5", "", "99999999999"):
            self.refused(USAGE, "is not a whole number", "setAccountDestination", two, priority, "accounts", second)

        # the lists
        self.refused(USAGE, "empty name", "setAccountDestination", two, 10, "accounts", f"{second},,{third}")
        self.refused(USAGE, f"names {second} twice", "setAccountDestination", two, 10, "accounts", f"{second},{second}")
        self.refused(USAGE, "No such file", "setAccountDestination", two, 10, "input_file", self.folder / "missing")
        self.refused(USAGE, "names no account", "setAccountDestination", two, 10, "input_file", self.file(b"# nothing\n\n"))
        self.refused(USAGE, "is a binary file", "setAccountDestination", two, 10, "input_file", self.file(second.encode() + b"\n\0\1\2"))
        self.refused(USAGE, "is not a regular file", "setAccountDestination", two, 10, "input_file", self.folder)
        self.refused(USAGE, f"names {third} twice", "promoteAccounts", "input_file", self.file(f"{third}\n{third}\n".encode()))
        for name in ("john*", "u000?@example.com", "^u.*", "u[0-9]@example.com"):
            self.refused(BAD_DATA, [name, "wildcards and regular expressions are not taken"], "setAccountDestination", two, 10, "accounts", name)
            self.refused(BAD_DATA, [name, "wildcards and regular expressions are not taken"], "removeAccountDestination", two, "accounts", name)
            self.refused(BAD_DATA, [name, "wildcards and regular expressions are not taken"], "promoteAccounts", "accounts", name)
        self.refused(BAD_DATA, "no control characters", "setAccountDestination", two, 10, "accounts", "bell\a@example.com")

        # accounts
        self.add_alias("alias@example.com", second)
        self.refused(BAD_DATA, ["alias@example.com is an alias or a list", second], "setAccountDestination", two, 10, "accounts", "alias@example.com")
        self.refused(BAD_DATA, ["nobody@example.com", "does not know it"], "setAccountDestination", two, 10, "accounts", "nobody@example.com")
        self.refused(BAD_DATA, ["nobody@example.com", "does not know it", "nothing was done"],
                     "setAccountDestination", two, 10, "accounts", f"{second},nobody@example.com,{third}")
        self.refused(BAD_DATA, [f"{second}: it has no replica"], "promoteAccounts", "accounts", f"{first},{second}")
        self.refused(BAD_DATA, [f"{second}: it has no replica"], "removeAccountDestination", two, "accounts", f"{first},{second}")
        self.refused(BAD_DATA, "it has no replica", "promoteAccounts", "accounts", "nobody@example.com")
        self.refused(BAD_DATA, [f"{second}: {self.one.name} holds 1 mail"], "setAccountDestination", self.one.name, 10, "accounts", second, store=self.three)

        # stores
        self.refused(BAD_DATA, "store nowhere.example.com is unknown", "setAccountDestination", "nowhere.example.com", 10, "accounts", second)
        self.refused(BAD_DATA, "store nowhere.example.com is unknown", "promoteAccounts", "accounts", first, "target", "nowhere.example.com")
        self.refused(BAD_DATA, "is the source of no account", "promoteAccounts", "source_mail_host", "nowhere.example.com")
        self.refused(BAD_DATA, "nowhere.example.com is not a destination", "removeAccountDestination", "nowhere.example.com", "accounts", first)
        self.refused(BAD_DATA, "cannot be its destination too", "setAccountDestination", self.one.name, 10, "accounts", second)
        self.refused(BAD_DATA, "cannot be its destination too", "setAccountDestination", self.one.name, 10, "accounts", first, store=self.two)
        self.refused(BAD_DATA, f"priority 10 is taken by {two}", "setAccountDestination", three, 10, "accounts", first)
        self.refused(BAD_DATA, f"{three} is not a destination of it", "promoteAccounts", "accounts", first, "target", three)
        self.refused(BAD_DATA, "is its source already", "promoteAccounts", "accounts", first, "target", self.one.name)
        self.site.freeze(three)
        self.addCleanup(self.site.thaw, three)
        wait_until(lambda: three not in self.alive(self.one), 30, f"{three} is silent")
        self.refused(BAD_DATA, f"store {three} is silent", "setAccountDestination", three, 20, "accounts", first)

    def test_a_store_with_an_account_in_other_rights_or_another_blob_store_is_refused(self):
        user = self.users[0]
        known = self.site.folder / "users"
        users = self.two.folder / "users"
        gid = str(grp.getgrnam("mail").gr_gid)
        lines = [line.split(":") for line in known.read_text().splitlines()]
        users.write_text("".join(":".join(line[:3] + [gid if line[0] == user else line[3]] + line[4:]) + "\n" for line in lines))
        os.chown(users, known.stat().st_uid, known.stat().st_gid)
        text = self.two.config.read_text()
        self.two.config.write_text(text.replace(str(known), str(users)))
        self.two.reload()
        self.refused(BAD_DATA, [user, "gid differs"], "setAccountDestination", self.two.name, 10, "accounts", f"{self.users[1]},{user}")
        blobs = self.three.folder / "blobs"
        blobs.mkdir()
        os.chown(blobs, (self.site.folder / "blobs").stat().st_uid, -1)
        text = self.three.config.read_text()
        self.three.config.write_text(text.replace(f"prefix={self.site.folder}/blobs/", f"prefix={blobs}/"))
        self.three.reload()
        self.refused(BAD_DATA, [user, "both must use the same blob store"], "setAccountDestination", self.three.name, 10, "accounts", user)

    def test_every_command_prints_in_every_format_and_the_filters_choose(self):
        one, two, three = self.one, self.two, self.three
        for number, form in enumerate(FORMATS):
            done = one.doveadm("-f", form, "replica", "setAccountDestination", two.name, 10, "accounts", self.users[number])
            self.assertIn("the checks are good", done.stdout)
        users = self.users[:5]
        wait_until(lambda: replica.complete(one, two, users), 60, "complete")
        columns = ["account", "mailHost", "epoch", "state", "replicaServer", "priority", "available", "reason", "phase", "position",
                   "lag_changes", "lag_seconds", "mails_done", "mails_total", "wanted"]
        for verb, key in (("getAccountStatus", "account"), ("operations", "operation"), ("stores", "store")):
            rows = json.loads(one.doveadm("-f", "json", "replica", verb).stdout)
            self.assertEqual({"getAccountStatus": 5, "operations": 5, "stores": 3}[verb], len(rows))
            names = list(rows[0])
            self.assertEqual(columns if verb == "getAccountStatus" else names, names)
            tab = one.doveadm("-f", "tab", "replica", verb).stdout.splitlines()
            self.assertEqual(names, tab[0].split("\t"))
            self.assertEqual([row[key] for row in rows], [line.split("\t")[names.index(key)] for line in tab[1:]])
            flow = one.doveadm("-f", "flow", "replica", verb).stdout.splitlines()
            self.assertEqual(len(rows), len(flow))
            pager = one.doveadm("-f", "pager", "replica", verb).stdout
            table = one.doveadm("-f", "table", "replica", verb).stdout
            for row, line in zip(rows, flow):
                self.assertIn(f"{key}={row[key]}", line)
                self.assertIn(f"{key}: {row[key]}", pager)
                self.assertIn(row[key], table)
        for number, form in enumerate(FORMATS):
            done = one.doveadm("-f", form, "replica", "promoteAccounts", "accounts", self.users[number])
            self.assertIn(two.name, done.stdout)
        self.assertEqual(5, len(json.loads(one.doveadm("-f", "json", "replica", "getAccountStatus", "mailHost", two.name).stdout)))
        for number, form in enumerate(FORMATS):
            wait_until(lambda: source(one, self.users[number]) == two.name, 30, "promoted")
            done = one.doveadm("-f", form, "replica", "removeAccountDestination", one.name, "accounts", self.users[number])
            self.assertIn("is no destination of 1 account any more", done.stdout)
        replica.set_destination(two, one, users[:2])
        replica.set_destination(three, one, [self.users[6]])

        def chosen(*words):
            rows = json.loads(one.doveadm("-f", "json", "replica", "getAccountStatus", *words).stdout or "[]")
            return {row["account"] for row in rows if row["state"] != "removed"}

        wait_until(lambda: replica.complete(one, one, [*users[:2], self.users[6]]), 60, "complete at store1")
        self.assertEqual({*users[:2]}, chosen("mailHost", two.name))
        self.assertEqual({self.users[6]}, chosen("mailHost", three.name))
        self.assertEqual({*users[:2], self.users[6]}, chosen("replicaServer", one.name, "replicaStatus", "available"))
        self.assertEqual(set(), chosen("replicaServer", three.name))
        self.assertEqual({self.users[6]}, chosen("mailHost", three.name, "replicaServer", one.name))
        self.assertEqual(set(), chosen("replicaServer", one.name, "replicaStatus", "unavailable"))

    def test_the_lowest_living_complete_destination_is_promoted_and_commands_run_on_any_store(self):
        one, two, three = self.one, self.two, self.three
        user, other, fresh = self.users[:3]
        for name in (user, other):
            self.assertTrue(delivered(one, name))
        for name in (user, other):
            replica.set_destination(one, two, [name], 20)
        path = self.file(f"# two\n{user}\r\n\n  {other} \n".encode())
        two.doveadm("replica", "setAccountDestination", three.name, 5, "input_file", path)  # neither source nor destination asks
        wait_until(lambda: replica.complete(two, two, [user, other]) and replica.complete(two, three, [user, other]), 60, "complete")
        self.assertEqual({two.name: 20, three.name: 5}, destinations(three, user))
        self.assertEqual(one.name, source(three, user))
        replica.set_destination(three, two, [fresh])  # no record yet: the store where it is run becomes its source
        wait_until(lambda: replica.complete(one, two, [fresh]), 60, "complete")
        self.assertEqual(three.name, source(one, fresh))

        done = one.doveadm("replica", "promoteAccounts", "accounts", user)
        self.assertIn(three.name, done.stdout)
        wait_until(lambda: source(two, user) == three.name and replica.complete(two, one, [user]), 30, "promoted to store3")
        self.assertTrue(delivered(three, user))
        wait_until(lambda: not compare_stores(self.site, [user], "store3", "store2"), 30, "equal")
        wait_until(lambda: not compare_stores(self.site, [user], "store3", "store1"), 30, "equal")

        self.site.kill(three.name)
        wait_until(lambda: three.name not in self.alive(one), 30, "store3 is silent")
        two.doveadm("replica", "promoteAccounts", "accounts", other)  # the first in order is dead: the next
        wait_until(lambda: source(one, other) == two.name, 30, "promoted to store2")
        self.assertTrue(delivered(two, other))
        self.refused(BAD_DATA, ["no destination is alive and complete", f"{one.name} is", f"{three.name} is silent"],
                     *self.frozen_promotion(other))

    def frozen_promotion(self, user):
        """With store1 silent too, seen from store2 itself, nothing is left to promote to."""
        self.site.kill(self.one.name)
        self.one, dead = self.two, self.one  # what looks at the picture
        wait_until(lambda: dead.name not in self.alive(self.two), 30, "store1 is silent")
        self.addCleanup(setattr, self, "one", dead)
        return "promoteAccounts", "accounts", user

    def test_an_account_whose_last_destination_is_removed_pays_nothing_and_stays_usable(self):
        one, two, three = self.one, self.two, self.three
        user = self.users[0]
        replica.set_destination(one, two, [user], 10)
        replica.set_destination(one, three, [user], 20)
        wait_until(lambda: replica.complete(one, two, [user]) and replica.complete(one, three, [user]), 60, "complete")
        self.assertTrue(delivered(one, user))
        two.doveadm("replica", "removeAccountDestination", two.name, "accounts", user)
        self.assertEqual({three.name: 20}, destinations(one, user))
        wait_until(lambda: not delivered(two, user), 20, "a removed destination refuses")
        with two.imap(user) as imap:
            imap.select("INBOX")
            answer = imap.append("INBOX", MAIL)
            self.assertEqual(("NO", "UNAVAILABLE"), (answer.status, answer.code))
            self.assertFalse(imap.command("UID STORE 1:* +FLAGS (\\Seen)").ok and imap.search("SEEN"))
        self.assertTrue(delivered(one, user))
        one.doveadm("replica", "removeAccountDestination", three.name, "accounts", user)
        state = one.folder / "mail" / user / "mail" / ".replica" / "state"
        wait_until(lambda: not state.exists(), 20, "the account has no role")
        self.site.kill("broker1")
        for _ in range(3):
            self.assertTrue(delivered(one, user))
        with one.imap(user) as imap:
            imap.select("INBOX")
            imap.expect("UID STORE 1 +FLAGS (\\Seen)")
            imap.expect("CREATE later")

    def test_brokers_that_do_not_answer_are_named_and_nothing_is_done(self):
        user = self.users[0]
        replica.replicate(self.one, self.two, [user])
        self.site.kill("broker1")
        wait_until(lambda: not self.alive(self.one) - {self.one.name}, 30, "no heartbeat comes any more")
        for words in (("setAccountDestination", self.two.name, 10, "accounts", self.users[1]),
                      ("removeAccountDestination", self.two.name, "accounts", user),
                      ("promoteAccounts", "accounts", user)):
            self.refused(BAD_DATA, "brokers", *words)
        self.assertEqual("no", replica.status(self.one)[0]["available"])
        self.one.reload()  # the next agent cannot read the control log
        wait_until(lambda: self.one.doveadm("replica", "getAccountStatus", check=False).returncode == BAD_DATA, 30, "the new agent answers")
        self.assertIn("brokers", self.one.doveadm("replica", "getAccountStatus", check=False).stderr)
        text = self.one.config.read_text()
        self.one.config.write_text(text.replace("replica_brokers = ", "#replica_brokers = "))
        self.one.reload()
        wait_until(lambda: "replica_brokers is not set" in self.one.doveadm("replica", "getAccountStatus", check=False).stderr, 30,
                   "an agent without brokers says so")


if __name__ == "__main__":
    unittest.main()
