"""The answer to a check on the wire. What stays the same from check to check is rendered once."""

from functools import lru_cache
from typing import Any

import msgspec

from service.budgets.matching import BudgetCounter
from service.budgets.period import RollingPeriod
from service.checks.appraisal import Appraisal
from service.checks.outcome import Allowed, Denied, Hold, Outcome, RouteOutcome, Standing, window_shown
from service.checks.schemas import (
    BudgetStanding,
    CheckAnswer,
    EstimateLine,
    EstimateView,
    Known,
    ReservationTaken,
    RouteStanding,
    WindowView,
)
from service.identity.conditions import match_document
from service.identity.dimensions import MODELS, CompletedDimensions
from service.identity.models import ModelIdentity
from service.kit.money import format_amount
from service.pricing.rating_result import Line

_KEPT = 50_000


_encoder = msgspec.json.Encoder()


def check_answer(outcome: Outcome) -> CheckAnswer:
    """Return the wire shape of an outcome."""
    return _answer(outcome, [budget_standing(standing) for standing in outcome.explanation.standings])


def render_answer(outcome: Outcome) -> bytes:
    """Return the same as JSON. Of a counter nothing but its figures is rendered each time."""
    return _encoder.encode(_answer(outcome, [_rendered_standing(each) for each in outcome.explanation.standings]))


def _answer(outcome: Outcome, budgets: list[Any]) -> CheckAnswer:
    explanation = outcome.explanation
    match outcome:
        case Allowed(hold=hold):
            code, reservation, denied_by = None, _reservation(hold), []
        case Denied(code=code):
            reservation, denied_by = None, [standing.counter.budget.budget_id for standing in outcome.denied_by]
    return CheckAnswer(
        allowed=code is None,
        code=code,
        degraded=explanation.is_degraded,
        unresolved=explanation.unresolved,
        dimensions=known_dimensions(explanation.dimensions, explanation.appraisal.models),
        estimate=estimate_view(explanation.appraisal),
        reservation=reservation,
        max_affordable_output_tokens=explanation.max_affordable_output_tokens,
        budgets=budgets,
        denied_by=denied_by,
        routes=[_route_standing(route) for route in explanation.routes],
    )


def budget_standing(standing: Standing) -> BudgetStanding:
    """Return the wire shape of one counter."""
    counter = standing.counter
    budget, fixed = counter.budget, _fixed_parts(counter)
    posted, held, available = standing.posted_micro_usd, standing.held_micro_usd, standing.available_micro_usd
    return BudgetStanding(
        budget_id=budget.budget_id,
        name=budget.name,
        match=fixed.match,
        subject=fixed.subject,
        mode=budget.mode,
        limit_usd=_limit_text(standing.limit_micro_usd),
        posted_usd=None if posted is None else format_micro_usd(posted),
        held_usd=None if held is None else format_micro_usd(held),
        available_usd=None if available is None else format_micro_usd(available),
        window=fixed.window,
        resets_at=standing.resets_at,
        state=budget.state,
        denies=standing.reason is not None,
        reason=standing.reason,
    )


def format_micro_usd(amount: int) -> str:
    """Return whole micro-USD in plain notation of USD."""
    if amount < 0:
        return f"-{format_micro_usd(-amount)}"
    digits = str(amount).zfill(7)
    fraction = digits[-6:]
    return digits[:-6] if fraction == "000000" else f"{digits[:-6]}.{fraction}".rstrip("0")


_limit_text = lru_cache(maxsize=4_096)(format_micro_usd)
_rate_text = lru_cache(maxsize=4_096)(format_amount)


def known_dimensions(completed: CompletedDimensions, models: ModelIdentity) -> dict[str, Known]:
    """Return who asks and the names of the model, with where each comes from."""
    values = completed.values
    known = {
        name: Known(list(values.tags) if name == "tag" else getattr(values, name), source)
        for name, source in completed.provenance.items()
    }
    known.update(_models(models))
    return known


def estimate_view(appraisal: Appraisal) -> EstimateView:
    """Return what the call may cost at most."""
    estimate = appraisal.estimate
    if appraisal.is_estimated_by_caller:
        return EstimateView(
            amount_usd=format_amount(appraisal.amount_usd),
            price_state="reported",
            served_model=estimate.served_model,
            max_output_tokens=None,
            components=[],
        )
    return EstimateView(
        amount_usd=format_amount(appraisal.amount_usd),
        price_state=estimate.price_state,
        served_model=estimate.served_model,
        max_output_tokens=estimate.max_output_tokens,
        components=[estimate_line(line) for line in (*estimate.components, *estimate.fees)],
    )


