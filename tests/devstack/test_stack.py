"""The local servers: real processes, each spoken to in its own protocol."""

import json
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import psutil
import pytest
from botocore.exceptions import ClientError
from confluent_kafka import Consumer, Producer
from pymongo import MongoClient
from pymongo.errors import ConnectionFailure, DuplicateKeyError
from redis import AuthenticationError, Redis

from devstack import processes
from devstack.errors import DevstackError
from devstack.stack import Stack

SERVERS = ("kafka", "mongo", "s3", "sqs", "redis")
# Nothing of whoever runs the tests may lead the stack to other servers.
ENVIRON = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "")}
EVENTS = Path(__file__).parents[1] / "data" / "events"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("stack"), SERVERS, environ=ENVIRON) as running:
        yield running


@pytest.fixture(scope="module")
def client(stack: Stack) -> Callable[[str], Any]:
    def make(service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=stack.env[f"{service.upper()}_ENDPOINT_URL"],
            region_name=stack.env["S3_REGION"],
            aws_access_key_id=stack.env["S3_ACCESS_KEY_ID"],
            aws_secret_access_key=stack.env["S3_SECRET_ACCESS_KEY"],
        )

    return make


@pytest.fixture
def listen(stack: Stack) -> Iterator[Callable[[Callable[[dict[str, Any]], bool]], dict[str, Any]]]:
    """Returns a function that waits for the first message on `images` that a condition holds for."""
    group = {"group.id": uuid.uuid4().hex, "auto.offset.reset": "earliest"}
    consumer = Consumer({"bootstrap.servers": stack.env["KAFKA_BOOTSTRAP_SERVERS"], **group})
    consumer.subscribe(["images"])

    def wait(wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            message = consumer.poll(0.2)
            if message is not None and message.error() is None:
                body: dict[str, Any] = json.loads(message.value())
                if wanted(body):
                    return body
        raise AssertionError("no such message came within 15 s")

    yield wait
    consumer.close()


def pids(stack: Stack) -> dict[str, int | None]:
    return {line.name: line.pid for line in stack.status()}


def about(key: str, event: str) -> Callable[[dict[str, Any]], bool]:
    def matches(body: dict[str, Any]) -> bool:
        return any(
            record["s3"]["object"]["key"] == key and record["eventName"] == f"s3:{event}"
            for record in body.get("Records", [])
        )

    return matches


def test_second_start_changes_nothing(stack: Stack) -> None:
    before = pids(stack)
    assert all(before.values())

    again = Stack(stack.state_dir, SERVERS, environ=ENVIRON)

    assert again.start() == []
    assert pids(again) == before
    assert again.env.items() >= stack.env.items()


def test_a_sourced_env_file_does_not_make_the_own_servers_external(stack: Stack) -> None:
    again = Stack(stack.state_dir, SERVERS, environ=ENVIRON | stack.env)

    assert again.external == frozenset()
    assert pids(again) == pids(stack)


def test_a_stack_of_other_parts_knows_the_servers_of_the_same_directory(stack: Stack) -> None:
    other = Stack(stack.state_dir, ("api",), environ=ENVIRON)

    assert other.env.items() >= stack.env.items()
    assert "SLEEVE_API_URL" in other.env


def test_env_file_is_private(stack: Stack) -> None:
    file = stack.state_dir / "env"

    assert file.stat().st_mode & 0o777 == 0o600
    assert f"KAFKA_BOOTSTRAP_SERVERS={stack.env['KAFKA_BOOTSTRAP_SERVERS']}" in file.read_text().splitlines()


def test_servers_listen_on_this_machine_only(stack: Stack) -> None:
    listening = {
        connection.laddr.ip
        for line in stack.status()
        for connection in psutil.Process(line.pid).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }

    assert listening <= {"127.0.0.1", "::ffff:127.0.0.1"}


def test_kafka_carries_a_message_and_its_topics_exist(stack: Stack, listen: Callable[..., dict[str, Any]]) -> None:
    producer = Producer({"bootstrap.servers": stack.env["KAFKA_BOOTSTRAP_SERVERS"]})
    key = uuid.uuid4().hex

    producer.produce("images", json.dumps({"bucket": "images", "key": key}))
    assert producer.flush(10) == 0

    assert listen(lambda body: body.get("key") == key) == {"bucket": "images", "key": key}
    topics = producer.list_topics(timeout=5).topics
    assert {"images", "images-dead-letter", "image-results"} <= set(topics)
    assert len(topics["images"].partitions) == 4


def test_mongo_keeps_documents_and_unique_keys(stack: Stack) -> None:
    with MongoClient(stack.env["MONGODB_URI"]) as mongo:
        images = mongo["round_trip"]["images"]
        images.create_index([("bucket", 1), ("key", 1)], unique=True)
        images.insert_one({"bucket": "images", "key": "a"})

        with pytest.raises(DuplicateKeyError):
            images.insert_one({"bucket": "images", "key": "a"})
        changed = images.find_one_and_update({"key": "a"}, {"$set": {"status": "collected"}}, return_document=True)
        assert changed["status"] == "collected"


def test_sqs_gives_up_on_a_message_into_the_dead_letter_queue(stack: Stack, client: Callable[[str], Any]) -> None:
    sqs, queue = client("sqs"), stack.env["SQS_QUEUE_URL"]
    sqs.send_message(QueueUrl=queue, MessageBody="photo")
    for _ in range(5):
        received = sqs.receive_message(QueueUrl=queue, VisibilityTimeout=0, WaitTimeSeconds=5)["Messages"]
        assert [message["Body"] for message in received] == ["photo"]

    assert not sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1).get("Messages")
    dead = sqs.receive_message(QueueUrl=f"{queue}-dead-letter", WaitTimeSeconds=5)["Messages"]
    assert [message["Body"] for message in dead] == ["photo"]


