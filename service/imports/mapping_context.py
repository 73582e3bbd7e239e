"""What the mappings of all kinds share: rows by id, what is drafted so far, budgets written the same way. Pure."""

from datetime import datetime
from decimal import Decimal
from typing import Final

from service.budgets.subject import subject_text
from service.identity.dimensions import Dimensions, clean_value
from service.imports.drafting import Drafting, Rank
from service.imports.gateway_config import GatewayConfig, cached_budget
from service.imports.plan import PlannedBudget, PlannedIncrease, PlannedKey
from service.imports.source_rows import BudgetRow, Entities, LinkedRow, OwnBudget, amount_of, instant_of, json_of
from service.kit.money import EXACT

_MOST_LIFTED: Final = 100
_LIFT_REASON: Final = "has a budget of its own in LiteLLM"


class Context:
    """One plan in the making."""

    def __init__(self, entities: Entities, config: GatewayConfig, now: datetime) -> None:
        self.entities = entities
        self.config = config
        self.now = now
        self.draft = Drafting(config.rules, now)
        self.budgets = {row.budget_id: row for row in entities.budgets}
        self.teams = {row.team_id: row for row in entities.teams}
        self.blocked_projects = {row.id for row in entities.projects if row.blocked}
        self.keys: dict[str, PlannedKey] = {}
        self.increases: list[PlannedIncrease] = []
        self.aliases: dict[str, list[str]] = {}
        for alias, group in config.aliases.items():
            self.aliases.setdefault(group, []).append(alias)

    def organization_of_team(self, team_id: str | None) -> str | None:
        """Return the organization of a team, if it has one."""
        team = self.teams.get(team_id or "")
        return None if team is None else clean("organization", team.organization_id)

    def linked(
        self, kind: str, row: LinkedRow, match: dict[str, object], dimensions: Dimensions, rank: Rank
    ) -> PlannedBudget | None:
        """Draft the budget an entity has a link to."""
        subject = f"{kind} {row.id}"
        budget = self.linked_budget(subject, row.budget_id)
        if budget is None:
            return None
        self.models_of_budget(kind, row.id, match, budget)
        return self.draft.add(
            kind, subject, (kind, row.id), match, budget.max_budget, budget.budget_duration,
            soft=budget.soft_budget, name=display_name(kind, row.id, row.name), spend=row.spend,
            resets_at=instant_of(budget.budget_reset_at), dimensions=dimensions, rank=rank,
        )  # fmt: skip

    def linked_budget(self, subject: str, budget_id: str | None) -> BudgetRow | None:
        """Return the row an entity links to, if it does and there is one."""
        if not budget_id:
            return None
        budget = self.budgets.get(budget_id)
        if budget is None:
            self.draft.remark("source", subject, f"Its budget {budget_id!r} is in no row.")
        elif budget.rate_limits:
            self.draft.rate_limits(subject, budget.rate_limits)
        return budget

    def own(
        self, kind: str, id_: str, alias: str | None, row: OwnBudget, match: dict[str, object],
        dimensions: Dimensions, rank: Rank,
    ) -> None:  # fmt: skip
        """Draft all budgets an entity carries in its own columns."""
        subject = _subject(kind, id_, alias)
        self.draft.add(
            kind, subject, (kind, id_), match, row.max_budget, row.budget_duration,
            soft=row.soft_budget, name=display_name(kind, id_, alias), spend=row.spend,
            resets_at=instant_of(row.budget_reset_at), dimensions=dimensions, rank=rank,
        )  # fmt: skip
        for window in self.windows(subject, row):
            self.window(kind, id_, alias, window, match, dimensions, rank)
        self.models(kind, id_, match, json_of(row.model_max_budget), alias)
        if row.rate_limits:
            self.draft.rate_limits(subject, row.rate_limits)

    def windows(self, subject: str, row: OwnBudget) -> list[dict[str, object]]:
        """Return the several windows of an entity."""
        content = json_of(row.budget_limits)
        if content is None or content in ([], {}):
            return []
        if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
            self.draft.remark("source", subject, "Its budget_limits are no list of limits; they are left out.")
            return []
        return content

    def window(
        self, kind: str, id_: str, alias: str | None, window: dict[str, object], match: dict[str, object],
        dimensions: Dimensions, rank: Rank,
    ) -> None:  # fmt: skip
        """Draft one of several windows of an entity; what was spent in it is in a table of its own."""
        stated = window.get("budget_duration")
        duration = stated if isinstance(stated, str) and stated else None
        subject = f"{_subject(kind, id_, alias)} window {duration}"
        if duration is None:
            self.draft.remark("source", _subject(kind, id_, alias), "One of its budget_limits has no budget_duration.")
            return
        resets_at = instant_of(text if isinstance(text := window.get("reset_at"), str) else None)
        spent = next(
            (
                found
                for found in self.draft.window_spends(self.entities).get((kind, id_, duration), ())
                if self.draft.is_of_present_window(found, duration, resets_at)
            ),
            None,
        )
        self.draft.add(
            f"{kind} window", subject, (kind, id_, "window", duration), match, amount_of(window.get("max_budget")),
            duration, name=display_name(kind, id_, alias, f"({duration})"), resets_at=resets_at,
            spend=None if spent is None else spent.spend, dimensions=dimensions, rank=rank,
        )  # fmt: skip

    def models_of_budget(self, kind: str, id_: str, match: dict[str, object], budget: BudgetRow) -> None:
        """Draft the limits per model of a row of budgets."""
        self.models(kind, id_, match, json_of(budget.model_max_budget))

    def models(self, kind: str, id_: str, match: dict[str, object], content: object, alias: str | None = None) -> None:
        """Draft limits per model; LiteLLM counts them in its cache, from the first use."""
        if not isinstance(content, dict) or not content:
            return
        for model, entry in content.items():
            subject = f"{_subject(kind, id_, alias)} model {model}"
            if not isinstance(entry, dict):
                self.draft.remark("not_taken", subject, "The entry is no object: LiteLLM does not enforce it.")
                continue
            named: dict[str, object] = {**match, "requested_model": self.with_aliases(str(model))}
            self.draft.add_cached(
                f"{kind} x model", subject, (kind, id_, "model", str(model)), named, cached_budget(entry),
                name=display_name(kind, id_, alias, f"on {model}"), is_zero_none=False,
            )  # fmt: skip
            if limits := [name for name in ("tpm_limit", "rpm_limit") if entry.get(name) is not None]:
                self.draft.rate_limits(subject, ", ".join(limits))
        if kind == "team":
            detail = "In LiteLLM a key's own limit of a model takes the place of its team's; here both count."
            self.draft.remark("decision", f"team {id_} models", detail)

    def with_aliases(self, model: str) -> str | list[str]:
        """Return a model with the aliases that lead to it: one counter for all of them."""
        aliases = self.aliases.get(model)
        return model if not aliases else [model, *aliases]

    def lift(self, default: PlannedBudget, own: dict[str, PlannedBudget], dimension: str) -> None:
        """Raise a default for those who may spend more than it by a budget of their own, which counts instead of it."""
        limit = default.draft.terms.limit_usd
        lifted = {
            id_: budget
            for id_, budget in own.items()
            if budget.draft.terms.limit_usd > limit or budget.draft.period != default.draft.period
        }
        if len(lifted) > _MOST_LIFTED:
            self.draft.spread(default.draft.slug)
            detail = (
                f"{len(lifted):,} have larger or other budgets of their own, more than a default can make exceptions"
                " for: each one known now without a budget of its own gets one; who comes later has none."
            )
            self.draft.remark("decision", default.subject, detail)
            return
        increased = {increase.slug for increase in self.increases}
        for id_, budget in sorted(lifted.items()):
            subject = subject_text({dimension: clean_value(dimension, id_) or id_})
            amount = EXACT.subtract(budget.draft.terms.limit_usd, limit)
            if budget.draft.period != default.draft.period or budget.draft.slug in increased:
                # What it may spend in a window of the default is bounded by its own budget alone.
                amount = self.draft.most_increase(limit)
            self.increases.append(
                PlannedIncrease(
                    slug=default.draft.slug,
                    amount_usd=amount,
                    subject=subject,
                    until=self.draft.far_future,
                    reason=_LIFT_REASON,
                )
            )

    def increase_by_budget(
        self, drafted: PlannedBudget, value: str | None, row: BudgetRow, dimension: str = "user"
    ) -> None:
        """Plan the temporary increase of a row of budgets, for one value of a dimension or for all."""
        subject = None if value is None else subject_text({dimension: clean_value(dimension, value) or value})
        self.increase(drafted, subject, row.temp_budget_increase, instant_of(row.temp_budget_expiry))

    def increase(
        self, drafted: PlannedBudget, subject: str | None, amount: Decimal | None, until: datetime | None
    ) -> None:
        """Plan a temporary increase that is not over."""
        if amount is None or until is None or until <= self.now:
            return
        if not amount.is_finite() or amount <= 0 or until > self.draft.far_future:
            detail = f"Its temporary increase of {amount} until {until.isoformat()} is none."
            self.draft.remark("not_taken", drafted.subject, detail)
            return
        self.increases.append(
            PlannedIncrease(
                slug=drafted.draft.slug, amount_usd=amount, subject=subject, until=until,
                reason="temporary budget increase in LiteLLM",
            )
        )  # fmt: skip


def clean(dimension: str, text: str | None) -> str | None:
    """Return an id as calls carry it; None for none."""
    return None if not text else clean_value(dimension, text)


def display_name(kind: str, id_: str, alias: str | None, *more: str) -> str:
    """Return the name of a budget for people."""
    shown = alias or (id_[:12] if kind == "key" else id_)
    return " ".join((f"LiteLLM: {kind} {shown}", *more))


def _subject(kind: str, id_: str, alias: str | None) -> str:
    """Return how remarks name an entity: keys by their alias, since nobody knows their hashes."""
    return f"{kind} {alias or id_[:12]}" if kind == "key" else f"{kind} {id_}"
