"""Makes keys and budgets of what LiteLLM has: one function per kind of its entities. Pure.

Slugs are made of LiteLLM's own ids, so that a second import finds what the first one made. What LiteLLM does otherwise
than it reads, and what there is nothing for here, becomes a remark.
"""

from datetime import datetime
from typing import Final

import msgspec

from service.identity.dimensions import Dimensions, clean_value
from service.identity.known_key import KeyFacts
from service.imports.default_limits import map_end_users, map_members
from service.imports.drafting import EACH, Rank
from service.imports.gateway_config import GatewayConfig
from service.imports.mapping_context import Context, clean, display_name
from service.imports.plan import Plan, PlannedKey
from service.imports.route_limits import map_access_groups, map_router_budgets, map_sessions, map_tags
from service.imports.source_rows import BudgetRow, Entities, KeyRow, TeamRow, amount_of, instant_of, json_of

PROXY_USER: Final = "litellm-proxy-budget"  # the row of users that holds what the whole proxy spent
_UI_TEAM: Final = "litellm-dashboard"  # keys of sessions of its web pages


def plan_import(entities: Entities, config: GatewayConfig, now: datetime) -> Plan:
    """Return what an import would write, by the state of the proxy at `now`."""
    context = Context(entities, config, now)
    for missing in context.entities.missing:
        context.draft.remark("source", missing, "This LiteLLM database does not have it.")
    for unreadable in context.entities.unreadable:
        context.draft.remark("source", unreadable, "This row cannot be read; it is left out.")
    for note in context.config.notes:
        context.draft.remark("source", "configuration", note)
    _proxy(context)
    _organizations_and_projects(context)
    for team in context.entities.teams:
        _team(context, team)
    map_members(context)
    _users(context)
    for key in context.entities.keys:
        _key(context, key)
    map_end_users(context)
    map_tags(context)
    map_access_groups(context)
    map_sessions(context)
    map_router_budgets(context)
    return Plan(
        keys=tuple(context.keys.values()),
        budgets=tuple(context.draft.budgets.values()),
        increases=tuple(context.increases),
        remarks=tuple(context.draft.remarks),
    )


def _proxy(context: Context) -> None:
    row = next((user for user in context.entities.users if user.user_id == PROXY_USER), None)
    limit, duration = context.config.max_budget, context.config.budget_duration
    if row is not None:
        limit = row.max_budget if limit is None else limit
        duration = duration or row.budget_duration
    if limit is None or (limit.is_finite() and limit <= 0):
        return  # LiteLLM's own switch for "none"
    resets_at = instant_of(row.budget_reset_at) if row else None
    context.draft.add(
        "proxy", "proxy", ("proxy",), {}, limit, duration,
        name="LiteLLM: whole proxy", spend=row.spend if row else None, resets_at=resets_at,
        dimensions=Dimensions(), rank=Rank.EVERYTHING,
    )  # fmt: skip


def _organizations_and_projects(context: Context) -> None:
    for row in context.entities.organizations:
        dimensions = Dimensions(organization=clean_value("organization", row.id))
        context.linked("organization", row, {"organization": row.id}, dimensions, Rank.ORGANIZATION)
        budget = context.budgets.get(row.budget_id or "")
        if budget is not None and budget.temp_budget_increase is not None:
            detail = "LiteLLM stores a temporary increase for organizations and never applies it; neither is it here."
            context.draft.remark("not_taken", f"organization {row.id}", detail)
    for row in context.entities.projects:
        dimensions = Dimensions(
            project=clean_value("project", row.id),
            team=clean("team", row.team_id),
            organization=context.organization_of_team(row.team_id),
        )
        context.linked("project", row, {"project": row.id}, dimensions, Rank.PROJECT)


def _team(context: Context, row: TeamRow) -> None:
    match: dict[str, object] = {"team": row.team_id}
    dimensions = Dimensions(
        team=clean_value("team", row.team_id), organization=clean("organization", row.organization_id)
    )
    context.own("team", row.team_id, row.team_alias, row, match, dimensions, Rank.TEAM)
    if row.blocked:
        context.draft.remark("decision", f"team {row.team_id}", "It is blocked: its keys are imported as blocked.")


