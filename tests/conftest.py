"""Real servers for the tests: one stack for the session, one database and one pair of buckets for each test."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from playwright.sync_api import Browser, sync_playwright
from pydantic import SecretStr

from devstack.stack import Stack
from pipeline.context import Context
from pipeline.settings import Settings
from pipeline.stores.catalog import Catalog
from pipeline.stores.objects import Objects

# Debian's; Playwright would download its own.
CHROMIUM = "/usr/bin/chromium"


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Kafka, the MongoDB stand-in, S3, SQS and Redis, without Airflow."""
    with Stack(tmp_path_factory.mktemp("stack"), parts=("kafka", "mongo", "s3", "sqs", "redis")) as running:
        yield running


# Of a module, not of the session: while Playwright runs, no test can start an event loop of its own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # CI runs as root, where Chromium's sandbox does not start.
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def settings(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings that lead to the stack, with a database, buckets and topics that no other test uses."""
    name = f"t-{uuid4().hex[:12]}"
    monkeypatch.setenv("SLEEVE_ENV_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("SLEEVE_CONFIG", str(tmp_path / "none"))
    values = {key.lower(): value for key, value in stack.env.items()}
    own = {
        "database_name": name,
        "s3_bucket": f"{name}-images",
        "sleeve_bucket": f"{name}-sleeve",
        "sleeve_home": tmp_path / "home",
        "kafka_topic": f"{name}-images",
        "kafka_dead_letter_topic": f"{name}-dead",
    }
    return Settings(**{**values, **own})


@pytest.fixture
def objects(settings: Settings) -> Objects:
    objects = Objects(settings)
    for bucket in (settings.require("s3_bucket"), settings.sleeve_bucket):
        objects.client(bucket).create_bucket(Bucket=bucket)
    return objects


@pytest.fixture
def catalog(settings: Settings) -> Iterator[Catalog]:
    catalog = Catalog(settings)
    catalog.prepare()
    yield catalog
    catalog.client.drop_database(settings.database_name)
    catalog.close()


@pytest.fixture
def topics(settings: Settings) -> Settings:
    """The test's own topics: images with two partitions, and the dead letters."""
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
    new = [NewTopic(settings.kafka_topic, 2, 1), NewTopic(settings.kafka_dead_letter_topic, 1, 1)]
    for created in admin.create_topics(new).values():
        created.result(timeout=20)
    return settings


@pytest.fixture
def context(settings: Settings, catalog: Catalog, objects: Objects, topics: Settings) -> Context:
    context = Context(settings)
    context.catalog, context.objects = catalog, objects
    return context


@pytest.fixture
def shell(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The environment of a worker or a shell that leads to this test's servers, whatever they hold."""
    for name, value in settings.model_dump(exclude_none=True).items():
        text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        monkeypatch.setenv(name.upper(), text)
    return settings


@pytest.fixture
def environment(context: Context, shell: Settings) -> Context:
    """As `shell`, with the stores prepared."""
    return context


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first: without servers, then with them, then with Airflow."""

    def cost(item: pytest.Item) -> int:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        if folder in ("devstack", "e2e"):
            return 2
        return int("stack" in getattr(item, "fixturenames", ()))

    items.sort(key=cost)
