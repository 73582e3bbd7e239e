"""Builds the commands that copy committed states and consume holds; see lua/publish_and_settle.lua. Pure."""

from collections.abc import Sequence
from decimal import Decimal
from typing import TypeVar

from service.checks.hold import LARGEST_MICRO_USD, SettleCounts
from service.checks.keys import counter_key, counter_name, reservation_key, unix_text
from service.checks.lua_scripts import PUBLISH_AND_SETTLE, Command, Reply, script_command
from service.kit.money import micro_usd_rounded_down, micro_usd_rounded_up
from service.ledger.posts import CommittedPosts, CounterState, Settlement

# One script call keeps Redis from everybody else: a large batch is published in several. The states go first, so what
# was posted and what was held for it are never both missing.
MOST_STATES_PER_CALL = 200
MOST_SETTLEMENTS_PER_CALL = 200


_Item = TypeVar("_Item")


def publish_commands(posts: CommittedPosts) -> list[Command]:
    """Return the commands that publish one tenant's part of a batch, to be run in order; each may be repeated."""
    states = _chunks(posts.counters, MOST_STATES_PER_CALL)
    settlements = _chunks(posts.settlements, MOST_SETTLEMENTS_PER_CALL)
    # The last states and the first settlements share a call: most batches are one call.
    calls: list[tuple[Sequence[CounterState], Sequence[Settlement]]] = [(chunk, ()) for chunk in states[:-1]]
    if states or settlements:
        calls.append((states[-1] if states else (), settlements[0] if settlements else ()))
    calls += [((), chunk) for chunk in settlements[1:]]
    return [_command(posts.tenant_id, posts.epoch, *call, is_seeding=False) for call in calls]


def seed_commands(tenant_id: str, epoch: int, states: Sequence[CounterState]) -> list[Command]:
    """Return the commands that copy states just read from the ledger and make them fresh."""
    return [_command(tenant_id, epoch, chunk, (), is_seeding=True) for chunk in _chunks(states, MOST_STATES_PER_CALL)]


def settle_counts(replies: Sequence[Reply]) -> SettleCounts:
    """Return what the commands of one publishing did, together."""
    return (
        SettleCounts(**dict(zip(SettleCounts.__struct_fields__, map(sum, zip(*replies, strict=True)), strict=True)))
        if replies
        else SettleCounts()
    )


def posted_micro_usd(enforced_usd: Decimal) -> int:
    """Return the posted amount of a state as counters know it: rounded up, within what the scripts can count."""
    return min(micro_usd_rounded_up(enforced_usd), LARGEST_MICRO_USD)


def _command(
    tenant_id: str,
    epoch: int,
    states: Sequence[CounterState],
    settlements: Sequence[Settlement],
    *,
    is_seeding: bool,
) -> Command:
    keys: list[str] = []
    arguments: list[str | int | bytes] = [len(states), epoch, "1" if is_seeding else "0"]
    for state in states:
        bucket = unix_text(state.bucket)
        keys.append(counter_key(tenant_id, state.budget_id, state.subject, bucket))
        arguments += (bucket, posted_micro_usd(state.enforced), state.version, state.subject)
    for settlement in settlements:
        keys.append(reservation_key(tenant_id, settlement.reservation_id))
        arguments += (
            settlement.reservation_id,
            settlement.charge_id.hex,
            min(micro_usd_rounded_down(settlement.amount_usd), LARGEST_MICRO_USD),
            "1" if settlement.is_final else "0",
            "1" if settlement.is_failure else "0",
            " ".join([counter_name(budget_id, subject) for budget_id, subject in settlement.counters]),
        )
    return script_command(PUBLISH_AND_SETTLE, keys, arguments)


def _chunks(items: Sequence[_Item], size: int) -> list[Sequence[_Item]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
