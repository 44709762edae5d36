"""When the bell rings, given one look at the backlog after another."""

import itertools

import pytest

from pipeline.doorbell import MICRO_BATCH, Bell


@pytest.fixture
def bell() -> Bell:
    return Bell(ring_again=15.0)


def test_silent_while_nothing_waits(bell: Bell) -> None:
    assert not any(bell.rings(0, now) for now in range(100))


def test_rings_at_once_and_then_not_for_the_same_backlog(bell: Bell) -> None:
    assert bell.rings(5, 0.0)
    assert not any(bell.rings(5, now / 10) for now in range(1, 150))


def test_rings_again_while_the_backlog_lasts(bell: Bell) -> None:
    rung = [now for now in range(100) if bell.rings(5, now)]
    assert rung == [0, 15, 30, 45, 60, 75, 90]


def test_rings_again_although_the_backlog_shrinks(bell: Bell) -> None:
    """A run that takes long works it off; if it died half-way, nobody else would ring."""
    rung = [now for now in range(40) if bell.rings(100 - now, now)]
    assert rung == [0, 15, 30]


def test_growth_rings_once_for_each_micro_batch(bell: Bell) -> None:
    """A message every tenth of a second for half a minute: a ring for each micro-batch, not for each message."""
    rung = [step / 10 for step in range(300) if bell.rings(step + 1, step / 10)]
    assert rung[0] == 0.0
    gaps = [after - before for before, after in itertools.pairwise(rung)]
    assert all(gap == pytest.approx(MICRO_BATCH, abs=0.11) for gap in gaps)
    assert len(rung) == pytest.approx(30 / MICRO_BATCH, abs=1)


def test_growth_within_the_micro_batch_is_not_forgotten(bell: Bell) -> None:
    assert bell.rings(1, 0.0)
    assert not bell.rings(9, 0.5)
    assert not bell.rings(9, MICRO_BATCH - 0.1)
    assert bell.rings(9, MICRO_BATCH)


def test_growth_after_a_fall_rings(bell: Bell) -> None:
    """A run took 90 of 100 and new messages came behind it: fewer than at the last ring, and still news."""
    assert bell.rings(100, 0.0)
    assert not bell.rings(10, 4.0)
    assert bell.rings(20, 5.0)


def test_empty_resets(bell: Bell) -> None:
    assert bell.rings(5, 0.0)
    assert not bell.rings(0, 1.0)
    assert bell.rings(1, 1.5)


def test_longer_ring_again_is_kept() -> None:
    bell = Bell(ring_again=3600.0)
    rung = [now for now in range(0, 7300, 10) if bell.rings(1, now)]
    assert rung == [0, 3600, 7200]
