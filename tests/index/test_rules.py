import re

import pytest

from pipeline.errors import IndexTooLarge
from pipeline.index.rules import choose, lists_for

ROOMY = 1 << 50


def kind(images: int, megabytes: int, milliseconds: float) -> tuple[str, int]:
    chosen = choose(images, 500, megabytes << 20, milliseconds)
    return chosen.codes, chosen.per_image


def test_without_limits_the_most_accurate_is_taken() -> None:
    assert kind(80, 1 << 30, 1e9) == ("exact", 500)
    assert kind(81, 1 << 30, 1e9) == ("sq8", 500)
    assert kind(10_000_000, 1 << 30, 1e9) == ("sq8", 500)


def test_less_memory_means_shorter_codes_and_then_fewer_descriptors() -> None:
    found = [kind(100_000, megabytes, 1e9) for megabytes in (6600, 1700, 1300, 700, 500)]
    assert found == [("sq8", 500), ("rabitq", 500), ("pq", 500), ("rabitq", 200), ("pq", 200)]


def test_less_time_means_a_kind_that_is_scanned_faster() -> None:
    assert kind(1000, 1 << 30, 1000) == ("sq8", 500)
    assert kind(1000, 1 << 30, 20) == ("pq", 500)


def test_the_reason_says_which_budget_refused_what() -> None:
    reason = choose(100_000, 500, 1500 << 20, 150).reason
    assert reason.startswith("pq of 500 descriptors an image")
    assert re.search(r"not exact .*: 50000000 descriptors, at most 40000;", reason)
    assert re.search(r"not sq8 .*: \d+ MB, INDEX_MEMORY_MB is 1500", reason)
    slow = choose(1000, 500, 1 << 40, 20).reason
    assert re.search(r"not sq8 .*: \d+ ms, SEARCH_BUDGET_MS is 20", slow)


def test_what_fits_no_budget_is_refused_with_a_way_out() -> None:
    with pytest.raises(IndexTooLarge) as refused:
        choose(1_000_000, 500, 2048 << 20, 30)
    found = re.search(
        r"Raise INDEX_MEMORY_MB from 2048 to (\d+) and SEARCH_BUDGET_MS from 30 to (\d+), "
        r"or keep at most (\d+) images",
        str(refused.value),
    )
    assert found
    memory, time, images = (int(one) for one in found.groups())
    # All it proposes works, and not much less would.
    assert choose(1_000_000, 500, memory << 20, time).codes == "pq"
    assert choose(images, 500, 2048 << 20, 30)
    with pytest.raises(IndexTooLarge):
        choose(images + 1, 500, 2048 << 20, 30)
    with pytest.raises(IndexTooLarge):
        choose(1_000_000, 500, (memory - 1) << 20, time)


def test_two_hundred_million_descriptors_are_searched_in_150_ms() -> None:
    chosen = choose(1_000_000, 200, ROOMY, 150)
    assert chosen.lists == 1 << 15
    assert chosen.probes == 8
    assert chosen.latency_ms < 150


def test_the_number_of_lists_grows_with_the_square_root() -> None:
    found = [lists_for(n) for n in (1, 16, 40_000, 1_500_000, 2_500_000, 200_000_000, 10**12)]
    assert found == [1, 4, 128, 1024, 4096, 32768, 65536]


def test_an_empty_collection_is_searched_exactly() -> None:
    assert choose(0, 0.0, 1 << 30, 50).codes == "exact"
