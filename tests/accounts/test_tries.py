"""Limits on tries: who is stopped, who is not, for how long, and what happens without Redis."""

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from pipeline.accounts.tries import ONE_ADDRESS, ONE_NAME, ONE_NAME_FROM_ONE_ADDRESS, SIGN_UPS, Tries, address_of
from pipeline.errors import NotSignedIn, TooManyTries
from pipeline.settings import Settings


def tries_of(redis_url: str | None, database: str = "sleeve") -> Tries:
    return Tries(Settings(redis_url=redis_url, database_name=database))


def fail(tries: Tries, name: str, address: str, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(NotSignedIn), tries.password(name, address):
            raise NotSignedIn("wrong")


def succeed(tries: Tries, name: str, address: str) -> None:
    with tries.password(name, address):
        pass


def is_stopped(tries: Tries, name: str, address: str) -> bool:
    try:
        succeed(tries, name, address)
    except TooManyTries as error:
        return 0 < error.seconds <= 600
    return False


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        with redis.Redis(port=port) as client:
            deadline = time.monotonic() + 20
            while True:
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(params=["memory", "redis"])
def tries(request: pytest.FixtureRequest) -> Tries:
    return tries_of(request.getfixturevalue("redis_url") if request.param == "redis" else None)


def test_one_guesser_stops_only_himself(tries: Tries) -> None:
    fail(tries, "eve", "10.0.0.1", ONE_NAME_FROM_ONE_ADDRESS.amount)
    assert is_stopped(tries, "EVE", "10.0.0.1")
    assert not is_stopped(tries, "eve", "10.0.0.2")
    assert not is_stopped(tries, "bob", "10.0.0.1")


def test_an_address_that_tries_many_names_is_stopped(tries: Tries) -> None:
    for number in range(ONE_ADDRESS.amount):
        fail(tries, f"user{number}", "10.0.0.1")
    assert is_stopped(tries, "eve", "10.0.0.1")
    assert not is_stopped(tries, "eve", "10.0.0.2")


def test_a_crowd_of_guessers_does_not_lock_out_known_addresses(tries: Tries) -> None:
    succeed(tries, "eve", "192.0.2.1")
    each = ONE_NAME_FROM_ONE_ADDRESS.amount - 1
    for number in range(ONE_NAME.amount // each + 1):
        address = f"10.0.1.{number}"
        if not is_stopped(tries, "other", address):
            fail_until_stopped(tries, "eve", address, each)
    assert is_stopped(tries, "eve", "10.0.2.1")
    assert not is_stopped(tries, "eve", "192.0.2.1")


def fail_until_stopped(tries: Tries, name: str, address: str, times: int) -> None:
    for _ in range(times):
        try:
            with tries.password(name, address):
                raise NotSignedIn("wrong")
        except (NotSignedIn, TooManyTries):
            continue


def test_successes_are_not_counted(tries: Tries) -> None:
    for _ in range(ONE_ADDRESS.amount + 1):
        succeed(tries, "eve", "10.0.0.1")


def test_every_sign_up_counts(tries: Tries) -> None:
    for _ in range(SIGN_UPS.amount):
        tries.sign_up("10.0.0.1")
    with pytest.raises(TooManyTries, match="Try again in"):
        tries.sign_up("10.0.0.1")
    tries.sign_up("10.0.0.2")


def test_replicas_count_together_and_alone_while_redis_is_away(redis_url: str) -> None:
    one, other, elsewhere = tries_of(redis_url), tries_of(redis_url), tries_of(redis_url, "another")
    fail(one, "eve", "10.0.0.1", ONE_NAME_FROM_ONE_ADDRESS.amount)
    assert is_stopped(other, "eve", "10.0.0.1")
    assert not is_stopped(elsewhere, "eve", "10.0.0.1")
    with redis.Redis.from_url(redis_url) as client:
        client.shutdown(nosave=True)
    fail(other, "eve", "10.0.0.1", ONE_NAME_FROM_ONE_ADDRESS.amount)
    assert is_stopped(other, "eve", "10.0.0.1")


def test_an_ipv6_customer_is_one_address() -> None:
    assert address_of("2001:db8:1:2:aaaa::1") == address_of("2001:db8:1:2:bbbb::2") != address_of("2001:db8:1:3::1")
    assert address_of("::ffff:192.0.2.1") == "192.0.2.1" == address_of("192.0.2.1")
    assert address_of(None) == "unknown"
