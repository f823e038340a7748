#!/usr/bin/env python3
"""Clients cannot tell cbox from stock sdbox, in every layout and with what plugins do to bodies."""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cbox_site import BAD_LOG, MIXED, Site, build_dir, message, run  # noqa: E402


def normal(line):
    """What must not be the same on two stores: times, UIDVALIDITY, GUIDs, MODSEQ counters."""
    for pattern, to in ((r" \(\d+\.\d+ \+ .*secs\)", ""), (r"(UIDVALIDITY|APPENDUID|COPYUID) \d+", r"\1 V"),
                        (r"MODSEQ (\(?)\d+", r"MODSEQ \1N"), (r"INTERNALDATE \"[^\"]*\"", "INTERNALDATE D"),
                        (r"\b[0-9a-f]{32}\b", "G")):
        line = re.sub(pattern, to, line)
    return line


class Recorder:
    """Sends commands and keeps the whole conversation, normalised."""

    def __init__(self, site, user):
        self.imap, self.lines = site.imap(user), []

    def __call__(self, command, literal=None):
        untagged, tagged = self.imap.command(command, literal)
        self.lines.append("> " + re.sub(r"(QRESYNC \(|SINCE )[\d ]+", r"\1N ", command))
        self.lines += [normal(line) for line in untagged] + [normal(tagged)]
        return untagged, tagged


