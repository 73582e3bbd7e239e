import gc
from collections.abc import Iterator

import pytest

from service.kit.memory import settle


@pytest.fixture(autouse=True)
def collector_as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def test_what_is_loaded_when_a_process_settles_is_never_looked_at_again():
    loaded = [[] for _ in range(100)]
    settle()
    assert gc.get_freeze_count() > len(loaded)
    assert not any(each is loaded for each in gc.get_objects())


def test_a_settled_process_still_collects_cycles():
    settle()
    cycle: list[object] = []
    cycle.append(cycle)
    del cycle
    assert gc.isenabled()
    assert gc.collect() >= 1
