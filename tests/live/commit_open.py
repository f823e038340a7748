#!/usr/bin/env python3
"""Reproduces what fault_commit_test.py leaves out: a process that dies inside SUBSCRIBE, SETMETADATA or DELETE leaves a lock of Dovecot's own behind, and
the roll-forward waits until Dovecot takes that for stale (a minute). Not part of the suite: run it with PYTHONPATH=tests:tests/live."""

import unittest

import fault_commit_test


class StaleLocks(fault_commit_test.MailProcessDies):
    def operations(self):
        return self.subscribe, self.metadata, self.delete


if __name__ == "__main__":
    unittest.main(argv=["commit_open.py", "StaleLocks"])
