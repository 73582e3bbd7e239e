"""Wire shapes of estimates: the body of a check, and what each candidate would cost at most."""

from decimal import Decimal

import msgspec

from service.checks.answer import estimate_line, estimate_view, known_dimensions
from service.checks.appraisal import affordable_output_tokens
from service.checks.estimates import EstimatedCall
from service.checks.request import CheckRequest
from service.checks.schemas import CheckBody, EstimateLine, EstimateView, Known, check_request, checked_usd, decode_body
from service.kit.money import AmountText, amount_decoder, format_amount
from service.pricing.estimation import Prospect


class EstimateBody(CheckBody, kw_only=True, forbid_unknown_fields=True):
    """One call, as a check takes it; nothing is held. `available_usd`: an amount to turn into output tokens."""

    available_usd: AmountText | None = None


class EstimateCandidate(msgspec.Struct, frozen=True, kw_only=True):
    """What the call costs at most if this model serves it. `list_cost_usd`: without discounts and markups.

    `components` and `fees` add up to `amount_usd`; `reason` says why there is no price.
    """

    model: str | None
    deployment: str | None
    served_model: str | None
    provider: str | None
    price_state: str
    fees_price_state: str
    reason: str | None
    price_key: str | None
    price_book_version: str
    max_output_tokens: int
    components: list[EstimateLine]
    fees: list[EstimateLine]
    list_cost_usd: str
    amount_usd: str
    max_affordable_output_tokens: int | None


class EstimateAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The worst case: that of the dearest candidate. A check of the same body holds `estimate.amount_usd`.

    `max_affordable_output_tokens`: what `available_usd` pays for, whichever candidate serves; null = no bound, or none
    was asked for.
    """

    dimensions: dict[str, Known]
    estimate: EstimateView
    candidates: list[EstimateCandidate]
    max_affordable_output_tokens: int | None


_decoder = amount_decoder(EstimateBody)


def read_estimate(body: bytes) -> tuple[CheckRequest, Decimal | None]:
    """Return the call a body describes, and the available amount. Raises MalformedBody, InvalidInput with the field."""
    decoded = decode_body(_decoder, body)
    return check_request(decoded), checked_usd(decoded.available_usd, "available_usd")


def estimate_answer(estimated: EstimatedCall, available_usd: Decimal | None) -> EstimateAnswer:
    """Return the wire shape."""
    appraisal = estimated.appraisal
    affordable = None if available_usd is None else affordable_output_tokens(appraisal.candidates, available_usd)
    return EstimateAnswer(
        dimensions=known_dimensions(estimated.dimensions, appraisal.models),
        estimate=estimate_view(appraisal),
        candidates=[_candidate(each.prospect, available_usd) for each in appraisal.candidates],
        max_affordable_output_tokens=affordable,
    )


def _candidate(prospect: Prospect, available_usd: Decimal | None) -> EstimateCandidate:
    estimate, models = prospect.estimate(), prospect.call.models
    return EstimateCandidate(
        model=models.served_model or models.requested_model,
        deployment=models.deployment,
        served_model=models.served_model,
        provider=models.provider,
        price_state=estimate.price_state,
        fees_price_state=estimate.fees_price_state,
        reason=estimate.reason,
        price_key=estimate.price_key,
        price_book_version=estimate.price_book_version,
        max_output_tokens=estimate.max_output_tokens,
        components=[estimate_line(line) for line in estimate.components],
        fees=[estimate_line(line) for line in estimate.fees],
        list_cost_usd=format_amount(estimate.list_cost_usd),
        amount_usd=format_amount(estimate.amount_usd),
        max_affordable_output_tokens=(
            None if available_usd is None else prospect.max_affordable_output_tokens(available_usd)
        ),
    )