def test_s3_creates_an_object_once_and_replaces_it_only_on_a_match(client: Callable[[str], Any]) -> None:
    s3 = client("s3")
    first = s3.put_object(Bucket="images", Key="once", Body=b"1", IfNoneMatch="*")["ETag"]
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket="images", Key="once", Body=b"2", IfNoneMatch="*")
    s3.put_object(Bucket="images", Key="once", Body=b"3", IfMatch=first)
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket="images", Key="once", Body=b"4", IfMatch=first)

    assert s3.get_object(Bucket="images", Key="once")["Body"].read() == b"3"


@pytest.mark.parametrize(
    ("name", "key"),
    [("plain", "2024/cat.jpg"), ("special", "summer 2024/a+b & c=d/Größe 猫.jpg")],
)
def test_an_upload_and_its_deletion_arrive_on_the_topic(
    name: str, key: str, client: Callable[[str], Any], listen: Callable[..., dict[str, Any]]
) -> None:
    client("s3").put_object(Bucket="images", Key=key, Body=b"pixels")
    created = listen(about(key, "ObjectCreated:Put"))
    client("s3").delete_object(Bucket="images", Key=key)
    removed = listen(about(key, "ObjectRemoved:Delete"))

    assert created["Records"][0]["s3"]["bucket"]["name"] == "images"
    assert created["Records"][0]["s3"]["object"]["size"] == len(b"pixels")
    assert same_shape(created, EVENTS / f"versitygw_{name}.json")
    assert same_shape(removed, EVENTS / f"versitygw_delete_{name}.json")


def test_a_multipart_upload_arrives_on_the_topic(
    client: Callable[[str], Any], listen: Callable[..., dict[str, Any]]
) -> None:
    s3, where = client("s3"), {"Bucket": "images", "Key": "large/panorama.tif"}
    upload = where | {"UploadId": s3.create_multipart_upload(**where)["UploadId"]}
    part = s3.upload_part(**upload, PartNumber=1, Body=b"x" * (5 << 20))
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})

    event = listen(about(where["Key"], "ObjectCreated:CompleteMultipartUpload"))

    assert same_shape(event, EVENTS / "versitygw_multipart.json")


