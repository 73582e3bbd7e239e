"""What an import found and would do, before anything is written; and what became of it. Pure values."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from service.budgets.apply_plan import Step
from service.budgets.budget import Budget, Increase
from service.imports.plan import Plan, PlannedIncrease, PlannedKey, Remark
from service.kit.money import ZERO
from service.ledger.openings import Opening


class ImportOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What to import. Spend is taken from calls that began in [since, until), as far as windows need it."""

    tenant_id: str
    author: str
    takes_spend: bool = True
    since: datetime | None = None
    until: datetime | None = None
    prunes: bool = False


class BudgetLine(msgspec.Struct, frozen=True, kw_only=True):
    """One budget: what LiteLLM says was spent in it (None = it keeps no such sum), and at what it starts here."""

    slug: str
    kind: str
    subject: str
    limit_usd: Decimal
    period: dict[str, Any]
    litellm_usd: Decimal | None
    starts_at_usd: Decimal
    counters: int  # sums LiteLLM keeps for it


class LogShare(msgspec.Struct, kw_only=True):
    """What the spend logs contribute. `rows` and the oldest are None without a table of logs."""

    start: datetime
    end: datetime
    rows: int | None = None
    oldest: datetime | None = None
    groups: int = 0
    new_groups: int = 0
    total_usd: Decimal = ZERO
    new_usd: Decimal = ZERO


class Examination(msgspec.Struct, kw_only=True):
    """All an import needs to write, and to show beforehand."""

    now: datetime
    plan: Plan
    steps: list[Step]
    due_keys: list[PlannedKey]
    due_increases: list[PlannedIncrease]
    over_increases: list[tuple[Budget, Increase]]
    logs: LogShare | None
    recorded: dict[str, Decimal]  # what earlier imports recorded, by group of logs
    residuals: tuple[Opening, ...]
    lines: list[BudgetLine]
    remarks: list[Remark]


class ImportOutcome(msgspec.Struct, kw_only=True):
    """What was written."""

    keys: int = 0
    budgets: dict[str, int] = {}
    increases: int = 0
    openings_recorded: int = 0
    openings_known: int = 0
    openings_refused: int = 0
    recorded_usd: Decimal = ZERO
