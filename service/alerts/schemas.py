"""The wire forms of alerts, webhooks and deliveries, and the document a delivery carries."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from service.alerts.alert import TEST_EVENT, Alert, Event, Kind, describe, percent
from service.alerts.repository import DeliveryRow, DeliveryState
from service.alerts.template import plain_numbers
from service.alerts.webhook import Webhook, WebhookTerms
from service.budgets.subject import subject_values
from service.errors import InvalidInput
from service.kit.money import format_amount

SubscribedEvent = Literal["budget.threshold_reached", "budget.projected_exhaustion"]

_TEST_TEXT = "This is a test of a webhook of Tallygate: it works."


class BudgetName(Struct, frozen=True):
    """The budget of an alert, by the names it had when the alert was raised."""

    id: UUID
    slug: str
    name: str


class WindowView(Struct, frozen=True):
    """`end` null: never."""

    start: datetime
    end: datetime | None


class AlertView(Struct, frozen=True, kw_only=True):
    """An alert: what was so when it was raised.

    `threshold`: a share of the limit, 1 for a projected exhaustion. `limit_usd`: the limit in force, increases and the
    rest carried over included. `subject`: what each "*" of the budget stands for.
    """

    id: UUID
    kind: Kind
    raised_at: datetime
    text: str
    budget: BudgetName
    subject: dict[str, str]
    window: WindowView
    threshold: float
    threshold_percent: int | float
    posted_usd: str
    limit_usd: str
    projected_spend_usd: str | None = None
    projected_exhaustion_at: datetime | None = None


class AlertList(Struct, frozen=True):
    """A page of alerts, newest first."""

    alerts: list[AlertView]
    next_cursor: str | None


class DeliveryView(Struct, frozen=True, kw_only=True):
    """What one webhook is told once. `alert_id` null: a test. `id` is sent as `webhook-id`."""

    id: UUID
    webhook_id: UUID
    alert_id: UUID | None
    event: Event
    state: DeliveryState
    attempts: int
    created_at: datetime
    next_attempt_at: datetime | None
    finished_at: datetime | None
    last_status: int | None
    last_error: str | None


class DeliveryList(Struct, frozen=True):
    """A page of deliveries, newest first."""

    deliveries: list[DeliveryView]
    next_cursor: str | None


_Url = Annotated[str, Meta(min_length=1, max_length=2048)]
_Slugs = Annotated[list[Annotated[str, Meta(min_length=1, max_length=256)]], Meta(max_length=100)]
_Description = Annotated[str, Meta(max_length=500)]


class WebhookRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A webhook to create.

    `events`: which to send, none = all. `budgets`: of which budgets, by slug, none = of all. `template`: a JSON value
    whose texts hold placeholders such as `${text}`; null = the whole document. `escape_markup`: write &, < and > of
    inserted values as entities, as Slack and HTML want it.
    """

    url: _Url
    description: _Description = ""
    events: list[SubscribedEvent] = []
    budgets: _Slugs = []
    template: Any = None
    escape_markup: bool = False

    def to_terms(self) -> WebhookTerms:
        """Return the webhook the body describes. Raises InvalidInput."""
        return WebhookTerms(
            url=self.url,
            description=_checked_text(self.description, "description"),
            events=tuple(dict.fromkeys(self.events)),
            budgets=_checked_slugs(self.budgets),
            template=plain_numbers(self.template),
            escapes_markup=self.escape_markup,
        )


class WebhookPatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of a webhook; what is left out stays. `enabled` true lets a disabled one go on."""

    url: _Url | UnsetType = UNSET
    description: _Description | UnsetType = UNSET
    events: list[SubscribedEvent] | UnsetType = UNSET
    budgets: _Slugs | UnsetType = UNSET
    template: Any = UNSET
    escape_markup: bool | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET

    def to_changes(self) -> dict[str, Any]:
        """Return what is named, by the names of WebhookTerms. Raises InvalidInput."""
        changes = {
            "url": self.url,
            "description": self.description,
            "events": self.events,
            "budgets": self.budgets,
            "template": self.template,
            "escapes_markup": self.escape_markup,
            "is_enabled": self.enabled,
        }
        named = {name: value for name, value in changes.items() if value is not UNSET}
        if "description" in named:
            _checked_text(named["description"], "description")
        if "template" in named:
            named["template"] = plain_numbers(named["template"])
        if "events" in named:
            named["events"] = tuple(dict.fromkeys(named["events"]))
        if "budgets" in named:
            named["budgets"] = _checked_slugs(named["budgets"])
        return named


class WebhookView(Struct, frozen=True, kw_only=True):
    """A webhook, without its secret."""

    id: UUID
    url: str
    description: str
    events: list[SubscribedEvent]
    budgets: list[str]
    template: Any
    escape_markup: bool
    enabled: bool
    disabled_reason: str | None
    created_at: datetime


class CreatedWebhook(WebhookView, frozen=True, kw_only=True):
    """A new webhook. `secret` verifies its signatures (Standard Webhooks); it is shown in this answer only."""

    secret: str


class WebhookList(Struct, frozen=True):
    """A page of webhooks, oldest first."""

    webhooks: list[WebhookView]
    next_cursor: str | None


class TestedWebhook(Struct, frozen=True):
    """The delivery of a test: `GET /v1/alerts/deliveries` tells what becomes of it."""

    delivery_id: UUID


def _checked_text(text: str, field: str) -> str:
    if "\x00" in text:
        raise InvalidInput("This takes no NUL.", field=field)
    return text


def _checked_slugs(slugs: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_checked_text(slug, f"budgets[{index}]") for index, slug in enumerate(slugs)))


def webhook_view(webhook: Webhook) -> WebhookView:
    """Return the wire form of a webhook."""
    return WebhookView(**_shown(webhook))


def created_webhook(webhook: Webhook, secret: str) -> CreatedWebhook:
    """Return the wire form of a new webhook, with its secret."""
    return CreatedWebhook(**_shown(webhook), secret=secret)


def _shown(webhook: Webhook) -> dict[str, Any]:
    terms = webhook.terms
    return {
        "id": webhook.webhook_id,
        "url": terms.url,
        "description": terms.description,
        "events": list(terms.events),
        "budgets": list(terms.budgets),
        "template": terms.template,
        "escape_markup": terms.escapes_markup,
        "enabled": terms.is_enabled,
        "disabled_reason": webhook.disabled_reason,
        "created_at": webhook.created_at,
    }


def delivery_view(row: DeliveryRow) -> DeliveryView:
    """Return the wire form of a delivery; one that is ended is not tried again."""
    return DeliveryView(
        id=row.delivery_id,
        webhook_id=row.webhook_id,
        alert_id=row.alert_id,
        event=row.event,
        state=row.state,
        attempts=row.attempts,
        created_at=row.created_at,
        next_attempt_at=row.next_attempt_at if row.state == "pending" else None,
        finished_at=row.finished_at,
        last_status=row.last_status,
        last_error=row.last_error,
    )


def alert_view(alert: Alert) -> AlertView:
    """Return the wire form of an alert."""
    return AlertView(
        id=alert.alert_id,
        kind=alert.kind,
        raised_at=alert.raised_at,
        text=describe(alert),
        budget=BudgetName(alert.budget_id, alert.slug, alert.name),
        subject=subject_values(alert.subject),
        window=WindowView(alert.window_start, alert.window_end),
        threshold=float(alert.threshold),
        threshold_percent=percent(alert.threshold),
        posted_usd=format_amount(alert.posted_usd),
        limit_usd=format_amount(alert.limit_usd),
        projected_spend_usd=None if alert.projected_spend_usd is None else format_amount(alert.projected_spend_usd),
        projected_exhaustion_at=alert.projected_exhaustion_at,
    )


def delivery_document(event: Event, alert: Alert | None, created_at: datetime) -> dict[str, Any]:
    """Return what a delivery tells: `type`, `timestamp`, `data`; without an alert it is a test."""
    if alert is None:
        event, data = TEST_EVENT, {"text": _TEST_TEXT}
    else:
        data = msgspec.to_builtins(alert_view(alert))
    when = created_at if alert is None else alert.raised_at
    return {"type": event, "timestamp": msgspec.to_builtins(when), "data": data}
