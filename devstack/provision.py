"""Gets the servers that devstack runs: Java archives by Maven, the S3 gateway by Go. Once, into `.devstack/dist`."""

import fcntl
import hashlib
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from devstack.errors import DevstackError
from devstack.logs import tail

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
DIST = ROOT / ".devstack" / "dist"
# A program and the Debian package that brings it.
REDIS = "redis-server"
LOG = DIST / "provision.log"


@dataclass(frozen=True)
class Artefact:
    """One thing to provision: `build` fills an empty folder, anew whenever one of `sources` changes."""

    name: str
    sources: tuple[Path, ...]
    build: Callable[[Path], None]

    def digest(self) -> str:
        return hashlib.sha256(b"".join(path.read_bytes() for path in self.sources)).hexdigest()

    def is_current(self) -> bool:
        stamp = DIST / self.name / "stamp"
        return stamp.is_file() and stamp.read_text() == self.digest()


def _run(command: list[str], cwd: Path) -> None:
    with LOG.open("ab") as log:
        log.write(f"\n$ {' '.join(command)}\n".encode())
        log.flush()
        done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False)
    if done.returncode:
        raise DevstackError(
            f"{command[0]} failed with exit status {done.returncode}. The end of {LOG}:\n{tail(LOG)}\n"
            "If this is the network, run `python -m devstack provision` again: what has been fetched is kept."
        )


def _maven(profile: str) -> Callable[[Path], None]:
    def build(target: Path) -> None:
        copy = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={target}"]
        _run(["mvn", "-q", "-B", "-ntp", f"-P{profile}", *copy], HERE)

    return build


def _mongo(target: Path) -> None:
    _maven("mongo")(target)
    # Compiled here and not at each start, which would cost a second.
    _run(["javac", "-cp", f"{target}/*", "-d", str(target), str(HERE / "java" / "MongoStandIn.java")], HERE)


def _gateway(target: Path) -> None:
    # Stripped of symbols, the program is half the size.
    package = "github.com/versity/versitygw/cmd/versitygw"
    _run(["go", "build", "-trimpath", "-ldflags=-s -w", "-o", str(target / "versitygw"), package], HERE / "tools")


_POM = HERE / "pom.xml"
JAVA_ARTEFACTS = (
    Artefact("mongo", (_POM, HERE / "java" / "MongoStandIn.java"), _mongo),
    Artefact("kafka", (_POM,), _maven("kafka")),
    Artefact("sqs", (_POM,), _maven("sqs")),
)
GO_ARTEFACTS = (Artefact("s3", (HERE / "tools" / "go.mod", HERE / "tools" / "go.sum"), _gateway),)
ARTEFACTS = tuple(a.name for a in JAVA_ARTEFACTS + GO_ARTEFACTS)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds an exclusive lock on `path` between processes; the kernel lets go of it when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _build_one(artefact: Artefact, console: Console) -> None:
    """Builds beside the final folder and renames, so that a half-built one is never taken for whole."""
    fresh, final = DIST / f"{artefact.name}.new", DIST / artefact.name
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    artefact.build(fresh)
    (fresh / "stamp").write_text(artefact.digest())
    shutil.rmtree(final, ignore_errors=True)
    fresh.rename(final)
    console.log(f"{artefact.name} is ready")


def provision(names: Iterable[str] = ARTEFACTS, console: Console | None = None) -> bool:
    """Builds those of the named artefacts that are missing or out of date.

    Returns:
        Whether anything had to be built.

    Raises:
        DevstackError: a tool is missing, or a build failed (the end of its log is in the message).
    """
    console, wanted = console or Console(stderr=True), set(names)
    with locked(DIST / "lock"):
        java, go = (
            [a for a in group if a.name in wanted and not a.is_current()] for group in (JAVA_ARTEFACTS, GO_ARTEFACTS)
        )
        if not java and not go:
            return False
        lacking = missing_programs()
        if lacking:
            raise DevstackError(
                "\n".join(f"{what} is missing: {why}. Get it with: {how}" for what, why, how in lacking)
            )
        LOG.unlink(missing_ok=True)

        def build_all(group: list[Artefact]) -> None:
            for artefact in group:
                _build_one(artefact, console)

        names = ", ".join(a.name for a in java + go)
        progress = console.status(f"Fetching and building {names}, once; Go takes a minute or two. Log: {LOG}")
        # Two threads: Maven's runs share a local repository and must not overlap, Go has a cache of its own.
        with progress, ThreadPoolExecutor(2) as pool:
            list(pool.map(build_all, (java, go)))
    return True


def _java_version() -> int:
    try:
        shown = subprocess.run(["javac", "-version"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return 0
    found = re.search(r"javac (\d+)", shown.stdout + shown.stderr)
    return int(found[1]) if found else 0


def missing_programs() -> list[tuple[str, str, str]]:
    """Returns (what, why, the command that gets it) for each program that provisioning needs and cannot find."""
    missing = []
    if _java_version() < 17:
        why = "Kafka and the stand-ins of MongoDB and SQS run on it"
        missing.append(("Java 17 (JDK)", why, "sudo apt-get install -y openjdk-17-jdk-headless"))
    if shutil.which("mvn") is None:
        missing.append(("Maven", "fetches Kafka and the stand-ins", "sudo apt-get install -y maven"))
    if shutil.which("go") is None:
        machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
        archive = f"https://go.dev/dl/go1.25.0.{platform.system().lower()}-{machine}.tar.gz"
        fetch = f"curl -fsSL {archive} | sudo tar -C /usr/local -xz && export PATH=$PATH:/usr/local/go/bin"
        missing.append(("Go 1.25", "builds the S3 gateway", fetch))
    return missing


def missing_tools() -> list[tuple[str, str, str]]:
    """Returns (what, why, the command that gets it) for each program or artefact that the local servers lack."""
    missing = missing_programs()
    stale = [a.name for a in JAVA_ARTEFACTS + GO_ARTEFACTS if not a.is_current()]
    if stale:
        missing.append(("local servers", f"not built yet: {', '.join(stale)}", "python -m devstack provision"))
    if shutil.which(REDIS) is None:
        missing.append(("Redis", "the cache that replicas share runs on it", f"sudo apt-get install -y {REDIS}"))
    return missing


def class_path(name: str) -> str:
    return f"{DIST / name}/*:{DIST / name}"
