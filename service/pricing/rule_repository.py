"""Every SQL statement about price rules. A deleted rule stays as evidence of what priced a charge."""
# ruff: noqa: S608 — only a constant list of columns is put into statements

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Jsonb

from service.identity.conditions import match_document
from service.pricing.rule_match import parse_rule_match
from service.pricing.rule_terms import RuleKind, Terms, stored_terms
from service.pricing.rules import PriceRule, PricingRules

_COLUMNS = (
    "rule_id, kind, name, match::text AS match, terms::text AS terms, effective_from, effective_to, reason,"
    " created_at, created_by"
)
_IN_USE = "price_rule WHERE tenant_id = %(tenant_id)s AND deleted_at IS NULL"
_LOAD_IDS = f"SELECT rule_id FROM {_IN_USE}"
_LOAD = f"SELECT {_COLUMNS} FROM {_IN_USE} ORDER BY rule_id"
_LIST = f"""
SELECT {_COLUMNS} FROM {_IN_USE} AND kind = %(kind)s
  AND (%(after)s::uuid IS NULL OR rule_id > %(after)s)
  AND (%(active_at)s::timestamptz IS NULL
       OR effective_from <= %(active_at)s AND (effective_to IS NULL OR effective_to > %(active_at)s))
ORDER BY rule_id
LIMIT %(limit)s
"""
_COUNT = f"""
SELECT count(*) AS rules, COALESCE(sum(length(match::text) - length(replace(match::text, '*', ''))), 0) AS stars
FROM {_IN_USE} AND kind = %(kind)s
"""
_FIND_SAME = f"""
SELECT rule_id FROM {_IN_USE} AND kind = %(kind)s AND name = %(name)s AND match = %(match)s AND terms = %(terms)s
  AND tstzrange(effective_from, effective_to) && tstzrange(%(effective_from)s, %(effective_to)s)
ORDER BY rule_id
LIMIT 1
"""
# The time of the statement, not of the transaction: that began before the wait for the tenant's lock.
_NOW = "SELECT clock_timestamp() AS now"
_INSERT = f"""
INSERT INTO price_rule (
    tenant_id, rule_id, kind, name, match, terms, effective_from, effective_to, reason, created_at, created_by
)
VALUES (
    %(tenant_id)s, %(rule_id)s, %(kind)s, %(name)s, %(match)s, %(terms)s, %(effective_from)s, %(effective_to)s,
    %(reason)s, %(created_at)s, %(created_by)s
)
RETURNING {_COLUMNS}
"""
_DELETE = f"""
UPDATE price_rule SET deleted_at = clock_timestamp()
WHERE tenant_id = %(tenant_id)s AND kind = %(kind)s AND rule_id = %(rule_id)s AND deleted_at IS NULL
RETURNING {_COLUMNS}
"""


class RuleRow(msgspec.Struct, frozen=True, kw_only=True):
    """A stored rule, and who made it."""

    rule: PriceRule
    kind: RuleKind
    reason: str | None
    created_at: datetime
    created_by: str

    def document(self) -> dict[str, Any]:
        """Return the rule as the audit trail shows it."""
        return {
            "name": self.rule.name,
            "match": match_document(self.rule.match),
            **self.rule.terms.document(),
            "effective_from": self.rule.effective_from,
            "effective_to": self.rule.effective_to,
            "reason": self.reason,
        }


async def load_rules(connection: AsyncConnection[Any], tenant_id: str, known: PricingRules) -> PricingRules:
    """Return a tenant's rules: the known ones themselves, with all they remember, while they are still the same."""
    parameters = {"tenant_id": tenant_id}
    rule_ids = {row["rule_id"] for row in await _fetch_all(connection, _LOAD_IDS, parameters)}
    if rule_ids == known.rule_ids:
        return known
    rows = await _fetch_all(connection, _LOAD, parameters)
    return PricingRules(_rule_row(row).rule for row in rows)


async def list_rules(
    connection: AsyncConnection[Any],
    tenant_id: str,
    kind: RuleKind,
    *,
    active_at: datetime | None,
    after: UUID | None,
    limit: int,
) -> list[RuleRow]:
    """Return rules of a kind, oldest first; with `active_at` those in force at that instant."""
    parameters = {"tenant_id": tenant_id, "kind": kind, "active_at": active_at, "after": after, "limit": limit}
    return [_rule_row(row) for row in await _fetch_all(connection, _LIST, parameters)]


async def count_rules(connection: AsyncConnection[Any], tenant_id: str, kind: RuleKind) -> tuple[int, int]:
    """Return how many rules of a kind there are, and how many "*" are in their matches."""
    [row] = await _fetch_all(connection, _COUNT, {"tenant_id": tenant_id, "kind": kind})
    return int(row["rules"]), int(row["stars"])


async def read_now(connection: AsyncConnection[Any]) -> datetime:
    """Return the present time of the database."""
    [row] = await _fetch_all(connection, _NOW, {})
    now: datetime = row["now"]
    return now


async def find_same_rule(
    connection: AsyncConnection[Any], tenant_id: str, kind: RuleKind, rule: PriceRule
) -> UUID | None:
    """Return the oldest rule that says the same under the same name for some of the same time; None = there is none."""
    rows = await _fetch_all(connection, _FIND_SAME, _parameters(tenant_id, kind, rule))
    found: UUID | None = rows[0]["rule_id"] if rows else None
    return found


async def insert_rule(
    connection: AsyncConnection[Any],
    tenant_id: str,
    kind: RuleKind,
    rule: PriceRule,
    *,
    reason: str | None,
    created_at: datetime,
    created_by: str,
) -> RuleRow:
    """Store a rule."""
    parameters = _parameters(tenant_id, kind, rule) | {
        "reason": reason,
        "created_at": created_at,
        "created_by": created_by,
    }
    [row] = await _fetch_all(connection, _INSERT, parameters)
    return _rule_row(row)


async def delete_rule(
    connection: AsyncConnection[Any], tenant_id: str, kind: RuleKind, rule_id: UUID
) -> RuleRow | None:
    """Take a rule out of use and return it; None when there is none of this kind."""
    rows = await _fetch_all(connection, _DELETE, {"tenant_id": tenant_id, "kind": kind, "rule_id": rule_id})
    return _rule_row(rows[0]) if rows else None


def _parameters(tenant_id: str, kind: RuleKind, rule: PriceRule) -> dict[str, Any]:
    return {
        "tenant_id": tenant_id,
        "rule_id": rule.rule_id,
        "kind": kind,
        "name": rule.name,
        "match": Jsonb(match_document(rule.match)),
        "terms": Jsonb(rule.terms.document()),
        "effective_from": rule.effective_from,
        "effective_to": rule.effective_to,
    }


def _rule_row(row: DictRow) -> RuleRow:
    kind: RuleKind = row["kind"]
    terms: Terms = stored_terms(kind, msgspec.json.decode(row["terms"]))
    rule = PriceRule(
        rule_id=row["rule_id"],
        name=row["name"],
        match=parse_rule_match(msgspec.json.decode(row["match"])),
        terms=terms,
        effective_from=row["effective_from"],
        effective_to=row["effective_to"],
    )
    return RuleRow(
        rule=rule, kind=kind, reason=row["reason"], created_at=row["created_at"], created_by=row["created_by"]
    )


async def _fetch_all(connection: AsyncConnection[Any], statement: str, parameters: Mapping[str, Any]) -> list[DictRow]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(statement, parameters)
        return await cursor.fetchall()
