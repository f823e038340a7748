#!/usr/bin/env python3
"""The contract of a store of bodies (tests/contract): on posix."""

import shutil
import unittest

from support.fs_stores import contract, doveadm_fs
from support.mailsite import scratch_folder

class Posix(unittest.TestCase):
    def setUp(self):
        self.folder = scratch_folder()
        self.addCleanup(shutil.rmtree, self.folder)

    def test_the_contract(self):
        self.assertEqual({"AHashThatIsWrongRefusesTheWrite", "MetadataIsKept"}, contract(self, f"posix:prefix={self.folder}/"))

    def test_doveadm_fs(self):
        use_doveadm_fs(self, self.folder, f"posix:prefix={self.folder}/")


def use_doveadm_fs(test, folder, location, **options):
    body = bytes(range(256)) * 1000
    (folder / "body").write_bytes(body)

    def fs(verb, *arguments, expect=0):
        code, out, said = doveadm_fs(folder, location, verb, *arguments, **options)
        test.assertEqual(expect, code, said)
        return out

    for name in ("x/one", "x/two", "y/three"):
        fs("put", folder / "body", name)
    test.assertEqual(body, fs("get", "x/one"))
    test.assertEqual(b"x/two size=256000", fs("stat", "x/two").strip())
    test.assertEqual(["one", "two"], sorted(fs("iter", "x").decode().split()))
    test.assertEqual({"x", "y"}, {"x", "y"} & set(fs("iter-dirs", "").decode().split()))
    fs("copy", "x/one", "x/copied")
    test.assertEqual(body, fs("get", "x/copied"))
    fs("delete", "x/one")
    fs("get", "x/one", expect=68)
    fs("stat", "x/one", expect=68)
    fs("delete", "-R", "x")
    test.assertEqual(b"", fs("iter", "x").strip())
    test.assertEqual(body, fs("get", "y/three"))


if __name__ == "__main__":
    unittest.main()
