"""A real PostgreSQL server for tests: made from nothing, on a socket of its own, gone with the process that made it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

INSTALLED = Path("/usr/lib/postgresql")  # where Debian puts it, out of PATH
USER = "postgres"  # the server refuses to run as root
START_TIMEOUT_S = 60.0
QUICK = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "autovacuum": "off",
}


class NoServer(Exception):
    """This machine has no PostgreSQL server; the text says what would help."""


def binaries() -> Path:
    """Return the folder of the newest installed server's programs.

    Raises:
        NoServer: there is none.
    """
    if on_path := shutil.which("initdb"):
        return Path(on_path).resolve().parent
    found = sorted(INSTALLED.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise NoServer("no PostgreSQL server here: install Debian's postgresql package")
    return found[-1].parent


class Server:
    """A server that can be stopped, frozen and started again."""

    def __init__(self, programs: Path, folder: Path, prefix: list[str]) -> None:
        self._programs = programs
        self.folder = folder
        self._prefix = prefix
        self._process: subprocess.Popen[bytes] | None = None
        self._made = 0

    def url(self, database: str = "postgres") -> str:
        """Return the address of a database."""
        return f"postgresql://gateway@/{database}?host={self.folder}"

    def new_database(self) -> str:
        """Return the address of a place without tables: a schema of its own, ten times as quick as a database."""
        self._made += 1
        self.sql(self.url(), f"CREATE SCHEMA test_{self._made}")
        return f"{self.url()}&options=-csearch_path%3Dtest_{self._made}"

    def sql(self, url: str, statement: str) -> None:
        """Run a statement as somebody else than the gateway would."""
        psql = [str(self._programs / "psql"), "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1"]
        subprocess.run([*psql, f"--command={statement}", url], check=True, capture_output=True)

    def start(self) -> None:
        """Start, and wait until connections are taken. From the main thread: the server ends with the thread."""
        settings = [f"-c{name}={value}" for name, value in {**QUICK, "unix_socket_directories": self.folder}.items()]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._prefix, self._programs / "postgres", "-D", self.folder / "data", *settings],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )
        end = time.monotonic() + START_TIMEOUT_S
        while subprocess.run([self._programs / "pg_isready", "-q", "-h", self.folder], check=False).returncode:
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((self.folder / "log").read_text(errors="replace")[-2000:])
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop, as an administrator would: connections are cut. SIGQUIT is quicker, and leaves a mess."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(START_TIMEOUT_S)
            self._process = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Within, the server neither answers nor hangs up, as behind a network that swallows everything."""
        assert self._process is not None
        postmaster = psutil.Process(self._process.pid)
        processes = [postmaster, *postmaster.children(recursive=True)]
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                process.resume()


@contextmanager
def running_server() -> Iterator[Server]:
    """Make a server with a locale that does not sort by code point, start it, and remove it in the end.

    Raises:
        NoServer: none can be made on this machine.
    """
    programs = binaries()
    # If this process is killed, the server follows it.
    prefix = ["setpriv", "--pdeathsig=QUIT"] if shutil.which("setpriv") else []
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        if os.geteuid() == 0:
            try:
                user = pwd.getpwnam(USER)
            except KeyError:
                raise NoServer(f"PostgreSQL refuses to run as root, and there is no user {USER}") from None
            if not prefix:
                raise NoServer("PostgreSQL refuses to run as root, and there is no setpriv to become somebody else")
            prefix += [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
            os.chown(folder, user.pw_uid, user.pw_gid)
        locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=icu", "--icu-locale=en-US"]
        subprocess.run(
            [*prefix, programs / "initdb", "-D", folder / "data", "-U", "gateway", "-A", "trust", "--no-sync", *locale],
            cwd=folder,
            check=True,
            capture_output=True,
        )
        server = Server(programs, folder, prefix)
        server.start()
        try:
            yield server
        finally:
            server.stop(signal.SIGQUIT)
