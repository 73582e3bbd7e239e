"""How long rating takes: microseconds per event, by the shipped prices, without any I/O; beside it others' rating."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from statistics import median
from time import process_time_ns
from typing import NamedTuple

from benchmarks import report
from benchmarks.peers.comparison import compare_with_peers
from service.identity.models import ModelIdentity, PriceCandidate
from service.pricing.estimation import PlannedCall, foresee
from service.pricing.fallback import FallbackRates
from service.pricing.price_book import PriceBook
from service.pricing.rating import rate
from service.pricing.shipped import shipped_snapshot
from service.pricing.usage import PricingBasis, ReportedCost, Usage

_ROUNDS = 9
_CALLS = 2_000
_OCCURRED_AT = datetime(2026, 11, 18, 8, tzinfo=UTC)


class Figure(NamedTuple):
    """Median and best of the rounds, in microseconds of processor time per call."""

    case: str
    median_us: float
    best_us: float


def measure_rating() -> list[Figure]:
    """Return microseconds per event of the common shapes, of the fullest one, and of an estimate."""
    book = PriceBook.from_snapshot(shipped_snapshot())
    fallback = FallbackRates()

    def case(model: str, usage: Usage, basis: PricingBasis, *, is_router: bool = False) -> Callable[[], object]:
        models = _identity(model, is_router=is_router)
        reported = ReportedCost(total_usd=Decimal("0.0026205"))
        return lambda: rate(usage, basis, models, reported, book, fallback, occurred_at=_OCCURRED_AT)

    chat = Usage(input_tokens=412, output_tokens=96)
    cached = Usage(input_tokens=8000, output_tokens=400, cache_read_input_tokens=7168, reasoning_output_tokens=192)
    full = Usage(
        input_tokens=316_504,
        output_tokens=1_350,
        cache_read_input_tokens=110_240,
        cache_write_5m_input_tokens=2_048,
        cache_write_1h_input_tokens=4_096,
        audio_input_tokens=700,
        image_input_tokens=800,
        reasoning_output_tokens=640,
        audio_output_tokens=100,
    )
    europe = PricingBasis(call_type="acompletion", service_tier="flex", data_residency="eu")
    cases = {
        "plain chat": case("gpt-4.1-mini", chat, PricingBasis(call_type="acompletion")),
        "cached and reasoning": case("gpt-5.4", cached, PricingBasis(call_type="acompletion")),
        "router, served model known": case("gpt-5.4-mini", cached, PricingBasis(), is_router=True),
        "nine lines, tier, long context, uplift": case("gpt-5.4", full, europe),
        "no price": case("no-such-model", chat, PricingBasis()),
    }
    identity = _identity("gpt-5.4")
    planned = PlannedCall(
        input_tokens=1200,
        max_output_tokens=800,
        models=identity,
        basis=europe,
        book=book,
        fallback=fallback,
        occurred_at=_OCCURRED_AT,
    )
    cases["estimate"] = lambda: foresee(planned).estimate()
    return [_measure(name, call) for name, call in cases.items()]


def _identity(model: str, *, is_router: bool = False) -> ModelIdentity:
    return ModelIdentity(
        requested_model="m",
        requested_canonical="m",
        deployment=None,
        deployment_id=None,
        served_model=model,
        provider="azure" if is_router else "openai",
        is_router=is_router,
        price_candidates=(
            PriceCandidate(name=f"openai/{model}"),
            PriceCandidate(name=f"{model}-2026-03-17"),
            PriceCandidate(name=model, rule="dated snapshot"),
        ),
        provenance={},
    )


def _measure(name: str, call: Callable[[], object]) -> Figure:
    call()
    rounds = []
    for _ in range(_ROUNDS):
        started = process_time_ns()
        for _ in range(_CALLS):
            call()
        rounds.append((process_time_ns() - started) / _CALLS / 1000)
    return Figure(name, median(rounds), min(rounds))


def main() -> None:
    """Print how long our rating takes by itself, and beside its peers."""
    report.title("Rating, pure, per event")
    for figure in measure_rating():
        report.row(figure.case, f"{figure.median_us:.1f} us", f"best of rounds {figure.best_us:.1f} us")
    compare_with_peers()


if __name__ == "__main__":
    main()