def estimate_line(line: Line) -> EstimateLine:
    """Return the wire shape of one line."""
    return EstimateLine(
        name=line.name,
        quantity=format_amount(line.quantity),
        unit=line.unit,
        rate=_rate_text(line.rate),
        amount_usd=format_amount(line.amount_usd),
        price_key=line.price_key,
        note=line.note,
    )


def _route_standing(route: RouteOutcome) -> RouteStanding:
    way = route.candidate.way
    return RouteStanding(
        deployment=way.models.deployment,
        served_model=way.models.served_model,
        provider=way.models.provider,
        requested_fallback=way.fallback,
        allowed=route.is_allowed,
        denied_by=[standing.counter.budget.budget_id for standing in route.denied_by],
    )


def _window_view(counter: BudgetCounter) -> WindowView:
    window = window_shown(counter)
    return WindowView(window.start, window.end)


def _reservation(hold: Hold | None) -> ReservationTaken | None:
    if hold is None:
        return None
    return ReservationTaken(
        id=hold.reservation_id, amount_usd=format_micro_usd(hold.amount_micro_usd), expires_at=hold.expires_at
    )


_rendered: dict[int, tuple[ModelIdentity, dict[str, Known]]] = {}


def _models(models: ModelIdentity) -> dict[str, Known]:
    """Return the names of the model with their provenance, rendered once per identity, as identities are made once."""
    rendered = _rendered.get(id(models))
    if rendered is None or rendered[0] is not models:
        names = {name: getattr(models, name) for name in MODELS}
        known = {name: Known(value, models.provenance.get(name, "")) for name, value in names.items() if value}
        if len(_rendered) >= _KEPT:
            _rendered.clear()
        rendered = _rendered[id(models)] = (models, known)
    return rendered[1]


class _FixedParts(msgspec.Struct, frozen=True):
    counter: BudgetCounter
    match: msgspec.Raw
    subject: msgspec.Raw
    window: WindowView
    # The JSON of its standing around the figures, if it stops nobody and its window ends when it ends for all.
    before: str
    after: str


_fixed: dict[int, _FixedParts] = {}


def _fixed_parts(counter: BudgetCounter) -> _FixedParts:
    """Return what is the same in every answer that names a counter, rendered once: matching gives the same object."""
    parts = _fixed.get(id(counter))
    if parts is None or parts.counter is not counter:
        if len(_fixed) >= _KEPT:
            _fixed.clear()
        parts = _fixed[id(counter)] = _render_fixed_parts(counter)
    return parts


def _render_fixed_parts(counter: BudgetCounter) -> _FixedParts:
    budget, window = counter.budget, _window_view(counter)
    standing = BudgetStanding(
        budget_id=budget.budget_id,
        name=budget.name,
        match=msgspec.Raw(_encoder.encode(match_document(budget.match))),
        subject=msgspec.Raw(counter.subject.encode()),
        mode=budget.mode,
        limit_usd="0",
        posted_usd="0",
        held_usd="0",
        available_usd="0",
        window=window,
        resets_at=counter.window.end,
        state=budget.state,
        denies=False,
        reason=None,
    )
    # Within a text every quotation mark is escaped: no name can look like this.
    before, after = _encoder.encode(standing).decode().split(_figures_text("0", "0", "0", "0"))
    return _FixedParts(counter, standing.match, standing.subject, window, before, after)


def _figures_text(limit: str, posted: str, held: str, available: str) -> str:
    return f'"limit_usd":"{limit}","posted_usd":"{posted}","held_usd":"{held}","available_usd":"{available}"'


def _rendered_standing(standing: Standing) -> msgspec.Raw | BudgetStanding:
    """Return the wire shape of one counter, as JSON if nothing but its figures is its own."""
    posted, held, available = standing.posted_micro_usd, standing.held_micro_usd, standing.available_micro_usd
    counter = standing.counter
    is_rolling = isinstance(counter.budget.period, RollingPeriod)
    if posted is None or held is None or available is None or standing.reason is not None or is_rolling:
        return budget_standing(standing)
    parts = _fixed_parts(counter)
    figures = _figures_text(
        _limit_text(standing.limit_micro_usd),
        format_micro_usd(posted),
        format_micro_usd(held),
        format_micro_usd(available),
    )
    return msgspec.Raw(f"{parts.before}{figures}{parts.after}")
