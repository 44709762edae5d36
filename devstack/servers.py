"""What each server is: its command line, how it is prepared, and how it shows that it answers."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import httpx
from botocore.config import Config
from botocore.exceptions import ClientError
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from pymongo import MongoClient
from redis import Redis

from devstack.errors import DevstackError
from devstack.provision import DIST, REDIS, class_path
from devstack.state import write_private

HOST = "127.0.0.1"
TOPICS = {"images": 4, "images-dead-letter": 1, "image-results": 4}
QUEUE, DEAD_LETTER_QUEUE = "images", "images-dead-letter"

# One thread of collection is plenty for a development machine, and it starts faster and holds less memory.
_JAVA = ["java", "-XX:+UseSerialGC", "-XX:-UsePerfData"]


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Server:
    """A process to run.

    `prepare` runs before each start and `after_ready` after it; both may be repeated. `ready` raises until the
    server answers in its own protocol. `needs` names the servers that must be ready before this one starts.
    """

    name: str
    address: str
    command: list[str]
    ready: Callable[[], object]
    prepare: Callable[[], object] = _nothing
    after_ready: Callable[[], object] = _nothing
    needs: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)


def _kafka_properties(folder: Path, port: int, controller_port: int) -> str:
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.bootstrap.servers": f"{HOST}:{controller_port}",
        "log.dirs": str(folder / "data"),
        # A mistyped topic should be an error, as it is on a managed cluster.
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": "1",
        # 50 by default: each is a folder and a log to open at every start.
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        # The default waits 3 s for more members whenever a consumer group is empty.
        "group.initial.rebalance.delay.ms": "0",
        # The default refuses a client that wants to hear of a killed consumer within less than 6 s.
        "group.min.session.timeout.ms": "1000",
        # A broker killed and started again is refused until its former self has expired: 9 s by default.
        "broker.session.timeout.ms": "4000",
        "broker.heartbeat.interval.ms": "1000",
    }
    return "".join(f"{key}={value}\n" for key, value in settings.items())


def kafka(folder: Path, port: int, controller_port: int) -> Server:
    properties = folder / "server.properties"
    java = [*_JAVA, "-Xmx384m", "-Dlog4j2.level=WARN", "-cp", class_path("kafka")]

    def prepare() -> None:
        properties.write_text(_kafka_properties(folder, port, controller_port))
        if (folder / "data" / "meta.properties").is_file():
            return
        cluster = ["-t", "c2xlZXZlLWRldnN0YWNrLQ", "--standalone", "--ignore-formatted"]
        command = [*java, "kafka.tools.StorageTool", "format", "-c", str(properties), *cluster]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DevstackError(f"Kafka's storage could not be formatted in {folder}:\n{done.stdout}{done.stderr}")

    admin_settings: dict[str, str | int | float | bool] = {"bootstrap.servers": f"{HOST}:{port}", "log_level": 0}

    def create_topics() -> None:
        wanted = [NewTopic(name, partitions, 1) for name, partitions in TOPICS.items()]
        admin = AdminClient(admin_settings)  # kept by name: its futures fail as soon as it is collected
        for future in admin.create_topics(wanted).values():
            try:
                future.result(timeout=20)
            except KafkaException as error:
                if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
                    raise

    return Server(
        name="kafka",
        address=f"{HOST}:{port}",
        command=[*java, "kafka.Kafka", str(properties)],
        prepare=prepare,
        ready=lambda: AdminClient(admin_settings).list_topics(timeout=1),
        after_ready=create_topics,
    )


def mongo(folder: Path, port: int, database: str) -> Server:
    address = f"mongodb://{HOST}:{port}"

    def ready() -> None:
        client: MongoClient[dict[str, Any]] = MongoClient(address, serverSelectionTimeoutMS=500)
        with client:
            client.admin.command("ping")

    def create_indexes() -> None:
        # MongoDB finds {_id, status} by its _id; the stand-in scans unless a unique index has exactly these fields.
        client: MongoClient[dict[str, Any]] = MongoClient(address)
        with client:
            for field in ("status", "revision"):
                client[database]["images"].create_index(["_id", field], unique=True)

    java = [*_JAVA, "-Xmx512m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", class_path("mongo")]
    return Server(
        name="mongo",
        address=address,
        command=[*java, "MongoStandIn", HOST, str(port), str(folder / "data.mv")],
        ready=ready,
        after_ready=create_indexes,
    )


@dataclass(frozen=True)
class Account:
    """The keys that S3 asks for; SQS's stand-in takes any."""

    access_key: str
    secret_key: str
    region: str

    def client_settings(self, url: str) -> dict[str, Any]:
        """Returns the arguments of a client that gives up quickly, as a readiness check should.

        Make it by a session of its own: boto3's shared one is not safe to use from the threads that start servers.
        """
        return {
            "endpoint_url": url,
            "region_name": self.region,
            "aws_access_key_id": self.access_key,
            "aws_secret_access_key": self.secret_key,
            "config": Config(connect_timeout=1, read_timeout=5, retries={"total_max_attempts": 1}),
        }


