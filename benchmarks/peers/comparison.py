"""Our rating of captured calls, with every line explained, beside what the peers take for the same calls.

A peer is compared on the calls both can price. Both get what can be prepared before pricing prepared: the usage as an
object of their own, the names of provider and model taken apart. Both are timed call by call, the best of some rounds.
"""

import json
import subprocess
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from statistics import mean
from time import process_time_ns
from typing import Any, NamedTuple

import msgspec

from benchmarks import report
from benchmarks.peers.environment import peers_python
from service.identity.models import ModelIdentity, PriceCandidate
from service.pricing.fallback import FallbackRates
from service.pricing.price_book import PriceBook
from service.pricing.rating import rate
from service.pricing.rating_result import Rating
from service.pricing.shipped import shipped_snapshot
from service.pricing.usage import PricingBasis, ReportedCost, Usage

_CAPTURED = Path(__file__).parents[2] / "tests" / "data" / "pricing" / "captured_calls.jsonl"
_MEASURE = Path(__file__).parent / "measure.py"
_ROUNDS = 9
_REPEATS = 100
_SAME_WITHIN = 1e-9
_AIMS = {"litellm completion_cost": 10.0, "litellm cost_per_token": None, "genai-prices calc_price": 3.0}

# What a peer cannot be told, or prices by other rules than a rate for a token.
_BEYOND_PEERS = ("custom_rates", "is_failure", "is_cache_hit", "unbilled_reason")


class _Ours(NamedTuple):
    cost_usd: float
    us: float


def compare_with_peers() -> None:
    """Measure and print."""
    calls = [json.loads(line) for line in _CAPTURED.read_text("utf-8").splitlines()]
    calls = [call for call in calls if _is_comparable(call)]
    python = peers_python()
    ours = _measure_ours(calls)
    peers = _measure_peers(python, calls)
    report.title(
        f"Rating beside its peers, {len(calls)} captured calls of {len({c['provider'] for c in calls})} providers"
    )
    priced = [each.us for each in ours if each.cost_usd]
    report.row("rate(), every line explained, mean", f"{mean(priced):.1f} us", f"{len(priced)} of them priced")
    for name, theirs in peers.items():
        both = [(o, t) for o, t in zip(ours, theirs, strict=True) if o.cost_usd and t]
        same = sum(abs(o.cost_usd - t["cost_usd"]) <= _SAME_WITHIN for o, t in both)
        ours_us, theirs_us = mean(o.us for o, _ in both), mean(t["us"] for _, t in both)
        more = f"{len(both)} calls both price, ours {ours_us:.1f} us; {same} times the same amount"
        report.times(name, theirs_us, ours_us, more, aim=_AIMS[name])


def _is_comparable(call: dict[str, Any]) -> bool:
    usage, basis = call["usage"], call["basis"]
    has_only_tokens = usage.get("input_tokens") and not usage.get("units") and not usage.get("unmeasured")
    return bool(has_only_tokens and call["candidates"] and not any(basis.get(name) for name in _BEYOND_PEERS))


def _measure_ours(calls: list[dict[str, Any]]) -> list[_Ours]:
    book = PriceBook.from_snapshot(shipped_snapshot())
    figures = []
    for call in calls:
        price = _pricing(call, book)
        rating = price()
        is_priced = rating.price_state == "priced" and rating.components
        figures.append(_Ours(float(rating.cost_usd) if is_priced else 0.0, _best_us(price)))
    return figures


def _pricing(call: dict[str, Any], book: PriceBook) -> Callable[[], Rating]:
    models = ModelIdentity(
        requested_model=None,
        requested_canonical=None,
        deployment=None,
        deployment_id=None,
        served_model=None,
        provider=call["provider"],
        is_router=call["is_router"],
        price_candidates=tuple(PriceCandidate(name=name, rule=rule) for name, rule in call["candidates"]),
        provenance={},
    )
    usage = msgspec.convert(call["usage"], Usage)
    basis = msgspec.convert(call["basis"], PricingBasis)
    reported = ReportedCost(total_usd=Decimal(call["reported"].get("total_usd", "0")))
    occurred_at = datetime.fromisoformat(call["occurred_at"])
    fallback = FallbackRates()
    return lambda: rate(usage, basis, models, reported, book, fallback, occurred_at=occurred_at)


def _best_us(price: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(_ROUNDS):
        started = process_time_ns()
        for _ in range(_REPEATS):
            price()
        best = min(best, (process_time_ns() - started) / _REPEATS / 1000)
    return best


def _measure_peers(python: Path, calls: list[dict[str, Any]]) -> dict[str, list[dict[str, float] | None]]:
    asked = {
        "rounds": _ROUNDS,
        "calls": [
            {
                "provider": call["provider"],
                "model": call["candidates"][0][0].removeprefix(f"{call['provider']}/"),
                "usage": call["usage"],
                "call_type": call["call_type"],
            }
            for call in calls
        ],
    }
    ended = subprocess.run([python, _MEASURE], input=json.dumps(asked).encode(), stdout=subprocess.PIPE, check=True)
    answer: dict[str, list[dict[str, float] | None]] = json.loads(ended.stdout)
    return answer
