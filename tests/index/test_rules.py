import re

import pytest

from pipeline.errors import IndexTooLarge
from pipeline.index.rules import PER_IMAGE, choose, lists_for

ROOMY = 1 << 50


def kind(images: int, megabytes: int, milliseconds: float) -> str:
    return choose(images, 500, megabytes << 20, milliseconds).codes


def test_without_limits_the_most_accurate_is_taken() -> None:
    assert kind(160, 1 << 30, 1e9) == "exact"
    assert kind(180, 1 << 30, 1e9) == "sq8"
    assert kind(10_000_000, 1 << 30, 1e9) == "sq8"


def test_less_memory_means_shorter_codes() -> None:
    assert [kind(100_000, megabytes, 1e9) for megabytes in (3200, 800, 600)] == ["sq8", "rabitq", "pq"]


def test_less_time_means_a_kind_that_is_scanned_faster() -> None:
    assert kind(10_000, 1 << 30, 1000) == "sq8"
    assert kind(10_000, 1 << 30, 20) == "pq"


def test_pictures_with_few_features_cost_less() -> None:
    assert choose(1000, 40, ROOMY, 1e9).codes == "exact"
    assert choose(1000, 500, ROOMY, 1e9).descriptors == 1000 * PER_IMAGE


def test_the_reason_says_which_budget_refused_what() -> None:
    reason = choose(100_000, 500, 600 << 20, 150).reason
    assert reason.startswith("pq, 16384 lists for 100000 images")
    assert re.search(r"not exact: 24000000 descriptors, at most 40000;", reason)
    assert re.search(r"not sq8, .*: \d+ MB, INDEX_MEMORY_MB is 600", reason)
    slow = choose(10_000, 500, 1 << 40, 20).reason
    assert re.search(r"not sq8, .*: \d+ ms, SEARCH_BUDGET_MS is 20", slow)


def test_a_latency_that_cannot_be_had_takes_the_fastest() -> None:
    chosen = choose(1_000_000, 500, 8 << 30, 1)
    assert chosen.codes == "pq"
    assert "the fastest that fits INDEX_MEMORY_MB" in chosen.reason


def test_what_fits_no_memory_is_refused_with_a_way_out() -> None:
    with pytest.raises(IndexTooLarge) as refused:
        choose(1_000_000, 500, 2048 << 20, 30)
    found = re.search(r"Raise INDEX_MEMORY_MB from 2048 to (\d+), or keep at most (\d+) images", str(refused.value))
    assert found
    memory, images = (int(one) for one in found.groups())
    # All it proposes works, and not much less would.
    assert choose(1_000_000, 500, memory << 20, 30).codes == "pq"
    assert choose(images, 500, 2048 << 20, 30)
    with pytest.raises(IndexTooLarge):
        choose(images + 1, 500, 2048 << 20, 30)
    with pytest.raises(IndexTooLarge):
        choose(1_000_000, 500, (memory - 1) << 20, 30)


def test_a_million_images_take_six_kilobytes_each_and_are_searched_in_150_ms() -> None:
    chosen = choose(1_000_000, 500, 8 << 30, 25)
    assert chosen.lists == 1 << 15
    assert chosen.memory_bytes < 6 * 1024 * 1_000_000
    assert chosen.latency_ms < 150


def test_the_number_of_lists_grows_with_the_square_root() -> None:
    found = [lists_for(n) for n in (1, 16, 40_000, 1_500_000, 2_500_000, 200_000_000, 10**12)]
    assert found == [1, 4, 128, 1024, 4096, 32768, 65536]


def test_an_empty_collection_is_searched_exactly() -> None:
    assert choose(0, 0.0, 1 << 30, 50).codes == "exact"
