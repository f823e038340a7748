"""Files out of Debian packages that are not installed: fetched when first asked for, kept in the cache."""

import subprocess

from . import cache


def unpacked(name, packages):
    """A folder of this name in the cache with the packages' files, as they would lie below /."""
    with cache.locked(name) as kept:
        folder = kept / name
        if not folder.is_dir():
            part = folder.with_name(f"{name}.part")
            subprocess.run(["rm", "-rf", str(part)], check=True)
            (part / "debs").mkdir(parents=True)
            _apt("-o", "APT::Sandbox::User=root", "download", *packages, cwd=part / "debs")
            for package in sorted((part / "debs").glob("*.deb")):
                subprocess.run(["dpkg", "-x", str(package), str(part)], check=True)
            subprocess.run(["rm", "-rf", str(part / "debs")], check=True)
            part.rename(folder)
    return folder


def _apt(*arguments, cwd):
    for attempt in ("as it is", "after an update"):
        done = subprocess.run(["apt-get", "-q", *arguments], cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, check=False)
        if done.returncode == 0:
            return
        if attempt == "as it is":
            subprocess.run(["apt-get", "-q", "update"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    raise RuntimeError(f"apt-get {' '.join(arguments)}: {done.stdout}{done.stderr}")
