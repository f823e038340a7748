#!/usr/bin/env python3
"""What the doveadm replica commands do, on any of three stores: formats and filters, several destinations with priorities, the one
that is promoted without being named, and an account whose last destination is removed."""

import json
import unittest

from live.command_site import BAD_DATA, MAIL, CommandTest, delivered
from support import replica
from support.compare import compare_stores
from support.waiting import wait_until

FORMATS = ("table", "tab", "json", "flow", "pager")


def destinations(store, user):
    """{destination: priority} as the store sees it, once it shows any."""
    return {row["replicaServer"]: int(row["priority"]) for row in replica.status(store) if row["account"] == user and row["replicaServer"]}


def source(store, user):
    return next((row["mailHost"] for row in replica.status(store) if row["account"] == user), None)


class Destinations(CommandTest):
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
        wait_until(lambda: replica.complete(one, two, [user, other]), 60, "the source serves")  # else: "try again"
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

    def test_the_source_tells_how_far_a_destination_is_behind(self):
        one, two, user = self.one, self.two, self.users[0]
        replica.replicate(one, two, [user])

        def lag():
            row = next(row for row in replica.status(one) if row["account"] == user)
            return row["lag_changes"], row["lag_seconds"]

        wait_until(lambda: lag() == ("0", "0"), 30, "level")
        self.site.freeze(two.name)
        for _ in range(3):
            self.assertTrue(delivered(one, user))
        wait_until(lambda: min(map(int, lag())) >= 3, 30, "three changes and three seconds behind")
        self.site.thaw(two.name)
        wait_until(lambda: lag() == ("0", "0"), 30, "level again")

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

if __name__ == "__main__":
    unittest.main()
