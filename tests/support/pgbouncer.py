"""A real pgbouncer of the tests' own, before the tests' PostgreSQL."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import free_ports
from tests.support.postgres_server import USER, Server
from tests.support.redis_server import listens
from tests.support.waiting import until

PROGRAM = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
SETTINGS = """
[databases]
* = host={socket}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
logfile = {folder}/log
pool_mode = {mode}
default_pool_size = {size}
"""


@contextmanager
def pgbouncer(server: Server, folder: Path, mode: str) -> Iterator[str]:
    """Start one, with a small pool in transaction mode, else with the defaults; yield the server's address."""
    if not Path(PROGRAM).exists():
        pytest.skip("pgbouncer is not installed here: poolers are checked where it is")
    (port,) = free_ports(1)
    (folder / "users").write_text('"gateway" ""\n')
    size = 3 if mode == "transaction" else 20
    (folder / "ini").write_text(SETTINGS.format(socket=server.folder, port=port, folder=folder, mode=mode, size=size))
    command = [PROGRAM, "-q", str(folder / "ini")]
    if os.geteuid() == 0:  # which it refuses to run as
        user = pwd.getpwnam(USER)
        (folder / "log").touch()
        os.chown(folder / "log", user.pw_uid, user.pw_gid)
        for above in (folder, *folder.parents):
            if above.stat().st_uid == 0 and not above.stat().st_mode & 0o001:
                above.chmod(above.stat().st_mode | 0o011)
        command = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", *command]
    with subprocess.Popen(command) as process:
        try:
            until(lambda: process.poll() is not None or listens(port))
            assert process.poll() is None, "pgbouncer ended"
            yield f"postgresql://gateway@127.0.0.1:{port}"
        finally:
            process.kill()
