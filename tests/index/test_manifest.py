from pipeline.index.evaluate import passes
from pipeline.index.manifest import Recall, new_id


def test_ids_sort_by_time() -> None:
    made = [new_id() for _ in range(50)]
    assert len(set(made)) == 50
    assert sorted(made, key=lambda one: one[:21]) == made


def measured(recall: float, queries: int) -> Recall:
    return Recall(recall_at_1=recall, queries=queries, unrecognisable=0)


def test_the_gate_lets_chance_pass_and_stops_a_fall() -> None:
    parent = measured(1.0, 100)
    assert passes(measured(0.96, 100), parent)
    assert passes(measured(15 / 16, 16), parent)
    assert not passes(measured(0.8, 100), parent)
    assert not passes(measured(8 / 16, 16), parent)
    assert passes(measured(0.3, 100), None)
    assert not passes(None, parent)
