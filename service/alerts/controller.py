"""`/v1/alerts`: alerts that were raised, and what became of telling them."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Request, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from service.access.guards import requires
from service.access.tokens import Caller
from service.alerts.alert import Kind
from service.alerts.repository import AlertFilter, DeliveryFilter, DeliveryState, Position
from service.alerts.schemas import AlertList, DeliveryList, alert_view, delivery_view
from service.alerts.service import AlertService
from service.errors import InvalidInput
from service.kit import clock
from service.kit.pagination import decode_cursor, encode_cursor, invalid_cursor, page_limit
from service.kit.parameters import Parameters, refuse_unknown
from service.ledger.filters import TimeRange, parse_range, single
from service.problems import problem_responses

_LIST_PROBLEMS = (400, 401, 403, 422, 503)
_MAX_BUDGETS = 100
_MAX_NAME_CHARACTERS = 256

_Budgets = Annotated[
    list[str] | None, QueryParameter(name="budget", description="Only of these budgets: slug or id, repeatable.")
]
_Kinds = Annotated[list[Kind] | None, QueryParameter(name="kind", description="Only of these kinds, repeatable.")]
_States = Annotated[
    list[DeliveryState] | None, QueryParameter(name="state", description="Only in these states, repeatable.")
]
_WebhookId = Annotated[UUID | None, QueryParameter(name="webhook_id", description="Only of this webhook.")]
_From = Annotated[str | None, QueryParameter(name="from", description="Not before this time (default: 30 days ago).")]
_To = Annotated[str | None, QueryParameter(name="to", description="Before this time (default: now).")]
_Limit = Annotated[str | None, QueryParameter(description="Rows of a page, 1 to 1000 (default 100).")]
_Cursor = Annotated[str | None, QueryParameter(description="`next_cursor` of the page before.")]


class AlertController(Controller):
    """Alerts of the caller's tenant, as far as the token's scope reaches."""

    path = "/v1/alerts"
    tags = ("alerts",)
    guards = (requires("read"),)

    @get(operation_id="list_alerts", summary="List alerts, newest first", responses=problem_responses(*_LIST_PROBLEMS))
    async def list_alerts(
        self,
        request: Request[Any, Any, Any],
        caller: NamedDependency[Caller],
        alert_service: NamedDependency[AlertService],
        budgets: _Budgets = None,
        kinds: _Kinds = None,
        start: _From = None,  # noqa: ARG002  (documents the parameter; both are read with their time zones below)
        end: _To = None,  # noqa: ARG002
        limit: _Limit = None,
        cursor: _Cursor = None,
    ) -> AlertList:
        """Return a page of alerts; all conditions hold."""
        parameters = request.query_params.dict()
        refuse_unknown(parameters, ("budget", "kind", "from", "to", "limit", "cursor"))
        time_range, before = _place(parameters, cursor)
        size = page_limit(limit)
        chosen = AlertFilter(
            start=time_range.start, end=time_range.end, budgets=_checked(budgets or []), kinds=kinds or []
        )
        alerts = await alert_service.list_alerts(
            caller.tenant_id, chosen, scope=caller.scope, before=before, limit=size + 1
        )
        last = alerts[size - 1] if len(alerts) > size else None
        return AlertList(
            [alert_view(alert) for alert in alerts[:size]],
            None if last is None else _cursor_after(time_range, last.raised_at, last.alert_id),
        )

    @get(
        "/deliveries",
        operation_id="list_alert_deliveries",
        summary="List deliveries of alerts to webhooks, newest first",
        responses=problem_responses(*_LIST_PROBLEMS),
    )
    async def list_deliveries(
        self,
        request: Request[Any, Any, Any],
        caller: NamedDependency[Caller],
        alert_service: NamedDependency[AlertService],
        states: _States = None,
        webhook_id: _WebhookId = None,
        start: _From = None,  # noqa: ARG002
        end: _To = None,  # noqa: ARG002
        limit: _Limit = None,
        cursor: _Cursor = None,
    ) -> DeliveryList:
        """Return a page of deliveries with their attempts, the last answer or error, and when they are tried next."""
        parameters = request.query_params.dict()
        refuse_unknown(parameters, ("state", "webhook_id", "from", "to", "limit", "cursor"))
        time_range, before = _place(parameters, cursor)
        size = page_limit(limit)
        chosen = DeliveryFilter(start=time_range.start, end=time_range.end, states=states or [], webhook_id=webhook_id)
        rows = await alert_service.list_deliveries(
            caller.tenant_id, chosen, scope=caller.scope, before=before, limit=size + 1
        )
        last = rows[size - 1] if len(rows) > size else None
        return DeliveryList(
            [delivery_view(row) for row in rows[:size]],
            None if last is None else _cursor_after(time_range, last.created_at, last.delivery_id),
        )


def _checked(budgets: Sequence[str]) -> list[str]:
    if len(budgets) > _MAX_BUDGETS:
        raise InvalidInput(f"At most {_MAX_BUDGETS} budgets are named, these are {len(budgets)}.", field="budget")
    for text in budgets:
        if len(text) > _MAX_NAME_CHARACTERS or "\x00" in text:
            what = f"at most {_MAX_NAME_CHARACTERS} characters, none of them NUL"
            raise InvalidInput(f"{text[:100]!r} is no slug and no id of a budget: {what}.", field="budget")
    return list(budgets)


def _place(parameters: Parameters, cursor: str | None) -> tuple[TimeRange, Position | None]:
    """Return the range of the list, the same on all of its pages, and where this page begins."""
    first_page, before = (None, None) if cursor is None else _decode(cursor)
    bounds = {name: parameters[name] for name in ("from", "to") if single(parameters, name) is not None}
    return parse_range(bounds, clock.utc_now(), first_page=first_page), before


def _cursor_after(time_range: TimeRange, instant: datetime, row_id: UUID) -> str:
    return encode_cursor([*(each.isoformat() for each in (time_range.start, time_range.end, instant)), str(row_id)])


def _decode(cursor: str) -> tuple[TimeRange, Position]:
    *texts, row_id = decode_cursor(cursor, length=4)
    try:
        start, end, instant = (datetime.fromisoformat(text) for text in texts)
        position = instant, UUID(row_id)
    except (TypeError, ValueError, AttributeError) as error:
        raise invalid_cursor() from error
    if any(each.utcoffset() != timedelta(0) for each in (start, end, instant)):
        raise invalid_cursor()
    return TimeRange(start, end), position
