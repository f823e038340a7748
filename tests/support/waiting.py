"""Waiting for a condition, never for time.

wait_until polls until the condition holds and fails loudly, with what it last saw, when the limit is reached.
"""

import time


class Timeout(AssertionError):
    """The condition did not come true within its limit."""


def wait_until(condition, timeout=120.0, what="the condition", interval=0.02):
    """Returns the first true value of condition(). An exception in it counts as "not yet" and is shown on timeout."""
    deadline = time.monotonic() + timeout
    last = None
    while True:
        try:
            value = condition()
            if value:
                return value
            last = repr(value)
        except (OSError, ValueError, AssertionError, RuntimeError) as error:
            last = f"{type(error).__name__}: {error}"
        if time.monotonic() >= deadline:
            raise Timeout(f"{what} did not hold within {timeout:g} s; last: {last}")
        time.sleep(interval)
