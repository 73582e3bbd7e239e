"""Holds of checks whose outcome never came are asked for until they are found, and no other than theirs is taken."""

import asyncio
from typing import Any

from service.checks.doubtful_holds import DoubtfulHolds
from service.checks.scripts import CountersUnavailable
from tests.check_builders import a_config, a_limit, a_request, an_attempt

ASK = an_attempt(a_request(), a_config(a_limit({}))).ask


class Counters:
    """Answers as it was told: "away", "nothing" there, or "found"."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str, str]] = []

    async def void(self, tenant_id: str, reservation_id: str, *, placed_by: str) -> Any:
        self.asked.append((tenant_id, reservation_id, placed_by))
        answer = self.answers.pop(0)
        if answer == "away":
            raise CountersUnavailable
        return ASK if answer == "found" else None


async def _take_back(*answers: str, pauses_seconds: tuple[float, ...] = (0, 0, 0)) -> Counters:
    counters: Any = Counters(*answers)
    doubtful = DoubtfulHolds(counters, pauses_seconds=pauses_seconds)
    doubtful.take_back(ASK)
    await asyncio.sleep(0)
    await doubtful.close()
    return counters  # type: ignore[no-any-return] — it stands in for a store


async def test_one_is_asked_for_again_while_the_counters_are_away_or_its_check_has_not_arrived():
    counters = await _take_back("away", "nothing", "found")
    assert counters.asked == [(ASK.tenant_id, ASK.reservation_id, ASK.placed_by)] * 3


async def test_one_that_was_found_is_left_alone_and_one_that_never_is_ends_by_its_time():
    assert len((await _take_back("found", "found")).asked) == 1
    assert len((await _take_back("nothing", "away", "nothing", "found")).asked) == 3


async def test_a_process_that_ends_takes_no_pauses():
    counters = await asyncio.wait_for(_take_back("away", "found", pauses_seconds=(3600, 3600, 3600)), 30)
    assert len(counters.asked) == 2
