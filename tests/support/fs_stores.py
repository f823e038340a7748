"""Stores of bodies for tests of lib-fs drivers, and doveadm fs over them."""

import os
import pathlib
import re
import shutil
import subprocess
import unittest
import warnings

from . import s3
from .mailsite import scratch_folder
from .s3_faults import FaultProxy

BUILD = pathlib.Path(os.environ.get("REPLICA_BUILD_DIR", "build/dev"))
CONTRACT = BUILD / "tests" / "contract" / "fs_contract"
CONFIG = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = /dev/stderr
ssl = no
import_environment = TZ AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY LD_PRELOAD FAKETIME
ssl_client_ca_file = {ca}
"""


class S3Test(unittest.TestCase):
    """One S3 server for the class; for each test a fault proxy in front of it, and a prefix of its own."""

    @classmethod
    def setUpClass(cls):
        warnings.simplefilter("ignore", ResourceWarning)
        cls.folder = scratch_folder()
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.make_server()
        cls.addClassCleanup(cls.server.kill)
        cls.credentials = s3.write_credentials(cls.folder / "credentials", *cls.server.owner)

    @classmethod
    def make_server(cls):
        cls.server = s3.Server.up(cls.folder / "s3")

    def setUp(self):
        self.proxy = FaultProxy(self.server.address)
        self.addCleanup(self.proxy.close)

    def location(self, **changed):
        """Through the proxy, unless told otherwise."""
        given = {"credentials": self.credentials, "prefix": self.id().rpartition(".")[2], "url": self.proxy.url} | changed
        return self.server.location(**given)


def contract(test, location, *arguments, **environment):
    """Runs the contract suite there; returns the names of the tests that were skipped."""
    done = subprocess.run([CONTRACT, location, "--gtest_brief=0", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=600, check=False, env={**os.environ, **{name: str(value) for name, value in environment.items()}})
    failed = re.findall(r"^\[  FAILED  \] (\S+) \(", done.stdout, re.M)
    if done.returncode != 0:
        text = "\n".join(line for line in done.stdout.splitlines() if not re.match(r"\[ RUN|\[       OK", line))
        test.fail(f"{failed or 'the suite died'}\n{text[-6000:]}\n{done.stderr[-3000:]}")
    test.assertGreater(int(re.search(r"\[  PASSED  \] (\d+) test", done.stdout)[1]), 0)
    return set(re.findall(r"^\[  SKIPPED \] FsContract\.(\w+) \(", done.stdout, re.M))


def doveadm_fs(folder, location, verb, *arguments, ca="", debug=False, **environment):
    """`doveadm fs VERB DRIVER ARGS ...`: (exit code, stdout as bytes, stderr)."""
    config = folder / "doveadm.conf"
    config.write_text(CONFIG.format(folder=folder, ca=ca))
    driver, _, options = location.partition(":")
    done = subprocess.run(["doveadm", *(["-D"] if debug else []), "-c", config, "fs", verb, driver, options, *map(str, arguments)],
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False, env={**os.environ, **environment})
    return done.returncode, done.stdout, done.stderr.decode()