def test_the_gateway_announces_itself_with_a_test_event(listen: Callable[..., dict[str, Any]]) -> None:
    event = listen(lambda body: "Records" not in body and "Service" in body)

    assert same_shape(event, EVENTS / "versitygw_test_event.json")


def shape(value: Any) -> Any:
    """Returns the value with every leaf but the object's key and the event's name replaced by its type."""
    if isinstance(value, dict):
        return {k: v if k in ("key", "eventName", "Event") else shape(v) for k, v in value.items()}
    return [shape(each) for each in value] if isinstance(value, list) else type(value).__name__


def same_shape(event: dict[str, Any], captured: Path) -> bool:
    """Whether the gateway still sends what the event parsers are tested with; CAPTURE_EVENTS=1 captures anew."""
    if os.environ.get("CAPTURE_EVENTS"):
        captured.parent.mkdir(parents=True, exist_ok=True)
        captured.write_text(json.dumps(event, indent=2, ensure_ascii=False) + "\n")
    return bool(shape(event) == shape(json.loads(captured.read_text())))


def test_no_acknowledged_document_is_lost_when_mongo_is_killed(stack: Stack) -> None:
    acknowledged: list[int] = []

    def insert() -> None:
        with MongoClient(stack.env["MONGODB_URI"], retryWrites=False, serverSelectionTimeoutMS=500) as mongo:
            number = 0
            while True:
                mongo["durability"]["images"].insert_one({"_id": number})
                acknowledged.append(number)
                number += 1

    def insert_until_the_connection_breaks() -> None:
        with pytest.raises(ConnectionFailure):
            insert()

    writer = threading.Thread(target=insert_until_the_connection_breaks)
    writer.start()
    while len(acknowledged) < 500:
        assert writer.is_alive()
        time.sleep(0.01)
    stack.kill("mongo")
    writer.join(timeout=20)
    assert not writer.is_alive()
    stack.start_server("mongo")

    with MongoClient(stack.env["MONGODB_URI"]) as mongo:
        kept = {document["_id"] for document in mongo["durability"]["images"].find()}
    assert set(acknowledged) <= kept


@pytest.mark.parametrize("name", ["kafka", "s3", "sqs"])
def test_a_killed_server_is_seen_and_started_again_with_its_data(
    name: str, stack: Stack, client: Callable[[str], Any], listen: Callable[..., dict[str, Any]]
) -> None:
    key = f"kept/{uuid.uuid4().hex}.jpg"
    client("s3").put_object(Bucket="images", Key=key, Body=b"pixels")
    client("sqs").send_message(QueueUrl=stack.env["SQS_QUEUE_URL"], MessageBody=key)
    listen(about(key, "ObjectCreated:Put"))
    before = pids(stack)

    stack.kill(name)
    assert {line.name: line.state for line in stack.status()}[name] == "died"
    assert stack.start() == [name]

    assert {other: pid for other, pid in pids(stack).items() if other != name} == {
        other: pid for other, pid in before.items() if other != name
    }
    assert client("s3").get_object(Bucket="images", Key=key)["Body"].read() == b"pixels"
    received = client("sqs").receive_message(QueueUrl=stack.env["SQS_QUEUE_URL"], WaitTimeSeconds=5)["Messages"]
    assert [message["Body"] for message in received] == [key]
    client("sqs").purge_queue(QueueUrl=stack.env["SQS_QUEUE_URL"])


def test_stop_leaves_no_process_and_a_second_stop_is_fine(tmp_path: Path) -> None:
    stack = Stack(tmp_path, ("mongo", "sqs"), environ=ENVIRON)
    stack.start()
    records = [processes.read_record(tmp_path / "pids" / f"{name}.json") for name in ("mongo", "sqs")]
    assert all(processes.members(record) for record in records if record)

    assert sorted(stack.stop()) == ["mongo", "sqs"]

    assert [processes.members(record) for record in records if record] == [[], []]
    assert stack.stop() == []


