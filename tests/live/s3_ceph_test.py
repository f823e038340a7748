#!/usr/bin/env python3
"""The contract of a store of bodies on a real Ceph RGW, as Debian has it."""

import unittest

from support.ceph import Ceph
from support.fs_stores import S3Test, contract


class OnCeph(S3Test):
    @classmethod
    def make_server(cls):
        cls.server = Ceph.up(cls.folder / "ceph")

    def test_the_contract(self):
        self.assertEqual(set(), contract(self, self.location(url=self.server.url)))

    def test_the_contract_holds_when_every_seventh_request_goes_wrong(self):
        for fault in (("status", 503, "SlowDown"), ("cut-answer",), ("cut-body",), ("flipped-request",)):
            with self.subTest(fault[0]):
                self.proxy.set(*fault, every=7)
                contract(self, self.location(prefix=fault[0], options=f"&multipart={5 << 20}"), CONTRACT_FILES=20, CONTRACT_LARGE=12 << 20)


if __name__ == "__main__":
    unittest.main()
