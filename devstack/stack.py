"""The stack: which servers run, in which order they start, and the settings that lead others to them."""

import logging
import os
import signal
import subprocess
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit

import tenacity

from devstack import airflow, processes, servers
from devstack.errors import DevstackError
from devstack.logs import tail
from devstack.provision import ARTEFACTS, ROOT, locked, provision
from devstack.servers import HOST, Server
from devstack.state import Ports, is_free, load_secrets, variable_of, write_env

log = logging.getLogger(__name__)

DEFAULT_STATE = ROOT / ".devstack" / "state"
PARTS = ("kafka", "mongo", "s3", "sqs", "redis", "airflow", "api")
_STORES = ("kafka", "mongo", "s3", "s3-artefacts", "sqs", "redis")
START_TIMEOUT = 90.0
# The first admin of Sleeve's own accounts.
USERNAME = "admin"

# The address that, when the environment gives it, is used instead of a server of ours.
_ADDRESS = {
    "kafka": "KAFKA_BOOTSTRAP_SERVERS",
    "mongo": "MONGODB_URI",
    "s3": "S3_ENDPOINT_URL",
    "sqs": "SQS_QUEUE_URL",
    "redis": "REDIS_URL",
    "airflow": "AIRFLOW_API_URL",
}
_PASSED_ON = {
    "s3": ("S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY", "SLEEVE_S3_ENDPOINT_URL"),
    "sqs": ("SQS_ENDPOINT_URL",),
    "airflow": ("AIRFLOW_USERNAME", "AIRFLOW_PASSWORD"),
}


@dataclass(frozen=True)
class ServerStatus:
    """One line of `status`: `pid` is None unless the server runs, `log` is None unless the server is ours."""

    name: str
    address: str
    state: Literal["running", "died", "stopped", "external"]
    pid: int | None
    log: Path | None


