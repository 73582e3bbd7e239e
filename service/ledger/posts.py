"""What a committed batch owes to Redis: new counter states and holds to consume. Pure; also the outbox's form."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec


class CounterState(msgspec.Struct, frozen=True, kw_only=True):
    """The whole state of one bucket of a counter after a commit; a higher version is newer.

    `is_rolling`: other buckets of the same counter are counted together with it.
    """

    budget_id: UUID
    subject: str
    bucket: datetime
    enforced: Decimal
    version: int
    is_rolling: bool = False


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded charge that belongs to a reservation: it consumes the hold by `amount_usd` in `counters`.

    Idempotent by charge_id. A final one releases the rest; a failure cuts the remaining life of the hold.
    """

    reservation_id: str
    charge_id: UUID
    amount_usd: Decimal
    is_final: bool
    is_failure: bool
    counters: tuple[tuple[UUID, str], ...]  # (budget_id, subject)


class CommittedPosts(msgspec.Struct, frozen=True, kw_only=True):
    """All that one batch owes to the Redis keys of one tenant."""

    tenant_id: str
    outbox_id: UUID
    epoch: int
    counters: tuple[CounterState, ...]
    settlements: tuple[Settlement, ...]
