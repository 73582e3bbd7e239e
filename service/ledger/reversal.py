"""Reversals: a charge that cancels another wholly, in the hour and in the windows of the original. At most one each.

A reversal has an event key of its own, made from the original's id: that a second one is refused, whoever reverses (an
operator, a repricing), is the same guarantee as that an event is recorded once.
"""

from collections.abc import Sequence
from decimal import Decimal
from hashlib import sha256
from typing import Any, Protocol, assert_never
from uuid import UUID

import msgspec

from service.audit.repository import COMMAND_LINE, record
from service.db.pools import PostgresConnection
from service.errors import StateConflict
from service.kit.ids import new_id
from service.kit.sources import LEDGER_SOURCE
from service.ledger.charge import ChargeDraft, Unstorable
from service.ledger.corrections import (
    Alongside,
    AlreadyReversed,
    Corrected,
    Correction,
    CorrectionOutcome,
    reversal_event_id,
)
from service.ledger.queries import ChargeQueries
from service.ledger.totals import CORE_KEY, bucket_of, core_key_digest
from service.pricing.rating_result import Line

_REVERSIBLE = frozenset({"usage", "correction", "opening"})
COUNTS = (
    "requests",
    "failed_requests",
    "unpriced_requests",
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_write_input_tokens",
    "reasoning_output_tokens",
)
_NEGATED = (
    *COUNTS,
    "cost_usd",
    "model_cost_usd",
    "fees_usd",
    "list_cost_usd",
    "enforced_usd",
    "assumed_usd",
    "reported_cost_usd",
)


class Corrector(Protocol):
    """Writes corrections."""

    async def correct(
        self, tenant_id: str, corrections: Sequence[Correction], *, alongside: Alongside | None = None
    ) -> list[CorrectionOutcome]:
        """Make corrections of one tenant and return what became of each; `alongside` is committed with them."""
        ...


class Reversed(msgspec.Struct, frozen=True, kw_only=True):
    """The reversal that was recorded."""

    charge_id: UUID
    corrects_charge_id: UUID


class ReversalService:
    """Cancels charges by recording their negative."""

    def __init__(self, charges: ChargeQueries, corrector: Corrector) -> None:
        self._charges = charges
        self._corrector = corrector

    async def reverse(self, tenant_id: str, charge_id: UUID, reason: str, *, author: str = COMMAND_LINE) -> Reversed:
        """Cancel a charge. Raises NotFound, StateConflict (`not_reversible`, `already_reversed`), Unavailable."""
        row = await self._charges.get_row(tenant_id, charge_id)
        if row["kind"] not in _REVERSIBLE:
            raise StateConflict(f"A {row['kind']} cannot be reversed.", code="not_reversible")

        async def enter(connection: PostgresConnection, outcomes: Sequence[CorrectionOutcome]) -> None:
            await _record(connection, tenant_id, author, charge_id, reason, outcomes)

        correction = Correction(reversal=reversal_of(row, reason))
        [outcome] = await self._corrector.correct(tenant_id, [correction], alongside=enter)
        match outcome:
            case Corrected(reversal_id=reversal_id):
                return Reversed(charge_id=reversal_id, corrects_charge_id=charge_id)
            case AlreadyReversed():
                raise await self._already_reversed(tenant_id, charge_id)
            case Unstorable(detail=detail):
                raise StateConflict(f"The ledger refuses this reversal: {detail}.", code="not_recordable")
            case _:
                assert_never(outcome)

    async def _already_reversed(self, tenant_id: str, charge_id: UUID) -> StateConflict:
        """Return the refusal; after a repricing it names the charge that stands in the place of this one now."""
        present = await self._charges.find_present(tenant_id, charge_id)
        if present is None:
            return StateConflict("This charge has been reversed before.", code="already_reversed")
        return StateConflict(
            f"This charge has been corrected; {present} stands in its place: reverse that one.",
            code="already_reversed",
        )


async def _record(
    connection: PostgresConnection,
    tenant_id: str,
    author: str,
    charge_id: UUID,
    reason: str,
    outcomes: Sequence[CorrectionOutcome],
) -> None:
    """Enter a reversal into the audit trail; one that was not made leaves nothing."""
    for outcome in outcomes:
        if isinstance(outcome, Corrected):
            await record(
                connection,
                tenant_id,
                changed_by=author,
                action="charge.reversed",
                subject_type="charge",
                subject_id=str(charge_id),
                before=None,
                after={"reversal_id": outcome.reversal_id, "reason": reason.replace("\x00", "\ufffd")},
            )


def reversal_of(row: dict[str, Any], reason: str) -> ChargeDraft:
    """Return the draft that cancels the charge of a row of `charge`."""
    original: UUID = row["charge_id"]
    kept = {name: row[name] for name in ChargeDraft.__struct_fields__ if name in row}
    negated = {name: _minus(row[name]) for name in _NEGATED if row[name] is not None}
    return ChargeDraft(
        **{
            **kept,
            **negated,
            "charge_id": new_id(),
            "kind": "reversal",
            "config_version": 0,
            "source": LEDGER_SOURCE,
            "event_id": reversal_event_id(original),
            "fingerprint": sha256(original.bytes).digest(),
            "fingerprint_version": 1,
            "corrects_charge_id": original,
            "reason": reason.replace("\x00", "\ufffd"),
            "reservation_id": None,
            "facts": None,
            "tags": tuple(row["tags"]),
            "automatic_tags": tuple(row["automatic_tags"]),
            "components": _negated_lines(row["components"]),
            "fees": _negated_lines(row["fees"]),
            "quantities": {name: -quantity for name, quantity in row["quantities"].items()},
            "bucket": bucket_of(row["effective_at"]),
            "key_digest": core_key_of(row),
        }
    )


def core_key_of(row: dict[str, Any]) -> bytes:
    """Return the digest of the core key of a row of `charge`."""
    return core_key_digest(tuple(row[name] for name in CORE_KEY))


def lines_of(lines: list[dict[str, Any]]) -> tuple[Line, ...]:
    """Return lines as they were recorded."""
    return msgspec.convert(lines, tuple[Line, ...], strict=False)


def _negated_lines(lines: list[dict[str, Any]]) -> tuple[Line, ...]:
    return tuple(
        msgspec.structs.replace(line, quantity=_minus(line.quantity), amount_usd=_minus(line.amount_usd))
        for line in lines_of(lines)
    )


def _minus(figure: Any) -> Any:
    """Return the negative of a count or an amount; the minus sign itself would round an amount to 28 digits."""
    return figure.copy_negate() if isinstance(figure, Decimal) and figure else -figure
