#!/usr/bin/env python3
"""An account whose mail goes through Dovecot's plugins (bodies compressed and encrypted, quota, lazy expunge, ACL) has an equal replica, and goes on after a promotion."""

import os
import subprocess
import unittest

from support import corpus, replica
from support.compare import assert_equal_stores
from support.live import SiteTest
from support.mailsite import scratch_folder

PLUGINS = "acl quota notify mail_log lazy_expunge zlib mail_crypt"
EXTRA = """
mail_plugins = $mail_plugins {plugins}
protocol lmtp {{
  mail_plugins = $mail_plugins {plugins}
}}
plugin {{
  acl = vfile
  quota = count:User quota
  quota_vsizes = yes
  zlib_save = gz
  mail_crypt_save_version = 2
  {crypt}
  lazy_expunge = Expunged
}}
"""


class Plugins(SiteTest):
    """With one key pair for the site."""
    site_options = {"accounts": 2}

    def crypt(self):
        self.keys = scratch_folder("replica-keys-")
        self.addCleanup(subprocess.run, ["rm", "-rf", str(self.keys)], check=True)
        subprocess.run("openssl ecparam -name prime256v1 -genkey | openssl pkey -out private.pem && "
                       "openssl pkey -in private.pem -pubout -out public.pem", cwd=self.keys, shell=True, check=True, capture_output=True)
        for name in ("private.pem", "public.pem"):
            os.chmod(self.keys / name, 0o644)
        return f"mail_crypt_global_private_key = <{self.keys}/private.pem\n  mail_crypt_global_public_key = <{self.keys}/public.pem"

    def setUp(self):
        self.site_options = {**self.site_options, "extra": EXTRA.format(plugins=PLUGINS, crypt=self.crypt())}
        super().setUp()
        self.one, self.two = self.site.stores
        self.mails = [content for _, content in corpus.real_mails()[::100]]

    def quota(self, store, user):
        return [line.split("\t")[2] for line in store.doveadm("-f", "tab", "quota", "get", "-u", user).stdout.splitlines()[1:]]

    def use(self, store, user):
        for mail in self.mails[:10]:
            self.assertTrue(store.lmtp().deliver(user, mail)[user].startswith("250"))
        with store.imap(user) as imap:
            imap.command("CREATE Work")
            for mail in self.mails[10:]:
                self.assertTrue(imap.append("INBOX", mail, "\\Seen word").ok)
            imap.select("INBOX")
            imap.expect("COPY 1:5 Work")
            imap.expect("MOVE 6:8 Work")
            imap.expect("STORE 2:4 +FLAGS (\\Deleted)")
            imap.expect("EXPUNGE")

    def test_an_equal_replica(self):
        user, later = self.users
        self.use(self.one, user)
        for blob in (path for path in (self.folder / "site" / "blobs").rglob("*") if path.is_file()):
            self.assertNotIn(b"\nReceived: ", blob.read_bytes())
        with self.one.imap(user) as imap:
            imap.select("Expunged")
            self.assertEqual(6, len(imap.search("ALL")))  # three expunged, and three of the move, as with sdbox
        replica.replicate(self.one, self.two, self.users)
        for name in self.users:
            self.use(self.one, name)
        assert_equal_stores(self.site, self.users)
        for name in self.users:
            self.assertEqual(self.quota(self.one, name), self.quota(self.two, name))
        replica.promote(self.two, self.users)
        for name in (user, later):
            self.use(self.two, name)
        assert_equal_stores(self.site, self.users)


class KeysOfEachUser(Plugins):
    """Dovecot keeps them in the mailboxes' attributes: they are shipped as METADATA is."""

    def crypt(self):
        return "mail_crypt_curve = secp521r1"


if __name__ == "__main__":
    unittest.main(verbosity=2)