def _users(context: Context) -> None:
    counts_all = context.config.applies_user_budgets_to_team_keys
    for row in context.entities.users:
        if row.user_id == PROXY_USER:
            continue
        match: dict[str, object] = {"user": row.user_id}
        if not counts_all:
            match["team"] = None
        dimensions = Dimensions(user=clean("user", row.user_id))
        context.own("user", row.user_id, row.user_alias, row, match, dimensions, Rank.USER)
    if not counts_all and any(user.max_budget is not None for user in context.entities.users):
        detail = (
            "LiteLLM adds what team keys spend to their users and then applies the limit to personal keys only"
            " (general_settings.apply_user_budget_to_team_keys is not set). Here a user's budget counts what it"
            " applies to: calls of personal keys."
        )
        context.draft.remark("decision", "budgets of users", detail)


def _key(context: Context, row: KeyRow) -> None:
    api_key = clean_value("api_key", row.token)
    if api_key is None or row.team_id == _UI_TEAM:
        context.draft.remark("not_taken", "keys of the web pages", "A session of LiteLLM's web pages has a key.")
        return
    team = context.teams.get(row.team_id or "")
    facts = KeyFacts(
        team=clean("team", row.team_id),
        user=clean("user", row.user_id),
        organization=clean("organization", row.organization_id) or context.organization_of_team(row.team_id),
        project=clean("project", row.project_id),
        alias=clean("alias", row.key_alias),
    )
    expires = instant_of(row.expires)
    is_over = expires is not None and expires <= context.now
    is_blocked = bool(row.blocked or is_over or (team and team.blocked) or row.project_id in context.blocked_projects)
    context.keys[api_key] = PlannedKey(api_key=api_key, facts=facts, is_blocked=is_blocked)
    _remark_key(context, row, expires, is_over=is_over)
    if not is_over:
        _key_budgets(context, row, api_key, facts)


def _remark_key(context: Context, row: KeyRow, expires: datetime | None, *, is_over: bool) -> None:
    subject = f"key {row.key_alias or row.token[:12]}"
    if is_over:
        context.draft.remark("decision", subject, "It has expired: imported as blocked, without budgets.")
    elif expires is not None:
        context.draft.remark("not_taken", subject, f"It expires {expires.isoformat()}; keys here have no end.")
    if row.agent_id:
        detail = f"It belongs to agent {row.agent_id}; the agent of a call is taken from the call here."
        context.draft.remark("not_taken", subject, detail)
    if json_of(row.budget_fallbacks):
        context.draft.remark(
            "not_taken", subject, "budget_fallbacks: other models over budget are the gateway's choice."
        )
    if row.throttles == "true":
        context.draft.remark("not_taken", subject, "throttle_on_budget_exceeded: over budget it is denied here.")


def _key_budgets(context: Context, row: KeyRow, api_key: str, facts: KeyFacts) -> None:
    dimensions = Dimensions(
        api_key=api_key, team=facts.team, user=facts.user, organization=facts.organization, project=facts.project
    )
    linked = context.linked_budget(f"key {row.token[:12]}", row.budget_id)
    own = row if linked is None else _completed(row, linked)
    match: dict[str, object] = {"api_key": api_key}
    context.own("key", api_key, row.key_alias, own, match, dimensions, Rank.KEY)
    drafted = context.draft.find("key", api_key)
    if drafted is not None:
        context.increase(drafted, None, amount_of(row.temp_budget_increase), instant_of(row.temp_budget_expiry))
    if row.end_user_budget_id:
        _end_users_of_key(context, row, api_key)


def _end_users_of_key(context: Context, row: KeyRow, api_key: str) -> None:
    budget = context.linked_budget(f"key {row.token[:12]}", row.end_user_budget_id)
    if budget is not None:
        context.draft.add(
            "key x end users", f"end users of key {row.key_alias or api_key[:12]}", ("key", api_key, "end-users"),
            {"api_key": api_key, "end_user": EACH}, budget.max_budget, budget.budget_duration,
            name=display_name("key", api_key, row.key_alias, "each end user"),
            resets_at=instant_of(budget.budget_reset_at),
        )  # fmt: skip


def _completed(row: KeyRow, linked: BudgetRow) -> KeyRow:
    """Return the key with what its linked budget says where it says nothing itself."""
    soft = row.soft_budget if row.soft_budget is not None else linked.soft_budget
    if row.max_budget is not None:
        return msgspec.structs.replace(row, soft_budget=soft)
    return msgspec.structs.replace(
        row,
        max_budget=linked.max_budget,
        soft_budget=soft,
        budget_duration=row.budget_duration or linked.budget_duration,
        budget_reset_at=row.budget_reset_at or linked.budget_reset_at,
    )
