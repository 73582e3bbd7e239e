"""Wire shapes of checks and reservations. Unknown fields are refused: a misspelt one would silently widen a gate."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta

from service.checks.hold import (
    DEFAULT_TTL_SECONDS,
    LEAST_TTL_SECONDS,
    MOST_TTL_SECONDS,
    Reservation,
    ReservationState,
)
from service.checks.quantities import read_declared, read_duration
from service.checks.request import CheckRequest, Route
from service.errors import InvalidInput, MalformedBody
from service.identity.dimensions import Dimensions, clean_value
from service.kit.money import (
    AmountError,
    AmountText,
    amount_decoder,
    format_amount,
    from_micro_usd,
    parse_amount,
)
from service.kit.text import bounded_text
from service.pricing.worst_case import NOTHING_DECLARED

MAX_TOKENS = 1_000_000_000_000
MAX_ID_CHARACTERS = 256
MAX_ROUTES = 8

_Text = Annotated[str, Meta(max_length=4_096)]
_Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID_CHARACTERS)]
_Tokens = Annotated[int, Meta(ge=0, le=MAX_TOKENS)]
_Word = Annotated[str, Meta(max_length=100)]
_Ttl = Annotated[int, Meta(ge=LEAST_TTL_SECONDS, le=MOST_TTL_SECONDS)]
_AUTOMATIC_TAG = "User-Agent:"
_NO_ROUTE = Route()


class DimensionsBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Who asks. Missing values are completed from what is known of the key; the empty text is no value."""

    organization: _Text | None = None
    team: _Text | None = None
    project: _Text | None = None
    user: _Text | None = None
    api_key: _Text | None = None
    end_user: _Text | None = None
    agent: _Text | None = None
    session: _Text | None = None
    tags: Annotated[list[_Text], Meta(max_length=1_000)] | None = None


class RouteBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One way the gateway may send the call, as far as it knows it: at least one of the three."""

    deployment: _Text | None = None
    served_model: _Text | None = None
    provider: _Text | None = None


class CheckBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One call about to be made.

    `routes`: the ways the gateway may choose among for `model`; the answer says which of them are allowed.
    `served_models`: what a router may choose among. `quantities`: what is used beside plain text, at most: units by
    their names (`output_images`, `input_audio_seconds`, `pages`, `queries`, `web_searches` …), parts of the prompt
    (`cache_write_5m_input_tokens`, `audio_input_tokens` …), `duration_seconds`. `data_residency` and what follows it
    make some models dearer.
    """

    request_id: _Id | None = None
    reserve: bool = False
    ttl_seconds: _Ttl = DEFAULT_TTL_SECONDS
    dimensions: DimensionsBody = msgspec.field(default_factory=DimensionsBody)
    model: _Text | None = None
    provider: _Text | None = None
    deployment: _Text | None = None
    fallback_models: Annotated[list[_Text], Meta(max_length=20)] = []
    call_type: Annotated[str, Meta(max_length=100)] = ""
    input_tokens: _Tokens = 0
    max_output_tokens: _Tokens | None = None
    service_tier: _Word | None = None
    estimated_cost_usd: AmountText | None = None
    served_models: Annotated[list[_Text], Meta(max_length=20)] = []
    routes: Annotated[list[RouteBody], Meta(max_length=MAX_ROUTES)] = []
    quantities: Annotated[dict[str, AmountText], Meta(max_length=30)] = {}
    image_size: _Word | None = None
    image_quality: _Word | None = None
    video_resolution: _Word | None = None
    search_context_size: _Word | None = None
    data_residency: _Word | None = None
    vertex_location: _Word | None = None
    inference_geography: _Word | None = None
    speed: _Word | None = None


class RenewBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How long a hold shall last from now at least."""

    ttl_seconds: _Ttl = DEFAULT_TTL_SECONDS


class Known(msgspec.Struct, frozen=True):
    """A value and where it came from."""

    value: str | list[str]
    provenance: str


class EstimateLine(msgspec.Struct, frozen=True, kw_only=True):
    """One quantity x rate of the estimate."""

    name: str
    quantity: str
    unit: str
    rate: str
    amount_usd: str
    price_key: str | None
    note: str | None


class EstimateView(msgspec.Struct, frozen=True, kw_only=True):
    """What the call may cost at most; of several candidates the dearest. `reported`: the caller's own estimate."""

    amount_usd: str
    price_state: str
    served_model: str | None
    max_output_tokens: int | None
    components: list[EstimateLine]


class ReservationTaken(msgspec.Struct, frozen=True, kw_only=True):
    """The hold this check placed, or placed before under the same id."""

    id: str
    amount_usd: str
    expires_at: datetime


class WindowView(msgspec.Struct, frozen=True):
    """The window a budget is in; `end` null = never."""

    start: datetime
    end: datetime | None


class BudgetStanding(msgspec.Struct, frozen=True, kw_only=True):
    """One budget this call counts in. `held_usd` includes this call's own hold; null figures = not known now."""

    budget_id: UUID
    name: str
    match: msgspec.Raw
    subject: msgspec.Raw
    mode: str
    limit_usd: str
    posted_usd: str | None
    held_usd: str | None
    available_usd: str | None
    window: WindowView
    resets_at: datetime | None
    state: str
    denies: bool
    reason: str | None


class RouteStanding(msgspec.Struct, frozen=True, kw_only=True):
    """One way the call may go, and whether it may. `requested_fallback`: the fallback model it belongs to."""

    deployment: str | None
    served_model: str | None
    provider: str | None
    requested_fallback: str | None
    allowed: bool
    denied_by: list[UUID]


class CheckAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The decision and how it came about. `code` says why a call is not allowed.

    `routes`: of a call that may go several ways, or for which the caller named routes or fallbacks, each way. It is
    allowed if one of them is, and must keep to those.
    """

    allowed: bool
    code: str | None
    degraded: bool
    unresolved: list[str]
    dimensions: dict[str, Known]
    estimate: EstimateView
    reservation: ReservationTaken | None
    max_affordable_output_tokens: int | None
    budgets: list[BudgetStanding]
    denied_by: list[UUID]
    routes: list[RouteStanding]


class ReservationView(msgspec.Struct, frozen=True, kw_only=True):
    """A reservation. `consumed_usd`: what events posted under it; remembered for ten minutes after its end."""

    id: str
    state: ReservationState
    amount_usd: str
    consumed_usd: str
    requested_model: str | None
    placed_at: datetime
    expires_at: datetime


class DeniedError(msgspec.Struct, frozen=True, kw_only=True):
    """The shape clients of gateways key on."""

    message: str
    type: Literal["budget_exceeded", "key_blocked"]
    param: None = None
    code: str


_Body = TypeVar("_Body")

_body_decoder = amount_decoder(CheckBody)
_renew_decoder = msgspec.json.Decoder(RenewBody)


def read_check(body: bytes) -> CheckRequest:
    """Return the request a body asks for. Raises MalformedBody, InvalidInput with the field."""
    return check_request(decode_body(_body_decoder, body))


def read_renewal(body: bytes) -> int:
    """Return the seconds a hold shall last; an empty body means the default. Raises MalformedBody, InvalidInput."""
    return decode_body(_renew_decoder, body).ttl_seconds if body.strip() else DEFAULT_TTL_SECONDS


def reservation_view(reservation: Reservation) -> ReservationView:
    """Return the wire shape."""
    return ReservationView(
        id=reservation.reservation_id,
        state=reservation.state,
        amount_usd=format_amount(from_micro_usd(reservation.amount_micro_usd)),
        consumed_usd=format_amount(from_micro_usd(reservation.consumed_micro_usd)),
        requested_model=reservation.requested_model,
        placed_at=reservation.placed_at,
        expires_at=reservation.expires_at,
    )


def decode_body(decoder: msgspec.json.Decoder[_Body], body: bytes) -> _Body:
    """Return a body decoded. Raises MalformedBody, InvalidInput with the field."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        detail, _, path = str(error).partition(" - at `$")
        raise InvalidInput(f"{detail}.", field=path.strip("`.") or None) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedBody("The body is no JSON object.") from error
    except RecursionError as error:
        raise MalformedBody("The body is nested too deeply.") from error