def test_stop_spares_a_stranger_that_got_the_pid(tmp_path: Path) -> None:
    stranger = psutil.Popen(["sleep", "60"], start_new_session=True)
    try:
        stack = Stack(tmp_path, ("mongo",), environ=ENVIRON)
        record = {"pid": stranger.pid, "created": stranger.create_time() - 3600}
        (tmp_path / "pids" / "mongo.json").write_text(json.dumps(record))

        assert stack.stop() == []
        assert stranger.is_running()
    finally:
        stranger.kill()
        stranger.wait()


def test_orphans_of_a_dead_leader_are_ended_too(tmp_path: Path) -> None:
    stack = Stack(tmp_path, ("mongo",), environ=ENVIRON)
    log, record_file = tmp_path / "log", tmp_path / "pids" / "mongo.json"
    leader = processes.start(["sh", "-c", "sleep 60 & wait"], ENVIRON, tmp_path, log, record_file)
    record = processes.read_record(record_file)
    assert record is not None
    while len(processes.members(record)) < 2:
        assert leader.poll() is None
    leader.kill()
    leader.wait()
    assert len(processes.members(record)) == 1

    stack.stop()

    assert processes.members(record) == []


def test_a_server_that_dies_while_starting_is_reported_with_its_log(tmp_path: Path) -> None:
    (tmp_path / "mongo").mkdir()
    (tmp_path / "mongo" / "data.mv").write_bytes(b"this is no database" * 1000)
    began = time.monotonic()

    with pytest.raises(DevstackError, match=r"(?s)mongo died while starting.*Exception"):
        Stack(tmp_path, ("mongo",), environ=ENVIRON).start()

    assert time.monotonic() - began < 15
    Stack(tmp_path, ("mongo",), environ=ENVIRON).stop()


def test_an_external_address_is_passed_on_and_nothing_is_started(tmp_path: Path) -> None:
    outside = {"MONGODB_URI": "mongodb://db.example:27017", "S3_ENDPOINT_URL": "aws", "S3_ACCESS_KEY_ID": "AKIA"}

    stack = Stack(tmp_path, ("mongo", "s3"), environ=ENVIRON | outside)

    assert stack.start() == []
    assert {line.state for line in stack.status()} == {"external"}
    assert stack.env["MONGODB_URI"] == "mongodb://db.example:27017"
    assert (stack.env["S3_ENDPOINT_URL"], stack.env["S3_ACCESS_KEY_ID"]) == ("", "AKIA")


def test_a_port_in_use_is_named(tmp_path: Path, stack: Stack) -> None:
    port = stack.env["MONGODB_URI"].rsplit(":", 1)[1]

    with pytest.raises(DevstackError, match=f"port {port}.*SLEEVE_MONGO_PORT"):
        Stack(tmp_path, ("mongo",), environ=ENVIRON | {"SLEEVE_MONGO_PORT": port}).start()


def test_redis_wants_its_password_which_stands_on_no_command_line(stack: Stack) -> None:
    address = stack.env["REDIS_URL"]
    with Redis.from_url(address) as client:
        assert client.set("key", "value")
    with Redis.from_url(re.sub(r":[^:@]+@", "", address)) as stranger, pytest.raises(AuthenticationError):
        stranger.get("key")
    password = urlsplit(address).password
    assert password
    [pid] = [line.pid for line in stack.status() if line.name == "redis"]
    assert not any(password in word for word in psutil.Process(pid).cmdline())
    assert password not in (stack.state_dir / "logs" / "redis.log").read_text()


def test_a_missing_redis_is_named_with_the_way_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DevstackError, match="redis-server is not on PATH: sudo apt-get install -y redis-server"):
        Stack(tmp_path, ("redis",), environ=ENVIRON).start()


def test_unknown_parts_are_named() -> None:
    with pytest.raises(DevstackError, match="kafak"):
        Stack(parts=("kafak",))