class Stack:
    """The servers of one state directory; as a context manager it starts them and stops them again.

    Args:
        state_dir: data, logs, ports and secrets; made where missing. Two stacks in two directories do not meet.
        parts: which of PARTS to run.
        environ: where external addresses and SLEEVE_*_PORT are looked up; the process's environment by default.

    Raises:
        DevstackError: a part is unknown, or a port in the environment is no port.
    """

    def __init__(
        self,
        state_dir: str | Path = DEFAULT_STATE,
        parts: Iterable[str] = PARTS,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.state_dir = Path(state_dir).resolve()
        self.parts = tuple(parts)
        unknown = set(self.parts) - set(PARTS)
        if unknown:
            raise DevstackError(f"Unknown part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}.")
        self._environ = dict(os.environ if environ is None else environ)
        for folder in (self.state_dir, *(self.state_dir / name for name in ("logs", "pids", "sleeve"))):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Popen objects must outlive their processes, or Python warns when it collects them.
        self._children: list[subprocess.Popen[bytes]] = []
        with locked(self.state_dir / "lock"):
            self._ports = Ports(self.state_dir / "ports.json", self._environ)
            self._secrets = load_secrets(self.state_dir / "secrets.json")
            own = self._own_env()
            self.external = self._find_external(own)
            self.env: dict[str, str] = own | self._external_env()
            self._servers = {server.name: server for server in self._make_servers()}

    # Settings

    def _own_env(self) -> dict[str, str]:
        """Returns the settings as they are when every server is ours.

        They lead to this stack's parts and to those that other stacks of the same state directory run.
        """
        parts = [part for part in PARTS if part in self.parts or part in self._ports]
        url = {name: f"http://{HOST}:{self._ports[name]}" for name in parts if name not in ("kafka", "mongo")}
        env = {"SLEEVE_HOME": str(self.state_dir / "sleeve")}
        env["DATABASE_NAME"] = self._environ.get("DATABASE_NAME") or "sleeve"
        env["S3_BUCKET"] = self._environ.get("S3_BUCKET") or "images"
        env["SLEEVE_BUCKET"] = self._environ.get("SLEEVE_BUCKET") or "sleeve"
        env["S3_REGION"] = self._environ.get("S3_REGION") or "us-east-1"
        if "kafka" in parts:
            env["KAFKA_BOOTSTRAP_SERVERS"] = f"{HOST}:{self._ports['kafka']}"
        if "mongo" in parts:
            env["MONGODB_URI"] = f"mongodb://{HOST}:{self._ports['mongo']}"
        if "s3" in parts:
            env["S3_ENDPOINT_URL"] = url["s3"]
            env["SLEEVE_S3_ENDPOINT_URL"] = f"http://{HOST}:{self._ports['s3-artefacts']}"
            env["S3_ACCESS_KEY_ID"] = self._secrets["s3_access_key"]
            env["S3_SECRET_ACCESS_KEY"] = self._secrets["s3_secret_key"]
        if "sqs" in parts:
            env["SQS_ENDPOINT_URL"] = url["sqs"]
            env["SQS_QUEUE_URL"] = f"{url['sqs']}/000000000000/{servers.QUEUE}"
        if "redis" in parts:
            env["REDIS_URL"] = f"redis://:{self._secrets['redis_password']}@{HOST}:{self._ports['redis']}/0"
        if "airflow" in parts:
            env["AIRFLOW_API_URL"] = url["airflow"]
            env["AIRFLOW_USERNAME"] = airflow.USERNAME
            env["AIRFLOW_PASSWORD"] = self._secrets["airflow_password"]
        # Tests run the API themselves, so these are there without it.
        env["JWT_SECRET"] = self._secrets["jwt_secret"]
        env["SLEEVE_USERNAME"] = USERNAME
        env["SLEEVE_PASSWORD"] = self._secrets["sleeve_password"]
        if "api" in parts:
            env["SLEEVE_API_URL"] = url["api"]
        return env

    def _find_external(self, own: Mapping[str, str]) -> frozenset[str]:
        """Returns the parts whose address is given, unless it is our own: somebody may have sourced the env file."""
        given = {part: self._environ.get(name) for part, name in _ADDRESS.items()}
        return frozenset(part for part, address in given.items() if address and address != own.get(_ADDRESS[part]))

    def _external_env(self) -> dict[str, str]:
        env = {}
        for part in self.external:
            address = self._environ[_ADDRESS[part]]
            # An empty endpoint is what lets boto3 find AWS by itself.
            env[_ADDRESS[part]] = "" if part == "s3" and address == "aws" else address
            env |= {name: self._environ.get(name, "") for name in _PASSED_ON.get(part, ())}
        return env

    # Servers

    def _folder(self, name: str) -> Path:
        folder = self.state_dir / name
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def _make_servers(self) -> list[Server]:
        ours = [part for part in self.parts if part not in self.external]
        account = servers.Account(self._secrets["s3_access_key"], self._secrets["s3_secret_key"], self.env["S3_REGION"])
        made: list[Server] = []
        if "kafka" in ours:
            made.append(servers.kafka(self._folder("kafka"), self._ports["kafka"], self._ports["kafka_controller"]))
        if "mongo" in ours:
            made.append(servers.mongo(self._folder("mongo"), self._ports["mongo"], self.env["DATABASE_NAME"]))
        if "s3" in ours:
            events_to = self.env["KAFKA_BOOTSTRAP_SERVERS"] if "kafka" in ours else None
            for name, bucket, kafka in (("s3", "S3_BUCKET", events_to), ("s3-artefacts", "SLEEVE_BUCKET", None)):
                folder, port = self._folder(name), self._ports[name]
                made.append(servers.s3(name, folder, port, account, self.env[bucket], kafka))
        if "sqs" in ours:
            made.append(servers.sqs(self._folder("sqs"), self._ports["sqs"], account))
        if "redis" in ours:
            made.append(servers.redis(self._folder("redis"), self._ports["redis"], self._secrets["redis_password"]))
        python_env = self.env | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'plugins'}"}
        if "airflow" in ours:
            home = self._folder("airflow")
            made += airflow.servers(home, self._ports["airflow"], self._secrets, python_env, self._record)
        if "api" in ours:
            made.append(servers.api(self._ports["api"], python_env))
        return made

    def _log(self, name: str) -> Path:
        return self.state_dir / "logs" / f"{name}.log"

    def _record(self, name: str) -> Path:
        return self.state_dir / "pids" / f"{name}.json"

    def _server(self, name: str) -> Server:
        if name not in self._servers:
            raise DevstackError(f"This stack runs no server {name!r}; it runs {', '.join(self._servers) or 'none'}.")
        return self._servers[name]

    # Starting and stopping

    def start(self) -> list[str]:
        """Starts every server that does not run, and returns their names once all of them answer.

        Raises:
            DevstackError: a server could not be provisioned, died while starting, or did not answer in time.
        """
        provision(names=[name for name in self._servers if name in ARTEFACTS])
        self._tell_of_notifications()
        with locked(self.state_dir / "lock"):
            write_env(self.state_dir / "env", self.env)
            with ThreadPoolExecutor(max(1, len(self._servers))) as pool:
                futures: dict[str, Future[bool]] = {}
                for server in self._servers.values():
                    needed = [futures[name] for name in server.needs if name in futures]
                    futures[server.name] = pool.submit(self._start_after, needed, server)
            return [name for name, future in futures.items() if future.result()]

    def start_server(self, name: str) -> None:
        """Starts one server again, on its port and data; nothing happens if it runs."""
        with locked(self.state_dir / "lock"):
            self._start_one(self._server(name))

    def _start_after(self, needed: list[Future[bool]], server: Server) -> bool:
        for future in needed:
            future.result()
        return self._start_one(server)

    def _start_one(self, server: Server) -> bool:
        """Returns whether the server had to be started. What follows its start is made up for if it was cut short."""
        record = processes.read_record(self._record(server.name))
        fresh = not processes.is_running(record)
        if fresh:
            if record:
                processes.end(record, signal.SIGKILL)  # the leader is dead, its children may hold the port
            self._check_port(server)
            server.prepare()
            env = {**self._environ, **server.env}
            command, log_file = server.command, self._log(server.name)
            child = processes.start(command, env, ROOT, log_file, self._record(server.name))
            self._children.append(child)
        self._await(server)
        server.after_ready()
        return fresh

    def _check_port(self, server: Server) -> None:
        port = urlsplit(server.address if "//" in server.address else f"//{server.address}").port
        if port and not is_free(port):
            raise DevstackError(
                f"{server.name} cannot start: another program listens on port {port}. "
                f"End it, or set {variable_of(server.name)} to a free port."
            )

    def _await(self, server: Server) -> None:
        record = self._record(server.name)

        def probe() -> None:
            alive = processes.is_running(processes.read_record(record))
            if not alive:
                raise DevstackError(f"{server.name} died while starting. {self._log_end(server.name)}")
            server.ready()

        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_delay(START_TIMEOUT),
            wait=tenacity.wait_fixed(0.1),
            retry=tenacity.retry_if_not_exception_type(DevstackError),
        )
        try:
            retrying(probe)
        except tenacity.RetryError as error:
            last = error.last_attempt.exception()
            raise DevstackError(
                f"{server.name} did not answer at {server.address} within {START_TIMEOUT:.0f} s ({last}). "
                f"{self._log_end(server.name)}"
            ) from last

    def _log_end(self, name: str) -> str:
        return f"The end of {self._log(name)}:\n{tail(self._log(name))}"

    def _tell_of_notifications(self) -> None:
        if {"kafka", "s3"} <= set(self.parts) and len({"kafka", "s3"} & self.external) == 1:
            outside = "S3" if "s3" in self.external else "Kafka"
            log.warning(
                "%s is not run by this stack: send the object-created and object-removed events of bucket %s "
                "to the Kafka topic `images` at %s yourself.",
                outside,
                self.env["S3_BUCKET"],
                self.env["KAFKA_BOOTSTRAP_SERVERS"],
            )

    def kill(self, name: str) -> None:
        """Ends one server and its children by SIGKILL, as a crash would; `start_server` brings it back."""
        record = processes.read_record(self._record(self._server(name).name))
        if record:
            processes.end(record, signal.SIGKILL)

    def stop(self) -> list[str]:
        """Stops whatever was started from this state directory, and returns the names of what was still running."""
        with locked(self.state_dir / "lock"):
            found = {path.stem: path for path in sorted((self.state_dir / "pids").glob("*.json"))}
            # The clients first: they would spend their last seconds on reconnecting. Airflow at times does not end
            # by itself; what is killed with it is run again.
            stores = [name for name in found if name in _STORES]
            clients = [name for name in found if name not in stores]
            stopped: list[str] = []
            for group, grace in ((clients, 5.0), (stores, 10.0)):
                with ThreadPoolExecutor(max(1, len(group))) as pool:
                    ended = pool.map(partial(self._stop_one, grace=grace), group)
                stopped += [name for name, was_running in zip(group, ended, strict=True) if was_running]
            return stopped

    def _stop_one(self, name: str, grace: float) -> bool:
        record = processes.read_record(self._record(name))
        was_running = processes.is_running(record)
        if record:
            processes.end(record, grace=grace)
        self._record(name).unlink()
        return was_running

    def status(self) -> list[ServerStatus]:
        """Returns how each server of this stack is, without asking the servers themselves."""
        lines = [ServerStatus(part, self.env[_ADDRESS[part]], "external", None, None) for part in sorted(self.external)]
        for server in self._servers.values():
            record = processes.read_record(self._record(server.name))
            running = processes.is_running(record)
            state: Literal["running", "died", "stopped"] = "running" if running else "died" if record else "stopped"
            pid = record.pid if record and running else None
            lines.append(ServerStatus(server.name, server.address, state, pid, self._log(server.name)))
        return lines

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
