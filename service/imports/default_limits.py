"""Limits of members of teams and of end users: a default for everybody, and budgets some have of their own. Pure."""

from service.identity.dimensions import Dimensions
from service.imports.drafting import EACH, Rank
from service.imports.mapping_context import Context, clean, display_name
from service.imports.plan import PlannedBudget
from service.imports.source_rows import BudgetRow, MemberRow, instant_of


def map_members(context: Context) -> None:
    """Draft the limits of members: those of their own, and the default of their team."""
    by_team: dict[str, list[MemberRow]] = {}
    for row in context.entities.members:
        by_team.setdefault(row.team_id, []).append(row)
    for team_id in sorted({*by_team, *(t.team_id for t in context.entities.teams if t.team_member_budget_id)}):
        _members_of(context, team_id, by_team.get(team_id, []))


def _members_of(context: Context, team_id: str, rows: list[MemberRow]) -> None:
    team = context.teams.get(team_id)
    alias, default_id = (None, None) if team is None else (team.team_alias, team.team_member_budget_id)
    own: dict[str, PlannedBudget] = {}
    for row in rows:
        subject = f"member {row.user_id} of team {team_id}"
        budget = context.linked_budget(subject, row.budget_id)
        if budget is None or budget.max_budget is None or row.budget_id == default_id:
            continue
        drafted = context.draft.add(
            "team member", subject, ("member", team_id, row.user_id),
            {"team": team_id, "user": row.user_id}, budget.max_budget, budget.budget_duration,
            name=display_name("team", team_id, alias, f"member {row.user_id}"), spend=row.spend,
            resets_at=instant_of(budget.budget_reset_at), dimensions=_member(context, row), rank=Rank.MEMBER,
        )  # fmt: skip
        if drafted is not None:
            own[row.user_id] = drafted
            context.increase_by_budget(drafted, None, budget)
    default = context.linked_budget(f"members of team {team_id}", default_id)
    if default is not None:
        _default_of_members(context, team_id, default, [row for row in rows if row.user_id not in own], own)


def _member(context: Context, row: MemberRow) -> Dimensions:
    return Dimensions(
        team=clean("team", row.team_id),
        user=clean("user", row.user_id),
        organization=context.organization_of_team(row.team_id),
    )


def _default_of_members(
    context: Context, team_id: str, default: BudgetRow, rows: list[MemberRow], own: dict[str, PlannedBudget]
) -> None:
    resets_at = instant_of(default.budget_reset_at)
    drafted = context.draft.add(
        "team members", f"members of team {team_id}", ("members", team_id), {"team": team_id, "user": EACH},
        default.max_budget, default.budget_duration, name=f"LiteLLM: each member of team {team_id}",
        resets_at=resets_at, is_zero_none=True,
    )  # fmt: skip
    if drafted is None:
        return
    for row in rows:
        context.draft.add_account(
            drafted, f"member {row.user_id} of team {team_id}", {"team": team_id, "user": row.user_id},
            row.spend, resets_at, _member(context, row), Rank.MEMBER,
        )  # fmt: skip
        budget = context.budgets.get(row.budget_id or "")
        if budget is not None:
            context.increase_by_budget(drafted, row.user_id, budget)
    context.lift(drafted, own, "user")


def map_end_users(context: Context) -> None:
    """Draft the limits of end users: those of their own, and the default of everybody else."""
    default_id = context.config.max_end_user_budget_id
    default = context.linked_budget("default of end users", default_id)
    own: dict[str, PlannedBudget] = {}
    for row in context.entities.end_users:
        if row.blocked:
            context.draft.remark("not_taken", f"end user {row.id}", "It is blocked; only keys can be blocked here.")
        if row.budget_id and row.budget_id != default_id:
            dimensions = Dimensions(end_user=clean("end_user", row.id))
            drafted = context.linked("end user", row, {"end_user": row.id}, dimensions, Rank.LABEL)
            if drafted is not None:
                own[row.id] = drafted
    limit = context.config.max_end_user_budget if default is None else default.max_budget
    duration = None if default is None else default.budget_duration
    resets_at = None if default is None else instant_of(default.budget_reset_at)
    drafted = context.draft.add(
        "end users", "default of end users", ("end-users",), {"end_user": EACH}, limit, duration,
        name="LiteLLM: each end user without a budget of its own", resets_at=resets_at,
    )  # fmt: skip
    if drafted is None:
        return
    if default is not None:
        context.models_of_budget("end users", "default", {"end_user": EACH}, default)
    for row in context.entities.end_users:
        if row.id not in own:
            context.draft.add_account(
                drafted, f"end user {row.id}", {"end_user": row.id}, row.spend, resets_at,
                Dimensions(end_user=clean("end_user", row.id)), Rank.LABEL,
            )  # fmt: skip
    context.lift(context.draft.budgets[drafted.draft.slug], own, "end_user")