def conversation_of_one(site, user):
    do = Recorder(site, user)
    do("CREATE Work")
    do("CREATE Work/Sub")
    do("SUBSCRIBE Work")
    do('APPEND INBOX (\\Seen $Label) "17-Jul-1996 02:44:25 -0700"', message("first"))
    do("APPEND INBOX", MIXED)
    do("APPEND INBOX", b"no header at all")
    do("APPEND INBOX", b"Subject: bare lf\n\nline one\nline two\n")
    do("APPEND Nowhere", message("lost"))
    do("SELECT INBOX (CONDSTORE)")
    do("FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE)")
    do("FETCH 1:* (ENVELOPE BODYSTRUCTURE)")
    do("FETCH 2 (BODY.PEEK[1] BODY.PEEK[2] BINARY.PEEK[2] BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
    do("FETCH 1:4 BODY.PEEK[]")
    do("FETCH 4 BODY.PEEK[]<5.10>")
    do("FETCH 3 BODY[TEXT]")
    do("SEARCH SUBJECT mixed")
    do("SEARCH BODY two")
    do("SORT (REVERSE SIZE) UTF-8 ALL")
    do("THREAD REFERENCES UTF-8 ALL")
    do("STORE 1:2 +FLAGS (\\Flagged $Work)")
    do("STORE 1 -FLAGS.SILENT ($Label)")
    do("STORE 2:3 FLAGS (\\Answered Other)")
    do("STORE 2:3 FLAGS (\\Answered Other)")
    do("UID STORE 4 +FLAGS (\\Draft)")
    do("FETCH 1:* FLAGS")
    do("COPY 1:2 Work")
    do("COPY 1 Nowhere")
    do("UID COPY 3:4 Work/Sub")
    do("MOVE 3 Work")
    do("UID MOVE 4 Work/Sub")
    do("STATUS Work (MESSAGES UIDNEXT UNSEEN RECENT)")
    do("STATUS Work/Sub (MESSAGES UIDNEXT UNSEEN)")
    do("STORE 1 +FLAGS (\\Deleted)")
    do("UID EXPUNGE 2")
    do("UID EXPUNGE 1")
    do("EXPUNGE")
    do("SELECT Work")
    do("FETCH 1:* (UID FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
    do("STORE 1:3 +FLAGS (\\Deleted)")
    do("EXPUNGE")
    do("SELECT INBOX")
    do("STORE 1:* +FLAGS (\\Deleted)")
    do("CLOSE")
    do("STATUS INBOX (MESSAGES UIDNEXT)")
    do("EXAMINE Work/Sub")
    do("FETCH 1:* (UID FLAGS)")
    do("STORE 1 +FLAGS (\\Deleted)")
    do("CLOSE")
    do('SETMETADATA Work (/private/comment "mine" /shared/comment "ours")')
    do("GETMETADATA Work (/private/comment /shared/comment)")
    do("SETMETADATA Work (/private/comment NIL)")
    do("GETMETADATA Work (/private/comment /shared/comment)")
    do("RENAME Work Moved")
    do("GETMETADATA Moved (/private/comment /shared/comment)")
    do('LIST "" *')
    do('LSUB "" *')
    do("STATUS Moved/Sub (MESSAGES UIDNEXT)")
    do("DELETE Moved/Sub")
    do("SELECT Moved/Sub")
    do("DELETE Moved")
    do('LIST "" *')
    do("CREATE Moved")
    do("STATUS Moved (MESSAGES UIDNEXT)")
    return do.lines


def conversation_of_two(site, user):
    """Two sessions in one mailbox; what the second one sees without asking comes with its NOOP."""
    a, b = Recorder(site, user), Recorder(site, user)
    for n in range(1, 7):
        a("APPEND INBOX", message("m%d" % n))
    a("ENABLE QRESYNC")
    untagged, _ = a("SELECT INBOX")
    b("SELECT INBOX (CONDSTORE)")
    uid_validity = re.search(r"UIDVALIDITY (\d+)", " ".join(untagged)).group(1)
    modseq = re.search(r"HIGHESTMODSEQ (\d+)", " ".join(untagged)).group(1)
    # A stale UNCHANGEDSINCE, alone and with an expunge between.
    b("STORE 1 +FLAGS ($Theirs)")
    a("STORE 1:2 (UNCHANGEDSINCE %s) +FLAGS ($Mine)" % modseq)
    a("NOOP")
    b("NOOP")
    b("STORE 3 +FLAGS ($Again)")
    b("STORE 5 +FLAGS (\\Deleted)")
    b("EXPUNGE")
    a("STORE 3:4 (UNCHANGEDSINCE %s) +FLAGS ($Stale)" % modseq)
    a("NOOP")
    # Both expunge the same mail; flags of a mail that is gone.
    a("STORE 4 +FLAGS.SILENT (\\Deleted)")
    b("NOOP")
    b("EXPUNGE")
    a("EXPUNGE")
    a("NOOP")
    b("STORE 1 +FLAGS (\\Deleted)")
    b("EXPUNGE")
    a("NOOP")
    a("SELECT INBOX (QRESYNC (%s %s 1:6))" % (uid_validity, modseq))
    a("UID FETCH 1:* (FLAGS) (CHANGEDSINCE %s VANISHED)" % modseq)
    return a.lines + b.lines


PLUGINS = ("acl", "quota", "notify", "mail_log", "trash", "virtual", "quota_clone", "mailbox_alias",
           "push_notification", "notify_status", "listescape", "charset_alias")
PLUGIN_SETTINGS = """
  acl = vfile
  quota = dict:User quota::file:%h/quota
  quota_clone_dict = file:%h/quota-clone
  push_notification_driver = dlog
  notify_status_dict = file:%h/notify-status
"""


def key_pair(folder):
    """Settings of mail_crypt with a new key pair, and what fs-crypt below cbox needs to find it."""
    private, public = folder + "/private.pem", folder + "/public.pem"
    subprocess.run("openssl ecparam -name prime256v1 -genkey | openssl pkey -out %s && openssl pkey -in %s -pubout -out %s"
                   % (private, private, public), shell=True, check=True, capture_output=True)
    for path in (private, public):
        os.chmod(path, 0o644)
    return "mail_crypt_save_version = 2\n  mail_crypt_global_private_key = <%s\n  mail_crypt_global_public_key = <%s\n" % (private, public)


class Alike(unittest.TestCase):
    """Clients cannot tell cbox from plain sdbox: whether anybody answers the call-out or not, in every layout of the mailbox list,
    and with whatever plugins and file systems lie between."""

    def setUp(self):
        self.maxDiff = None
        self.keys = tempfile.mkdtemp(prefix="cbox-keys-")
        os.chmod(self.keys, 0o755)
        self.addCleanup(shutil.rmtree, self.keys)

    def site(self, driver, **options):
        site = Site(build_dir(), driver=driver, **options).start()
        self.addCleanup(site.remove)
        return site

    def alike(self, stock="sdbox", modes=("number",), layout="index", **options):
        stock, cbox = self.site(stock, layout=layout), self.site("cbox", layout=layout, **options)
        for conversation in (conversation_of_one, conversation_of_two):
            want = conversation(stock, conversation.__name__)
            for mode in modes:
                cbox.answer(mode)
                self.assertEqual(want, conversation(cbox, conversation.__name__ + mode), mode)
        self.assertNotRegex(cbox.log(), BAD_LOG)
        return cbox

    def stored(self, site):
        """All bytes of all bodies."""
        content = b""
        for path in site.blob_files():
            with open(path, "rb") as f:
                content += f.read()
        return content

    def test_plain(self):
        self.assertIn(b"line two", self.stored(self.alike(modes=("off", "number"))))

    def test_layout_fs(self):
        self.alike(layout="fs")

    def test_index_and_control_files_elsewhere(self):
        self.alike(layout="fs:INDEX=~/index:CONTROL=~/control:UTF-8")

    def test_layout_maildir(self):
        self.alike(stock="maildir", layout="maildir++")  # sdbox cannot

    def test_many_plugins(self):
        self.assertNotIn("Error", self.alike(plugins=PLUGINS, plugin_settings=PLUGIN_SETTINGS).log())

    def test_zlib(self):
        site = self.alike(plugins=("zlib",), plugin_settings="zlib_save = gz\n")
        self.assertNotIn(b"line two", self.stored(site))

    def test_mail_crypt(self):
        site = self.alike(plugins=("mail_crypt",), plugin_settings=key_pair(self.keys))
        self.assertNotIn(b"line two", self.stored(site))

    def test_mail_crypt_with_keys_of_each_user(self):
        """The keys are attributes of the user's mailboxes."""
        site = self.alike(plugins=("mail_crypt",), plugin_settings="mail_crypt_curve = secp521r1\n  mail_crypt_save_version = 2\n")
        self.assertNotIn(b"line two", self.stored(site))

    def test_zlib_and_mail_crypt(self):
        site = self.alike(plugins=("zlib", "mail_crypt"), plugin_settings="zlib_save = gz\n" + key_pair(self.keys))
        self.assertNotIn(b"line two", self.stored(site))

    def test_a_compressing_file_system(self):
        site = self.alike(blob_fs="compress:gz:6:posix:dirs:prefix=BLOBS/")
        self.assertNotIn(b"line two", self.stored(site))

    def test_an_encrypting_file_system(self):
        keys = key_pair(self.keys)
        fs = "crypt:public_key_path=%s/public.pem:private_key_path=%s/private.pem:posix:dirs:prefix=BLOBS/" % (self.keys, self.keys)
        self.assertNotIn(b"line two", self.stored(self.alike(blob_fs=fs, plugin_settings=keys)))


if __name__ == "__main__":
    run()
