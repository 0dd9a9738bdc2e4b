"""A private PostgreSQL for tests: initialised in a folder of its own, on a socket or a local port, stopped by its pid."""

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

from helpers import free_port

USER = "nobody"  # the server refuses to run as root


def programs() -> Path | None:
    """Where initdb and pg_ctl lie, None if they are not installed."""
    found = shutil.which("pg_ctl")
    places = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "initdb").exists()), None)


class Postgres:
    """A server with one database, `studies`, for user and password `team`."""

    def __init__(self) -> None:
        self.bin = programs()
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self.as_user = {"user": USER, "group": pwd.getpwnam(USER).pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        if self.as_user:
            os.chown(self.folder, pwd.getpwnam(USER).pw_uid, pwd.getpwnam(USER).pw_gid)
        self.port = free_port()
        secret = self.folder / "password"
        secret.write_text("team")
        secret.chmod(0o644)
        self._call("initdb", "-D", "data", "-U", "team", "--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync")
        self.start()
        self._call("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "team", "studies")

    @property
    def url(self) -> str:
        return self.url_with("team")

    def url_with(self, password: str) -> str:
        return f"postgresql+psycopg://team:{password}@127.0.0.1:{self.port}/studies"

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder} -c fsync=off"
        self._call("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", options, "start")

    def stop(self) -> None:
        self._call("pg_ctl", "-D", "data", "-m", "immediate", "-w", "stop")

    def close(self) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _call(self, name: str, *words: str) -> None:
        done = subprocess.run(
            [str(self.bin / name), *words],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "PGPASSWORD": "team", "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=(self.folder / "out").open("a"),
            stderr=subprocess.STDOUT,
            check=False,
            **self.as_user,
        )
        if done.returncode:
            raise RuntimeError(f"{name}: {(self.folder / 'out').read_text()[-2000:]}")
