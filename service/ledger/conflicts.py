"""Conflicts: events that came under a recorded id with other content. What they cost waits for an operator's decision.

A conflict is a charge with an event key of its own: no request, no tokens, no cost, but its price is enforced.
Accepting reverses the conflict and records what it stands for as a usage charge, both or neither; dropping only
reverses it. Either can be repeated without effect, and a conflict is decided once: it is reversed at most once.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from service.errors import StateConflict
from service.kit.ids import new_id
from service.kit.money import EXACT, ZERO
from service.ledger.charge import ChargeDraft, Unstorable
from service.ledger.corrections import Corrected, Correction
from service.ledger.queries import ChargeQueries
from service.ledger.reversal import COUNTS, Corrector, core_key_of, lines_of, reversal_of
from service.ledger.totals import bucket_of
from service.pricing.adjustments import UNIT as ADJUSTMENT
from service.pricing.rating_result import Line

_MARK = "#conflict-"
# Counts a conflict keeps among its quantities, to have them again when it is accepted.
_KEPT_PREFIX = "conflict_"


def conflict_of(draft: ChargeDraft) -> ChargeDraft:
    """Return the contradicting event as a conflict."""
    counts = {f"{_KEPT_PREFIX}{name}": getattr(draft, name) for name in COUNTS}
    return msgspec.structs.replace(
        draft,
        charge_id=new_id(),
        kind="conflict",
        event_id=f"{draft.event_id}{_MARK}{draft.fingerprint.hex()[:32]}",
        reservation_id=None,
        **dict.fromkeys(COUNTS, 0),
        quantities=draft.quantities | {name: count for name, count in counts.items() if count},
        cost_usd=ZERO,
        model_cost_usd=ZERO,
        fees_usd=ZERO,
        list_cost_usd=ZERO,
        assumed_usd=draft.enforced_usd,
    )


def accepted_charge(row: dict[str, Any]) -> ChargeDraft:
    """Return the usage charge a conflict stands for, from its row of `charge`."""
    components, fees = lines_of(row["components"]), lines_of(row["fees"])
    model_cost, fee_cost = _sum(components), _sum(fees)
    cost = EXACT.add(model_cost, fee_cost)
    quantities: dict[str, int] = row["quantities"]
    kept = {name: row[name] for name in ChargeDraft.__struct_fields__ if name in row}
    return ChargeDraft(
        **{
            **kept,
            **{name: quantities.get(f"{_KEPT_PREFIX}{name}", 0) for name in COUNTS},
            "charge_id": new_id(),
            "kind": "usage",
            # It costs what was decided over, whatever prices are by now.
            "config_version": 0,
            "event_id": accepted_event_id(row),
            "fingerprint": row["charge_id"].bytes * 2,
            "fingerprint_version": 1,
            "tags": tuple(row["tags"]),
            "automatic_tags": tuple(row["automatic_tags"]),
            "components": components,
            "fees": fees,
            "quantities": {n: quantity for n, quantity in quantities.items() if not n.startswith(_KEPT_PREFIX)},
            "cost_usd": cost,
            "model_cost_usd": model_cost,
            "fees_usd": fee_cost,
            "list_cost_usd": EXACT.add(_sum([line for line in components if line.unit != ADJUSTMENT]), fee_cost),
            "assumed_usd": EXACT.subtract(row["enforced_usd"], cost),
            "bucket": bucket_of(row["effective_at"]),
            "key_digest": core_key_of(row),
        }
    )


def accepted_event_id(row: dict[str, Any]) -> str:
    """Return the event id under which an accepted conflict is recorded."""
    event_id: str = row["event_id"]
    return event_id.replace(_MARK, "#accepted-")


class ConflictCharges:
    """Carries out decisions over conflicts; of contradicting ones the first that is written is the decision."""

    def __init__(self, charges: ChargeQueries, corrector: Corrector) -> None:
        self._charges = charges
        self._corrector = corrector

    async def accept_conflict(self, tenant_id: str, charge_id: UUID, reason: str) -> None:
        """Let the conflicting event cost what it says. Raises NotFound, StateConflict, Unavailable.

        Repeating an acceptance changes nothing; a conflict that was dropped before stays dropped.
        """
        row = await self._get_conflict(tenant_id, charge_id)
        if not await self._correct(row, reason, accepted_charge(row)) and not await self._is_accepted(row):
            raise StateConflict("This conflict has been dropped before.", code="already_decided")

    async def drop_conflict(self, tenant_id: str, charge_id: UUID, reason: str) -> None:
        """Take its amount out of the budgets again. Raises NotFound, StateConflict, Unavailable.

        Repeating it changes nothing; a conflict that was accepted before stays accepted.
        """
        row = await self._get_conflict(tenant_id, charge_id)
        if not await self._correct(row, reason, None) and await self._is_accepted(row):
            raise StateConflict("This conflict has been accepted before.", code="already_decided")

    async def _correct(self, row: dict[str, Any], reason: str, replacement: ChargeDraft | None) -> bool:
        """Decide, unless it is decided; tell which. Raises StateConflict, Unavailable."""
        correction = Correction(reversal=reversal_of(row, reason), replacement=replacement)
        [outcome] = await self._corrector.correct(row["tenant_id"], [correction])
        if isinstance(outcome, Unstorable):
            raise StateConflict(f"The ledger refuses this decision: {outcome.detail}.", code="not_recordable")
        return isinstance(outcome, Corrected)

    async def _is_accepted(self, row: dict[str, Any]) -> bool:
        return await self._charges.is_recorded(row["tenant_id"], row["source"], accepted_event_id(row))

    async def _get_conflict(self, tenant_id: str, charge_id: UUID) -> dict[str, Any]:
        row = await self._charges.get_row(tenant_id, charge_id)
        if row["kind"] != "conflict":
            raise StateConflict("This charge is no conflict.", code="not_a_conflict")
        return row


def _sum(lines: Sequence[Line]) -> Decimal:
    total = ZERO
    for line in lines:
        total = EXACT.add(total, line.amount_usd)
    return total
