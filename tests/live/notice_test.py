#!/usr/bin/env python3
"""replica_admin is told by mail when an initialisation and when a promotion is complete, through Dovecot's submission_host; where no
mail can be sent, the log says so, and says what the mail would have said."""

import email
import email.policy
import socket
import threading
import unittest

from support import replica
from support.live import SiteTest
from support.waiting import wait_until

ADMIN = "admin@example.net"


class Sink(threading.Thread):
    """An SMTP server that takes every mail, or refuses every recipient."""

    def __init__(self, refuse=False):
        super().__init__(daemon=True)
        self.refuse, self.mails, self.asked = refuse, [], 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.start()

    def run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb") as stream:
                try:
                    self.serve(stream)
                except OSError:
                    pass

    def serve(self, stream):
        def say(line):
            stream.write(line.encode() + b"\r\n")
            stream.flush()

        recipients = []
        say("220 sink")
        for line in stream:
            verb = line.split()[0].upper() if line.split() else b""
            if verb == b"QUIT":
                return say("221 bye")
            if verb == b"RCPT":
                self.asked += 1
                if self.refuse:
                    say("550 no such person")
                    continue
                recipients.append(line.split(b":", 1)[1].strip().decode())
            if verb == b"DATA":
                say("354 go on")
                data = []
                while (part := stream.readline()) != b".\r\n":
                    data.append(part)
                self.mails.append((recipients, b"".join(data)))
                recipients = []
            say("250 ok")


class Notice(SiteTest):
    def up(self, extra):
        self.site_options = {"accounts": 2, "settings": {"replica_admin": ADMIN}, "extra": extra}
        SiteTest.setUp(self)

    def setUp(self):
        """Each test makes its own site."""

    def logged(self, sentence):
        return [line for store in self.site.stores for line in store.log.read_text().splitlines() if sentence in line]

    def initialise_and_promote(self):
        one, two = self.site.stores
        replica.replicate(one, two, self.users)
        replica.promote(two, self.users)

    def test_initialisation_and_promotion_are_told_once_each(self):
        sink = Sink()
        self.addCleanup(sink.listener.close)
        self.up(f"submission_host = 127.0.0.1:{sink.port}\n")
        one, two = self.site.stores
        self.initialise_and_promote()
        wait_until(lambda: len(sink.mails) == 2, 60, "two notices")
        for (recipients, content), words in zip(sink.mails, (("initialisation is complete", "2 accounts", two.name), ("promot", "2 accounts", two.name))):
            mail = email.message_from_bytes(content, policy=email.policy.default)
            self.assertEqual([f"<{ADMIN}>"], recipients)
            self.assertEqual(ADMIN, mail["To"])
            self.assertTrue(mail["Subject"].startswith("Replica: "), mail["Subject"])
            for name in ("Date", "From", "Message-ID"):
                self.assertTrue(mail[name], name)
            self.assertEqual("auto-generated", mail["Auto-Submitted"])
            text = mail.get_content()
            for word in words:
                self.assertIn(word, text)
            self.assertTrue(self.logged(text.strip().splitlines()[0]), "the log says the same")
        self.assertEqual([], self.logged("a notice could not be mailed"))

    def test_a_mail_that_is_not_taken_is_in_the_log(self):
        sink = Sink(refuse=True)
        self.addCleanup(sink.listener.close)
        self.up(f"submission_host = 127.0.0.1:{sink.port}\n")
        self.initialise_and_promote()
        wait_until(lambda: len(self.logged("a notice could not be mailed")) == 2, 60, "two log lines")
        self.assertEqual([], sink.mails)
        self.assertIn("no such person", self.logged("a notice could not be mailed")[0])
        self.assertTrue(self.logged("initialisation is complete"))

    def test_without_any_way_to_send_mail_the_log_says_so(self):
        self.up("sendmail_path = /nonexistent/sendmail\n")
        self.initialise_and_promote()
        wait_until(lambda: len(self.logged("a notice could not be mailed")) == 2, 60, "two log lines")
        self.assertIn("submission_host is empty and sendmail_path (/nonexistent/sendmail) cannot be run", self.logged("a notice could not be mailed")[0])
        self.assertTrue(self.logged("initialisation is complete"))


if __name__ == "__main__":
    unittest.main()
