"""What live tests share: a site for each test, taken down after it; when a test failed, what the logs complain about."""

import re
import shutil
import unittest
import warnings

from .mailsite import Site, scratch_folder

COMPLAINTS = re.compile(r"Warning|Error|Fatal|Panic|WARN|ERROR|FATAL")
KNOWN = ("one broker holds each record", "was just created")  # a trial's own
LINES = 25


class SiteTest(unittest.TestCase):
    """self.site with `site_options`, self.users, self.folder (for a journal)."""

    site_options = {"accounts": 6}

    def setUp(self):
        warnings.simplefilter("ignore", ResourceWarning)
        self.folder = scratch_folder()
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.site = Site.up(self.folder / "site", **self.site_options)
        self.addCleanup(self.site.down)
        self.addCleanup(self.show_complaints)
        self.users = self.site.users()

    def show_complaints(self):
        outcome = self._outcome.result
        if not any(test is self for test, _ in outcome.failures + outcome.errors):
            return
        for name, text in self.site.logs().items():
            lines = [line for line in text.splitlines() if COMPLAINTS.search(line) and not any(known in line for known in KNOWN)]
            print(f"==> {name}: {len(lines)} complaints, the last {LINES}:\n" + "\n".join(line[:400] for line in lines[-LINES:]))
