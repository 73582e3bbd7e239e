"""Rows of LiteLLM's tables as far as an import reads them, and what its configuration file adds. Pure.

Every field may be missing: tables and columns differ between versions. Amounts come as Decimal from the shortest text
of the stored double; NaN and infinities are still in them. JSON columns come undecoded.
"""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import msgspec

_MOST_JSON_BYTES: Final = 1_000_000
_decode_json = msgspec.json.Decoder(float_hook=Decimal).decode

NO_JSON: Final = msgspec.Raw(b"null")


class BudgetRow(msgspec.Struct, frozen=True, kw_only=True):
    """LiteLLM_BudgetTable."""

    budget_id: str
    max_budget: Decimal | None = None
    soft_budget: Decimal | None = None
    budget_duration: str | None = None
    budget_reset_at: str | None = None
    model_max_budget: msgspec.Raw = NO_JSON
    temp_budget_increase: Decimal | None = None
    temp_budget_expiry: str | None = None
    rate_limits: str | None = None


class OwnBudget(msgspec.Struct, frozen=True, kw_only=True):
    """What keys, teams and users have in columns of their own."""

    max_budget: Decimal | None = None
    soft_budget: Decimal | None = None
    budget_duration: str | None = None
    budget_reset_at: str | None = None
    spend: Decimal | None = None
    model_max_budget: msgspec.Raw = NO_JSON
    budget_limits: msgspec.Raw = NO_JSON
    rate_limits: str | None = None


class KeyRow(OwnBudget, frozen=True, kw_only=True):
    """LiteLLM_VerificationToken."""

    token: str
    key_alias: str | None = None
    user_id: str | None = None
    team_id: str | None = None
    organization_id: str | None = None
    project_id: str | None = None
    agent_id: str | None = None
    budget_id: str | None = None
    blocked: bool | None = None
    expires: str | None = None
    temp_budget_increase: str | None = None
    temp_budget_expiry: str | None = None
    end_user_budget_id: str | None = None
    throttles: str | None = None
    budget_fallbacks: msgspec.Raw = NO_JSON


class TeamRow(OwnBudget, frozen=True, kw_only=True):
    """LiteLLM_TeamTable."""

    team_id: str
    team_alias: str | None = None
    organization_id: str | None = None
    blocked: bool | None = None
    team_member_budget_id: str | None = None


class UserRow(OwnBudget, frozen=True, kw_only=True):
    """LiteLLM_UserTable."""

    user_id: str
    user_alias: str | None = None
    user_email: str | None = None


class LinkedRow(msgspec.Struct, frozen=True, kw_only=True):
    """Whatever has an id, a spend, and a budget of the table of budgets."""

    id: str
    name: str | None = None
    spend: Decimal | None = None
    budget_id: str | None = None
    blocked: bool | None = None
    team_id: str | None = None


class MemberRow(msgspec.Struct, frozen=True, kw_only=True):
    """LiteLLM_TeamMembership."""

    user_id: str
    team_id: str
    spend: Decimal | None = None
    budget_id: str | None = None


class AgentRow(msgspec.Struct, frozen=True, kw_only=True):
    """LiteLLM_AgentsTable."""

    agent_id: str
    agent_name: str | None = None
    max_budget_per_session: str | None = None
    rate_limits: str | None = None


class ModelRow(msgspec.Struct, frozen=True, kw_only=True):
    """LiteLLM_ProxyModelTable: texts of its parameters are encrypted, numbers and `model_info` are not."""

    model_id: str
    model_name: str
    max_budget: str | None = None
    access_groups: msgspec.Raw = NO_JSON


class WindowSpendRow(msgspec.Struct, frozen=True, kw_only=True):
    """LiteLLM_BudgetWindowSpend."""

    entity_type: str
    entity_id: str
    window_duration: str
    window_start: str | None = None
    spend: Decimal | None = None


class Entities(msgspec.Struct, kw_only=True):
    """All that is read but for the spend logs. `missing`: tables and columns this version does not have."""

    budgets: list[BudgetRow] = []
    keys: list[KeyRow] = []
    teams: list[TeamRow] = []
    users: list[UserRow] = []
    organizations: list[LinkedRow] = []
    projects: list[LinkedRow] = []
    end_users: list[LinkedRow] = []
    tags: list[LinkedRow] = []
    access_groups: list[LinkedRow] = []
    members: list[MemberRow] = []
    agents: list[AgentRow] = []
    models: list[ModelRow] = []
    window_spends: list[WindowSpendRow] = []
    missing: list[str] = []
    unreadable: list[str] = []


def instant_of(text: str | None) -> datetime | None:
    """Return the instant of a stored time: without an offset it is UTC; None for none and for what is no date."""
    if not text:
        return None
    try:
        instant = datetime.fromisoformat(text)
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def json_of(raw: msgspec.Raw) -> Any:
    """Return the content of a JSON column, also of one that holds its JSON as a text; None when it is unreadable."""
    for _ in range(2):
        if memoryview(raw).nbytes > _MOST_JSON_BYTES:
            return None
        try:
            content = _decode_json(raw)
        except (msgspec.DecodeError, RecursionError):
            return None
        if not isinstance(content, str):
            return content
        raw = msgspec.Raw(content.encode("utf-8", "surrogatepass"))
    return None


def amount_of(value: object) -> Decimal | None:
    """Return the amount a JSON value states, None if it states none; NaN and infinities stay what they are."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | Decimal):
        return Decimal(value)
    if isinstance(value, float | str):
        try:
            return Decimal(str(value).strip())
        except ArithmeticError:
            return None
    return None
