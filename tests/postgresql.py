"""A private PostgreSQL server for tests: started on a free port, stopped at the end."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

USER, PASSWORD = "searcher", "correct horse"
_PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)


class NoServerError(RuntimeError):
    """No server can be started here; says why."""


@dataclass(frozen=True)
class Server:
    """A server that may be stopped and started again.

    Attributes:
        programs: folder of `pg_ctl` and its kind.
        directory: of data, socket and log.
        port: on 127.0.0.1.
        owner: whom the programs are run as: they refuse to be root's.
    """

    programs: Path
    directory: Path
    port: int
    owner: str | None

    def url(self, database: str, password: str | None = PASSWORD) -> str:
        """Of a database; without a password it is left to the environment."""
        user = USER if password is None else f"{USER}:{password.replace(' ', '%20')}"
        return f"postgresql+psycopg://{user}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Returns when connections are taken."""
        options = f"-p {self.port} -k {self.directory} -c listen_addresses=127.0.0.1 -c fsync=off"
        log = str(self.directory / "log")
        self._run("pg_ctl", "start", "-D", self._data, "-w", "-t", "60", "-l", log, "-o", options)

    def stop(self) -> None:
        """As a crash: every connection is cut, nothing is tidied up."""
        self._run("pg_ctl", "stop", "-D", self._data, "-m", "immediate")

    def initialise(self) -> None:
        """Makes the data directory; passwords are asked for."""
        secret = self.directory / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._run("initdb", "-D", self._data, "-U", USER, "-A", "scram-sha-256", "--no-sync",
                  "--no-locale", "-E", "UTF8", f"--pwfile={secret}")  # fmt: skip

    def make_database(self, name: str) -> str:
        """An empty database; returns its URL."""
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, name)
        return self.url(name)

    @property
    def _data(self) -> str:
        return str(self.directory / "data")

    def _run(self, program: str, *arguments: str) -> None:
        # What is started goes on living: a pipe would not end before it does.
        with (self.directory / "said").open("wb") as said:
            done = subprocess.run(
                [str(self.programs / program), *arguments],
                cwd=self.directory, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                user=self.owner, timeout=120,
                env={**os.environ, "LC_ALL": "C", "PGPASSWORD": PASSWORD},
            )  # fmt: skip
        assert done.returncode == 0, (self.directory / "said").read_text()


@contextmanager
def running_server() -> Iterator[Server]:
    """A new server with nothing in it.

    Raises:
        NoServerError: this machine has none, or nobody who may run it.
    """
    programs, owner = _programs(), _owner()
    if importlib.util.find_spec("psycopg") is None:
        raise NoServerError("psycopg is not installed: pip install 'nas-codecs[postgresql]'")
    # Not below pytest's folders: those are closed to other users.
    directory = Path(tempfile.mkdtemp(prefix="nas-postgresql-"))
    if owner:
        shutil.chown(directory, owner)
    server = Server(programs, directory, _free_port(), owner)
    try:
        server.initialise()
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory)


def _programs() -> Path:
    found = [Path(p).resolve().parent for p in [shutil.which("pg_ctl")] if p]
    found += [folder for place in _PLACES for folder in sorted(Path("/").glob(place[1:]))[::-1]]
    for folder in found:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise NoServerError("PostgreSQL's server is not installed (initdb, pg_ctl, postgres)")


def _owner() -> str | None:
    if os.geteuid() != 0:
        return None
    there = {entry.pw_name for entry in pwd.getpwall()}
    for name in ("postgres", "nobody"):
        if name in there:
            return name
    raise NoServerError("PostgreSQL does not run as root, and there is no unprivileged user")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
