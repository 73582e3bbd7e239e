"""Declares a tenant's price rules on behalf of operators, and lists them.

Rules are part of the tenant's configuration: they change under its fence, so that ingest and checks turn at one
instant, and each change is in the audit trail or has not happened. A rule is never changed in place: what replaces it
is another rule with dates of its own.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from psycopg import AsyncConnection

from service.audit.repository import record
from service.db.pools import PostgresPool, connected
from service.errors import AlreadyExists, InvalidInput, NotFound, StateConflict
from service.identity.conditions import Match
from service.kit.ids import new_id
from service.pricing import rule_repository
from service.pricing.rule_repository import RuleRow
from service.pricing.rule_terms import RuleKind, Terms
from service.pricing.rules import PriceRule

MAX_RULES: Final = 1_000
# No index finds patterns: each is tried on every name of a model that was not seen before.
MAX_STARS: Final = 2_000

# `ConfigStore.change`: one transaction under the tenant's fence, yielding (connection, the new config_version).
ConfigChange = Callable[[str], AbstractAsyncContextManager[tuple[AsyncConnection[Any], int]]]

_SUBJECTS: Final[dict[RuleKind, str]] = {"override": "price_override", "fee": "fee", "discount": "discount"}


class RuleDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A rule as somebody asks for it; without `effective_from` it holds from now on."""

    kind: RuleKind
    name: str
    match: Match
    terms: Terms
    effective_from: datetime | None
    effective_to: datetime | None
    reason: str | None


class PriceRuleService:
    """The price rules of every tenant."""

    def __init__(self, pool: PostgresPool, change: ConfigChange) -> None:
        self._pool = pool
        self._change = change

    async def list_page(
        self, tenant_id: str, kind: RuleKind, *, active_at: datetime | None, after: UUID | None, limit: int
    ) -> list[RuleRow]:
        """Return rules of a kind, oldest first."""
        async with connected(self._pool) as connection:
            return await rule_repository.list_rules(
                connection, tenant_id, kind, active_at=active_at, after=after, limit=limit
            )

    async def declare(self, tenant_id: str, draft: RuleDraft, author: str) -> RuleRow:
        """Declare a rule.

        Raises InvalidInput for dates out of order, AlreadyExists for a rule that would be charged twice, and
        StateConflict when there are too many rules.
        """
        async with self._change(tenant_id) as (connection, _):
            now = await rule_repository.read_now(connection)
            rule = _rule(draft, now)
            # Before the number of rules: the last one that fits may be sent twice, too.
            _refuse_same(draft.kind, await rule_repository.find_same_rule(connection, tenant_id, draft.kind, rule))
            _refuse_more(*await rule_repository.count_rules(connection, tenant_id, draft.kind))
            row = await rule_repository.insert_rule(
                connection, tenant_id, draft.kind, rule, reason=draft.reason, created_at=now, created_by=author
            )
            await _record(connection, tenant_id, author, "created", row)
        return row

    async def withdraw(self, tenant_id: str, kind: RuleKind, rule_id: UUID, author: str) -> None:
        """Delete a rule as if it had never been declared. Raises NotFound."""
        async with self._change(tenant_id) as (connection, _):
            row = await rule_repository.delete_rule(connection, tenant_id, kind, rule_id)
            if row is None:
                raise NotFound(f"There is no {_SUBJECTS[kind].replace('_', ' ')} with the id {rule_id}.")
            await _record(connection, tenant_id, author, "deleted", row)


def _refuse_same(kind: RuleKind, rule_id: UUID | None) -> None:
    if rule_id is not None:
        detail = (
            f"The {_SUBJECTS[kind].replace('_', ' ')} {rule_id} has this name, match and terms for some of this time"
            " already; give another name if it is meant to apply twice."
        )
        raise AlreadyExists(detail, code="rule_overlaps")


def _refuse_more(rules: int, stars: int) -> None:
    if rules >= MAX_RULES:
        detail = f"A tenant has at most {MAX_RULES} of these; delete those that have ended."
        raise StateConflict(detail, code="too_many_rules")
    if stars >= MAX_STARS:
        detail = f'The matches of these hold at most {MAX_STARS} "*"; delete those that have ended.'
        raise StateConflict(detail, code="too_many_patterns")


def _rule(draft: RuleDraft, now: datetime) -> PriceRule:
    start = draft.effective_from or now
    if draft.effective_to is not None and draft.effective_to <= start:
        raise InvalidInput("A rule has to begin before it ends.", field="effective_to")
    return PriceRule(
        rule_id=new_id(),
        name=draft.name,
        match=draft.match,
        terms=draft.terms,
        effective_from=start,
        effective_to=draft.effective_to,
    )


async def _record(connection: AsyncConnection[Any], tenant_id: str, author: str, verb: str, row: RuleRow) -> None:
    subject = _SUBJECTS[row.kind]
    document = row.document()
    await record(
        connection,
        tenant_id,
        changed_by=author,
        action=f"{subject}.{verb}",
        subject_type=subject,
        subject_id=str(row.rule.rule_id),
        before=document if verb == "deleted" else None,
        after=document if verb == "created" else None,
    )
