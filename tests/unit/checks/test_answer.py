"""The rendered answer to a check is the JSON of its wire shape, whatever the budgets are called."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import product
from random import Random
from typing import Any

import msgspec
import pytest

from service.access.settings import TenantSettings
from service.budgets.matching import BudgetSet
from service.checks.answer import check_answer, render_answer
from service.checks.attempt import Asked, Attempt, prepare_attempt
from service.checks.hold import CounterFigures, Decision
from service.checks.outcome import Outcome, Standing
from service.checks.schemas import read_check
from service.checks.verdict import verdict, verdict_by_policy
from service.config.snapshot import TenantConfig
from service.identity.aliases import AliasBook
from service.identity.completion import complete_dimensions
from service.pricing.price_book import PriceBook
from service.pricing.shipped import shipped_snapshot
from tests.budget_builders import MONTHLY, NOON, a_budget, some_terms

ROLLING = {"kind": "rolling", "length_seconds": 86_400}
LIFETIME = {"kind": "lifetime"}
NAMES = ("core", "@0", '"limit_usd":"0","posted_usd":"0"', "\\", "ü\u2028", "a/b", "")
LARGEST = 9_000_000_000_000_000


@pytest.fixture(scope="module")
def book() -> PriceBook:
    return PriceBook.from_snapshot(shipped_snapshot())


def _attempt(book: PriceBook, name: str, period: Any, mode: str) -> Attempt:
    terms = some_terms(name=name or "x", limit_usd=Decimal("99.5"), mode=mode)
    matches: list[dict[str, Any]] = [{}, {"user": "*"}, {"team": name or "core"}]
    budgets = BudgetSet(1, [a_budget(match, period, terms=terms) for match in matches])
    config = TenantConfig("t", 1, 1, "enforce", TenantSettings(), AliasBook(), budgets)
    body = {
        "request_id": "r",
        "reserve": True,
        "model": "gpt-4.1-mini",
        "input_tokens": 10,
        "max_output_tokens": 20,
        "dimensions": {"user": name, "team": name, "tags": [name]},
    }
    request = read_check(msgspec.json.encode(body))
    asked = Asked(request, complete_dimensions(request.dimensions, None), "r", "f", "p")
    return prepare_attempt(asked, config, book, NOON)


def _outcomes(attempt: Attempt, chance: Random) -> list[Outcome]:
    amounts = [0, 1, 999_999, 1_000_000, 123_456_789, LARGEST]
    outcomes: list[Outcome] = []
    for denies in (False, True):
        is_allowed = not denies or not any(asked.enforces for asked in attempt.ask.counters)
        figures = tuple(
            CounterFigures(chance.choice(amounts), chance.choice(amounts), denies, asked.limit_micro_usd)
            for asked in attempt.ask.counters
        )
        decision = Decision(
            is_allowed=is_allowed,
            is_replay=False,
            expires_at_ms=1_800_000_000_000 if is_allowed else 0,
            amount_micro_usd=36 if is_allowed else 0,
            lapsed_holds=0,
            figures=figures,
        )
        outcomes.append(verdict(attempt, decision))
    unknown = [
        Standing(
            counter=counter,
            limit_micro_usd=1,
            posted_micro_usd=None,
            held_micro_usd=None,
            available_micro_usd=None,
            reason=None,
            enforces=True,
        )
        for counter in attempt.counters
    ]
    return [*outcomes, verdict_by_policy(attempt, unknown, None, (), is_allowed=True)]


@pytest.mark.parametrize("name", NAMES)
def test_the_rendered_answer_is_the_json_of_the_wire_shape(book: PriceBook, name: str):
    chance = Random(3)
    for period, mode in product((MONTHLY, ROLLING, LIFETIME), ("enforce", "shadow")):
        attempt = _attempt(book, name, period, mode)
        assert attempt.counters
        for _ in range(10):
            for outcome in _outcomes(attempt, chance):
                assert render_answer(outcome) == msgspec.json.encode(check_answer(outcome))


def test_an_answer_tells_the_window_its_counter_is_in(book: PriceBook):
    attempt = _attempt(book, "core", MONTHLY, "enforce")
    [outcome, *_] = _outcomes(attempt, Random(1))
    standings = msgspec.json.decode(render_answer(outcome))["budgets"]
    start = datetime(NOON.year, NOON.month, 1, tzinfo=UTC)
    end = (start + timedelta(days=31)).replace(day=1)
    assert {(each["window"]["start"], each["resets_at"]) for each in standings} == {
        (f"{start:%Y-%m-%dT%H:%M:%SZ}", f"{end:%Y-%m-%dT%H:%M:%SZ}")
    }
