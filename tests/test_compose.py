"""docker-compose.yaml and the Dockerfile against the repository. No engine is needed: files are read, nothing runs."""

import ast
import os
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

import pipeline
from devstack import airflow
from devstack.servers import DEAD_LETTER_QUEUE, QUEUE, TOPICS
from devstack.stack import Stack
from pipeline.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
# The variables that each server's own documentation names.
SERVER_VARIABLES = {
    "apache/kafka": r"CLUSTER_ID|KAFKA_\w+",
    "mongo": r"MONGO_INITDB_ROOT_(USERNAME|PASSWORD)",
    "postgres": r"POSTGRES_(USER|PASSWORD|DB)",
    "redis": r"REDISCLI_AUTH",
    "versity/versitygw": r"ROOT_(ACCESS|SECRET)_KEY|VGW_\w+",
}
every_service = pytest.mark.parametrize("name", SERVICES)


def image_of(name: str) -> tuple[str, str]:
    image, _, tag = SERVICES[name]["image"].rpartition(":")
    return image, tag


def in_image() -> list[str]:
    """What .dockerignore lets into the image."""
    return re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)


def test_every_server_of_the_local_stack_is_there(tmp_path: Path) -> None:
    local = {server.name for server in Stack(tmp_path, environ={}).status()}
    assert local - set(SERVICES) == set()


@every_service
def test_environment_holds_only_names_that_are_read(name: str) -> None:
    image, _ = image_of(name)
    ours = r"AIRFLOW__[A-Z]+(_[A-Z]+)*__[A-Z_]+"
    settings = {setting.upper() for setting in Settings.model_fields}
    known = re.compile(ours if image == "sleeve" else SERVER_VARIABLES.get(image, "(?!)"))
    unknown = {
        variable
        for variable in SERVICES[name].get("environment", {})
        if not known.fullmatch(variable) and not (image == "sleeve" and variable in settings)
    }
    assert unknown == set()


@every_service
def test_environment_values_are_text(name: str) -> None:
    # Compose turns YAML's booleans and numbers into a text that need not be the one that was written.
    values = SERVICES[name].get("environment", {})
    assert {key: value for key, value in values.items() if not isinstance(value, str)} == {}


def test_airflow_has_every_setting_of_the_local_stack(tmp_path: Path) -> None:
    local = airflow.settings(tmp_path, 1, defaultdict(str)).keys() - {"AIRFLOW_HOME"}
    for name in (name for name in SERVICES if name.startswith("airflow-")):
        assert local - SERVICES[name]["environment"].keys() == set(), name


def test_pools_are_those_of_the_local_stack() -> None:
    script = (ROOT / "deploy" / "airflow-init.sh").read_text()
    assert set(re.findall(r'"(\w+)": {"slots"', script)) == set(airflow.POOLS)


def test_topics_and_queues_are_those_of_the_local_stack() -> None:
    command = SERVICES["kafka-topics"]["command"][0].split(";")[0]
    assert {name: int(count) for name, count in re.findall(r"([a-z-]+):(\d+)", command)} == TOPICS
    queues = (ROOT / "deploy" / "elasticmq.conf").read_text()
    assert set(re.findall(r"^  ([a-z-]+) {", queues, re.MULTILINE)) == {QUEUE, DEAD_LETTER_QUEUE}


@every_service
def test_dependencies_exist_and_can_be_waited_for(name: str) -> None:
    for dependency, how in SERVICES[name].get("depends_on", {}).items():
        assert dependency in SERVICES
        once = SERVICES[dependency]["restart"] == "no"
        expected = "service_completed_successfully" if once else "service_healthy"
        assert how == {"condition": expected}, dependency


@every_service
def test_what_stays_up_is_checked_and_bounded(name: str) -> None:
    service = SERVICES[name]
    assert "stop_grace_period" in service
    if service["restart"] != "no":
        assert service["restart"] == "unless-stopped"
        assert {"healthcheck", "mem_limit"} <= service.keys()


@every_service
def test_ports_are_published_to_this_machine_only(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)


@every_service
def test_mounts_exist_and_mounted_files_are_read_only(name: str) -> None:
    for mount in SERVICES[name].get("volumes", []):
        source = mount.split(":")[0]
        if source.startswith("."):
            assert (ROOT / source).exists(), source
            assert mount.endswith(":ro"), mount
        else:
            assert source in COMPOSE["volumes"], source


@every_service
def test_images_are_pinned(name: str) -> None:
    image, tag = image_of(name)
    if image == "sleeve":
        assert SERVICES[name]["build"] == "."
    else:
        assert re.fullmatch(r"v?\d+\.\d+(\.\d+)?", tag)


def test_servers_have_the_versions_of_the_local_stack() -> None:
    pom = (ROOT / "devstack" / "pom.xml").read_text()
    versions = dict(re.findall(r"<artifactId>([\w.-]+)</artifactId>\s*<version>([\d.]+)</version>", pom))
    gateway = re.search(r"versity/versitygw (v[\d.]+)", (ROOT / "devstack" / "tools" / "go.mod").read_text())
    assert gateway
    assert image_of("kafka")[1] == versions["kafka_2.13"]
    assert image_of("sqs")[1] == versions["elasticmq-server_2.13"]
    assert image_of("s3")[1] == image_of("s3-artefacts")[1] == gateway[1]


def test_env_example_names_exactly_the_variables_that_compose_asks_for() -> None:
    text = (ROOT / "docker-compose.yaml").read_text()
    required = set(re.findall(r"(?<!\$)\$\{(\w+):\?", text))
    optional = dict(re.findall(r"(?<!\$)\$\{(\w+):-([^}]*)\}", text))
    lines = re.findall(r"^(\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    # A secret has no value there, so that nobody runs with one that everybody knows.
    assert dict(lines) == dict.fromkeys(required, "") | optional
    assert len(re.findall(r"(?<!\$)\$\{", text)) == len(re.findall(r"(?<!\$)\$\{\w+:[?-]", text))


def test_what_goes_into_the_image_exists() -> None:
    assert [name for name in in_image() if not (ROOT / name).exists()] == []
    for service in SERVICES.values():
        words = [*service.get("command", []), *service.get("healthcheck", {}).get("test", [])]
        scripts = [word.removeprefix("/opt/sleeve/") for word in words if "deploy/" in word]
        assert [script for script in scripts if not (ROOT / script).is_file()] == []


def test_the_init_script_can_be_run() -> None:
    assert os.access(ROOT / "deploy" / "airflow-init.sh", os.X_OK)


def _imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_code_in_the_image_imports_nothing_that_stays_out() -> None:
    local = {path.name for path in ROOT.iterdir() if path.is_dir() and any(path.glob("*.py"))} - set(
        sys.stdlib_module_names
    )
    left_out = local - set(in_image())
    for folder in in_image():
        for path in (ROOT / folder).rglob("*.py"):
            assert _imported(path) & left_out == set(), path


def test_opencv_has_the_same_limit_in_the_image_as_in_the_library() -> None:
    assert pipeline.__file__
    limit = re.search(r"OPENCV_IO_MAX_IMAGE_PIXELS=(\d+)", (ROOT / "Dockerfile").read_text())
    library = re.search(r'OPENCV_IO_MAX_IMAGE_PIXELS", str\(([\d_]+)\)', Path(pipeline.__file__).read_text())
    assert limit
    assert library
    assert int(limit[1]) == int(library[1])
