"""Names of a tenant's Redis keys. All carry the tenant as hash tag: one slot, so one script reaches them all. Pure."""

from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from uuid import UUID

import msgspec

from service.budgets.matching import BudgetCounter
from service.budgets.period import RollingPeriod, shown_window

# In the place of the window's start; the scripts know rolling counters by it.
ROLLING = "rolling"


class CounterRef(msgspec.Struct, frozen=True):
    """One counter: a budget, a subject (canonical text), and the bucket its window starts with.

    A rolling counter is the same at all times; `bucket` is the first of its buckets that is meant, and
    `rolling_seconds` how long they are together.
    """

    tenant_id: str
    budget_id: UUID
    subject: str
    bucket: datetime
    rolling_seconds: int = 0

    @property
    def is_rolling(self) -> bool:
        """Tell whether several buckets are counted together."""
        return self.rolling_seconds > 0


def fence_key(tenant_id: str) -> str:
    """Return the key of the tenant's configuration fence."""
    return f"{{{tenant_id}}}:cv"


def reservation_key(tenant_id: str, reservation_id: str) -> str:
    """Return the key of one reservation; other tenants' reservations of the same id have other keys."""
    return f"{{{tenant_id}}}:r:{reservation_id}"


def counter_key(tenant_id: str, budget_id: UUID, subject: str, window_start: str) -> str:
    """Return the key of one counter.

    The start of its window (`unix_text`) is part of it, so nothing is ever reset; rolling ones have ROLLING there.
    """
    return f"{{{tenant_id}}}:c:{counter_name(budget_id, subject)}:{window_start}"


@lru_cache(maxsize=65_536)
def counter_name(budget_id: UUID, subject: str) -> str:
    """Return the part of a counter's key that is the same in all its windows."""
    return f"{budget_id.hex}:{blake2b(subject.encode(), digest_size=16).hexdigest()}"


@lru_cache(maxsize=4_096)
def unix_text(instant: datetime) -> str:
    """Return whole seconds since the epoch; windows and buckets start on whole seconds."""
    return str(int(instant.timestamp()))


def key_of(counter: CounterRef) -> str:
    """Return the key of a counter."""
    window = ROLLING if counter.is_rolling else unix_text(counter.bucket)
    return counter_key(counter.tenant_id, counter.budget_id, counter.subject, window)


def ref_of(counter: BudgetCounter) -> CounterRef:
    """Return the name of a matched counter, from the first bucket that is counted at its time."""
    budget, start = counter.budget, counter.window.start
    if not isinstance(budget.period, RollingPeriod):
        return CounterRef(budget.tenant_id, budget.budget_id, counter.subject, start)
    shown = shown_window(budget.period, start)
    seconds = budget.period.bucket_count * budget.period.bucket_seconds
    return CounterRef(budget.tenant_id, budget.budget_id, counter.subject, shown.start, seconds)
