"""What a stack remembers in its state directory: ports, generated secrets, and the addresses it tells others."""

import json
import os
import random
import secrets
import shlex
import socket
from collections.abc import Mapping
from pathlib import Path

from devstack.errors import DevstackError

# Below the range that the kernel hands to outgoing connections, which could otherwise take the port of a server
# while it restarts.
_PORTS = range(20000, 32000)
_PREFERRED = {"airflow": 8080, "api": 5002}


def write_private(path: Path, text: str) -> None:
    """Replaces a file in one step; only its owner may read it."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
        handle.write(text)
    fresh.replace(path)


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: without it, connections that were closed a moment ago would count as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Ports:
    """The port of each server: from the environment (SLEEVE_<NAME>_PORT), or chosen once and remembered."""

    def __init__(self, file: Path, environ: Mapping[str, str]) -> None:
        self._file, self._environ = file, environ
        self._chosen: dict[str, int] = json.loads(file.read_text()) if file.is_file() else {}

    def __contains__(self, name: str) -> bool:
        return name in self._chosen

    def __getitem__(self, name: str) -> int:
        variable = variable_of(name)
        given = self._environ.get(variable)
        if given:
            if not given.isdecimal() or not 0 < int(given) < 65536:
                raise DevstackError(f"{variable} is {given!r}; set it to a port between 1 and 65535, or unset it.")
            return int(given)
        if name not in self._chosen:
            self._chosen[name] = self._choose(name)
            write_private(self._file, json.dumps(self._chosen))
        return self._chosen[name]

    def _choose(self, name: str) -> int:
        candidates = [*filter(None, [_PREFERRED.get(name)]), *random.sample(_PORTS, 100)]
        for port in candidates:
            if port not in self._chosen.values() and is_free(port):
                return port
        raise DevstackError(f"No free port was found for {name}; set {variable_of(name)}.")


def variable_of(name: str) -> str:
    return f"SLEEVE_{name.upper().replace('-', '_')}_PORT"


def load_secrets(file: Path) -> dict[str, str]:
    """Returns this state directory's passwords and keys; those that are not there yet are made."""
    made = {
        "s3_access_key": secrets.token_hex(10).upper(),
        "s3_secret_key": secrets.token_urlsafe(30),
        "airflow_password": secrets.token_urlsafe(12),
        # Airflow signs with HS512, which wants 64 bytes.
        "airflow_jwt_secret": secrets.token_urlsafe(64),
        "airflow_secret_key": secrets.token_urlsafe(32),
        "redis_password": secrets.token_urlsafe(24),
        "jwt_secret": secrets.token_urlsafe(32),
        "sleeve_password": secrets.token_urlsafe(12),
    }
    known: dict[str, str] = json.loads(file.read_text()) if file.is_file() else {}
    if not made.keys() <= known.keys():
        known = made | known
        write_private(file, json.dumps(known))
    return known


def write_env(file: Path, env: Mapping[str, str]) -> None:
    """Writes settings so that both dotenv readers and a shell's `source` understand them."""
    write_private(file, "".join(f"{name}={shlex.quote(value)}\n" for name, value in env.items()))
