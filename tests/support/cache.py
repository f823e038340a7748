"""What tests fetch or build once and keep between runs."""

import contextlib
import fcntl
import os
import pathlib


@contextlib.contextmanager
def locked(name):
    """The cache's folder, while nobody else makes NAME: whoever comes first makes it, all later ones find it there."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = pathlib.Path(base) / "dovecot-active-replica"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{name}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