def check_request(body: CheckBody) -> CheckRequest:
    """Return the request of a decoded body. Raises InvalidInput with the field."""
    return CheckRequest(
        request_id=_checked_id(body.request_id),
        wants_hold=body.reserve,
        ttl_seconds=body.ttl_seconds,
        dimensions=_dimensions(body.dimensions),
        model=_text(body.model),
        provider=_text(body.provider),
        deployment=_text(body.deployment),
        fallback_models=tuple([bounded_text(name) for name in body.fallback_models if name]),
        call_type=body.call_type,
        input_tokens=body.input_tokens,
        max_output_tokens=body.max_output_tokens,
        service_tier=body.service_tier or None,
        estimated_cost_usd=checked_usd(body.estimated_cost_usd, "estimated_cost_usd"),
        served_models=tuple([bounded_text(name) for name in body.served_models if name]),
        routes=_routes(body.routes) if body.routes else (),
        declared=read_declared(body.quantities) if body.quantities else NOTHING_DECLARED,
        duration_seconds=read_duration(body.quantities) if body.quantities else None,
        image_size=body.image_size or None,
        image_quality=body.image_quality or None,
        video_resolution=body.video_resolution or None,
        search_context_size=body.search_context_size or None,
        data_residency=body.data_residency or None,
        vertex_location=body.vertex_location or None,
        inference_geography=body.inference_geography or None,
        speed=body.speed or None,
    )


def _routes(bodies: list[RouteBody]) -> tuple[Route, ...]:
    routes = [
        Route(deployment=_text(body.deployment), served_model=_text(body.served_model), provider=_text(body.provider))
        for body in bodies
    ]
    for index, route in enumerate(routes):
        if route == _NO_ROUTE:
            raise InvalidInput("A route names a deployment, a served model or a provider.", field=f"routes[{index}]")
    return tuple(dict.fromkeys(routes))


def _dimensions(body: DimensionsBody) -> Dimensions:
    return Dimensions(
        organization=_value("organization", body.organization),
        team=_value("team", body.team),
        project=_value("project", body.project),
        user=_value("user", body.user),
        api_key=_value("api_key", body.api_key),
        end_user=_value("end_user", body.end_user),
        agent=_value("agent", body.agent),
        session=_value("session", body.session),
        tags=_tags(body.tags) if body.tags else (),
    )


def _tags(values: list[str]) -> tuple[str, ...]:
    cleaned = dict.fromkeys(_value("tag", value) for value in values)
    return tuple([tag for tag in cleaned if tag and not tag.startswith(_AUTOMATIC_TAG)])


def _value(dimension: str, value: str | None) -> str | None:
    return clean_value(dimension, value) if value else None


def _text(value: str | None) -> str | None:
    return bounded_text(value) if value else None


def _checked_id(value: str | None) -> str | None:
    if value is not None and "\x00" in value:
        raise InvalidInput("An id holds no NUL.", field="request_id")
    return value


def checked_usd(text: AmountText | None, field: str) -> Decimal | None:
    """Return an amount that is not negative. Raises InvalidInput with the field."""
    if text is None:
        return None
    try:
        amount = parse_amount(text)
    except AmountError as error:
        raise InvalidInput(f"Not an amount: {error}.", field=field) from error
    if amount < 0:
        raise InvalidInput(f"{field} cannot be negative.", field=field)
    return amount