def s3(name: str, folder: Path, port: int, account: Account, bucket: str, kafka_address: str | None) -> Server:
    """A gateway with one bucket, whose events go to the topic `images` of `kafka_address`.

    It cannot choose the buckets that send events, as AWS can, so a bucket that must not send any has its own gateway.
    """
    url = f"http://{HOST}:{port}"
    data, event_filter = folder / "data", folder / "event-filter.json"
    options = ["--port", f"{HOST}:{port}", "--region", account.region, "--health", "/healthz", "--quiet"]
    if kafka_address:
        options += ["--event-kafka-url", kafka_address, "--event-kafka-topic", "images"]
        options += ["--event-filter", str(event_filter)]

    def prepare() -> None:
        data.mkdir(exist_ok=True)
        event_filter.write_text(json.dumps({"s3:ObjectCreated:*": True, "s3:ObjectRemoved:*": True}))

    def create_bucket() -> None:
        try:
            boto3.Session().client("s3", **account.client_settings(url)).create_bucket(Bucket=bucket)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise

    return Server(
        name=name,
        address=url,
        command=[str(DIST / "s3" / "versitygw"), *options, "posix", str(data)],
        # The secret goes by the environment: a command line is for everybody to read.
        env={"ROOT_ACCESS_KEY": account.access_key, "ROOT_SECRET_KEY": account.secret_key},
        prepare=prepare,
        ready=lambda: boto3.Session().client("s3", **account.client_settings(url)).list_buckets(),
        after_ready=create_bucket,
        needs=("kafka",) if kafka_address else (),
    )


def _sqs_configuration(folder: Path, port: int) -> str:
    return f"""
node-address {{ protocol = http, host = "{HOST}", port = {port}, context-path = "" }}
rest-sqs {{ enabled = true, bind-port = {port}, bind-hostname = "{HOST}", sqs-limits = strict }}
rest-stats {{ enabled = false }}
aws {{ region = "us-east-1", accountId = "000000000000" }}
messages-storage {{
  enabled = true, driver-class = "org.h2.Driver", username = "", password = "", prune-data-on-init = false
  # H2 by default writes up to half a second later, and a killed server loses what it acknowledged.
  uri = "jdbc:h2:{folder}/messages;WRITE_DELAY=0"
}}
queues {{
  {DEAD_LETTER_QUEUE} {{ }}
  {QUEUE} {{
    defaultVisibilityTimeout = 30 seconds
    deadLettersQueue {{ name = "{DEAD_LETTER_QUEUE}", maxReceiveCount = 5 }}
  }}
}}
"""


def sqs(folder: Path, port: int, account: Account) -> Server:
    url, configuration = f"http://{HOST}:{port}", folder / "elasticmq.conf"

    java = [*_JAVA, "-Xmx192m", f"-Dconfig.file={configuration}", "-cp", class_path("sqs")]
    return Server(
        name="sqs",
        address=url,
        command=[*java, "org.elasticmq.server.Main"],
        prepare=lambda: configuration.write_text(_sqs_configuration(folder, port)),
        ready=lambda: boto3.Session().client("sqs", **account.client_settings(url)).list_queues(),
    )


def redis(folder: Path, port: int, password: str) -> Server:
    """A cache: it keeps nothing over a restart, and forgets what was not asked for longest when it is full."""
    configuration = folder / "redis.conf"
    settings = {
        "bind": HOST,
        "port": str(port),
        "dir": str(folder),
        "requirepass": password,
        "save": '""',
        "appendonly": "no",
        "maxmemory": "128mb",
        "maxmemory-policy": "allkeys-lru",
    }

    def prepare() -> None:
        if shutil.which(REDIS) is None:
            raise DevstackError(f"{REDIS} is not on PATH: sudo apt-get install -y {REDIS}, or set REDIS_URL.")
        # A file of the owner's: a command line is for everybody to read.
        write_private(configuration, "".join(f"{name} {value}\n" for name, value in settings.items()))

    return Server(
        name="redis",
        address=f"redis://{HOST}:{port}",
        command=[REDIS, str(configuration)],
        prepare=prepare,
        ready=lambda: Redis(host=HOST, port=port, password=password, socket_timeout=1).ping(),
    )


def answers_http(url: str) -> Callable[[], object]:
    """Returns a check that raises until a GET of `url` answers 200."""
    return lambda: httpx.get(url, timeout=2).raise_for_status()


def api(port: int, env: dict[str, str]) -> Server:
    url = f"http://{HOST}:{port}"
    return Server(
        name="api",
        address=url,
        command=[sys.executable, "-m", "uvicorn", "pipeline.api.app:app", "--host", HOST, "--port", str(port)],
        env=env,
        ready=answers_http(f"{url}/healthz"),
        needs=("mongo", "s3"),
    )
