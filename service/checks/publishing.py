"""Builds the commands that copy committed states and consume holds; see lua/publish_and_settle.lua. Pure."""

from collections.abc import Sequence
from typing import TypeVar

from service.checks.counter_reading import CounterReading, posted_micro_usd
from service.checks.hold import LARGEST_MICRO_USD, SettleCounts
from service.checks.keys import ROLLING, counter_key, counter_name, key_of, reservation_key, unix_text
from service.checks.lua_scripts import PUBLISH_AND_SETTLE, SEED, Argument, Command, Reply, script_command
from service.kit.money import micro_usd_rounded_down
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
    return [_command(posts.tenant_id, posts.epoch, *call) for call in calls]


def seed_commands(readings: Sequence[CounterReading]) -> list[Command]:
    """Return the commands that copy what was just read of counters, and make them fresh; see lua/seed.lua."""
    together: dict[tuple[str, int], list[CounterReading]] = {}
    for reading in readings:
        together.setdefault((reading.counter.tenant_id, reading.epoch), []).append(reading)
    commands = []
    for (_, epoch), of_tenant in together.items():
        for chunk in _by_weight(of_tenant):
            keys = [key_of(reading.counter) for reading in chunk]
            arguments = [argument for reading in chunk for argument in _seed_arguments(reading)]
            commands.append(script_command(SEED, keys, [epoch, *arguments]))
    return commands


def settle_counts(replies: Sequence[Reply]) -> SettleCounts:
    """Return what the commands of one publishing did, together."""
    return (
        SettleCounts(**dict(zip(SettleCounts.__struct_fields__, map(sum, zip(*replies, strict=True)), strict=True)))
        if replies
        else SettleCounts()
    )


def _seed_arguments(reading: CounterReading) -> list[Argument]:
    counter = reading.counter
    carry: Argument = "" if reading.carried_usd is None else reading.carried_micro_usd
    counted = f"{unix_text(counter.bucket)} {counter.rolling_seconds}" if counter.is_rolling else ""
    arguments: list[Argument] = [counter.subject, carry, counted, len(reading.states)]
    for state in reading.states:
        arguments += (unix_text(state.bucket), posted_micro_usd(state.enforced), state.version)
    return arguments


def _by_weight(readings: Sequence[CounterReading]) -> list[list[CounterReading]]:
    """Return the readings in portions of about as many states as one call may have."""
    portions: list[list[CounterReading]] = []
    left = 0
    for reading in readings:
        weight = max(len(reading.states), 1)
        if left < weight:
            portions.append([])
            left = max(MOST_STATES_PER_CALL, weight)
        portions[-1].append(reading)
        left -= weight
    return portions


def _command(
    tenant_id: str,
    epoch: int,
    states: Sequence[CounterState],
    settlements: Sequence[Settlement],
) -> Command:
    keys: list[str] = []
    arguments: list[Argument] = [len(states), epoch]
    for state in states:
        bucket = unix_text(state.bucket)
        window = ROLLING if state.is_rolling else bucket
        keys.append(counter_key(tenant_id, state.budget_id, state.subject, window))
        arguments += (bucket, posted_micro_usd(state.enforced), state.version)
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
