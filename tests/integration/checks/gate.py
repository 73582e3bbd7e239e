"""One tenant's counters on a real engine, driven by whole micro-USD."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from service.budgets.matching import BudgetCounter
from service.budgets.period import Window
from service.checks.counter_reading import CounterReading
from service.checks.hold import (
    LARGEST_MICRO_USD,
    NO_WINDOW_END_MS,
    CounterAsk,
    CounterFigures,
    CounterKind,
    Decision,
    HoldAnswer,
    HoldAsk,
    SettleCounts,
)
from service.checks.hold_store import HoldStore
from service.checks.keys import CounterRef, key_of, unix_text
from service.checks.publishing import publish_commands, seed_commands, settle_counts
from service.checks.scripts import ScriptLane
from service.kit.ids import new_id
from service.kit.money import from_micro_usd
from service.ledger.posts import CommittedPosts, CounterState, Settlement
from tests.budget_builders import a_budget

WINDOW_START = datetime(2026, 11, 1, tzinfo=UTC)
PLENTY = 1_000_000
STEP_SECONDS = 10  # of a rolling counter
BUCKETS = 6


def _asked_bucket(counter: CounterRef) -> str:
    start = unix_text(counter.bucket)
    return f"{start} {STEP_SECONDS} {counter.rolling_seconds // STEP_SECONDS}" if counter.is_rolling else start


def _kind(counter: CounterRef, carrying: Sequence[CounterRef]) -> CounterKind:
    return "rolling" if counter.is_rolling else "with_carry" if counter in carrying else "one_bucket"


def figures(posted: int, held: int, *, denies: bool = False, limit: int = PLENTY) -> CounterFigures:
    return CounterFigures(posted, held, denies, limit)


@dataclass
class Gate:
    """One tenant."""

    client: Any
    tenant_id: str
    store: HoldStore
    lane: ScriptLane
    versions: dict[CounterRef, int] = field(default_factory=dict)

    def counter(self, number: int = 0, subject: str = "{}") -> CounterRef:
        return CounterRef(self.tenant_id, UUID(int=number + 1), subject, WINDOW_START)

    def rolling(self, number: int = 0, *, first: int = 0) -> CounterRef:
        """Return a rolling counter, of which the buckets number `first` to `first` + 5 are counted."""
        start = WINDOW_START + first * timedelta(seconds=STEP_SECONDS)
        return CounterRef(self.tenant_id, UUID(int=number + 1), "{}", start, BUCKETS * STEP_SECONDS)

    async def seed_rolling(
        self, counter: CounterRef, *amounts: int, version: int = 1, epoch: int = 1, carried: Decimal | None = None
    ) -> None:
        """Seed a rolling counter with the amounts of its first buckets."""
        states = tuple([self.bucket_state(counter, n, amount, version) for n, amount in enumerate(amounts)])
        reading = CounterReading(epoch=epoch, counter=counter, states=states, carried_usd=carried)
        await self.lane.run(seed_commands([reading]))

    def bucket_state(self, counter: CounterRef, number: int, posted: int, version: int) -> CounterState:
        """Return the state of one bucket of a rolling counter, the first being 0."""
        bucket = counter.bucket + number * timedelta(seconds=STEP_SECONDS)
        state = self.state(counter, posted, version)
        return msgspec.structs.replace(state, bucket=bucket, is_rolling=True)

    async def buckets(self, counter: CounterRef) -> dict[int, int]:
        """Return what is posted in each bucket, by its number."""
        fields = await self.client.hgetall(key_of(counter))
        shown = {int(name[2:]): int(value) for name, value in fields.items() if name.startswith(b"p:")}
        return {(start - int(WINDOW_START.timestamp())) // STEP_SECONDS: posted for start, posted in shown.items()}

    def matched(self, counter: CounterRef, **budget: Any) -> BudgetCounter:
        """Return the counter as matching would: of a budget of its own, in a window that never ends."""
        values = {"tenant_id": self.tenant_id, "budget_id": counter.budget_id} | budget
        return BudgetCounter(a_budget(**values), {}, counter.subject, Window(counter.bucket, None))

    async def seed(self, *counters: CounterRef, posted: int = 0, version: int = 0, epoch: int = 1) -> None:
        await self.lane.run(seed_commands([self.reading(counter, posted, version, epoch) for counter in counters]))

    def reading(self, counter: CounterRef, posted: int, version: int, epoch: int = 1) -> CounterReading:
        return CounterReading(epoch=epoch, counter=counter, states=(self.state(counter, posted, version),))

    def state(self, counter: CounterRef, posted: int, version: int) -> CounterState:
        return CounterState(
            budget_id=counter.budget_id,
            subject=counter.subject,
            bucket=counter.bucket,
            enforced=from_micro_usd(posted),
            version=version,
        )

    def ask(self, *counters: CounterRef, **changes: Any) -> HoldAsk:
        limits = changes.pop("limits", [changes.pop("limit", PLENTY)] * len(counters))
        shadows = changes.pop("shadows", ())
        carrying = changes.pop("carrying", ())
        most_carried = changes.pop("most_carried", LARGEST_MICRO_USD)
        asked = tuple(
            CounterAsk(
                key_of(counter),
                _asked_bucket(counter),
                limit,
                counter not in shadows,
                _kind(counter, carrying),
                most_carried,
            )
            for counter, limit in zip(counters, limits, strict=True)
        )
        values: dict[str, Any] = {
            "tenant_id": self.tenant_id,
            "config_version": 1,
            "reservation_id": new_id().hex,
            "fingerprint": "same",
            "amount_micro_usd": 10,
            "is_free": False,
            "wants_hold": True,
            "ttl_ms": 900_000,
            "requested_model": "gpt-5.4",
            "valid_from_ms": 0,
            "valid_until_ms": NO_WINDOW_END_MS,
            "counters": asked,
        }
        return HoldAsk(**(values | changes))

    async def check(self, *counters: CounterRef, **changes: Any) -> HoldAnswer:
        return await self.store.check_and_hold(self.ask(*counters, **changes))

    async def decide(self, *counters: CounterRef, **changes: Any) -> Decision:
        answer = await self.check(*counters, **changes)
        assert isinstance(answer, Decision), answer
        return answer

    def posts(self, states: list[CounterState], settlements: list[Settlement], *, epoch: int = 1) -> CommittedPosts:
        return CommittedPosts(
            tenant_id=self.tenant_id,
            outbox_id=new_id(),
            epoch=epoch,
            counters=tuple(states),
            settlements=tuple(settlements),
        )

    def settlement(self, reservation_id: str, amount: int, *counters: CounterRef, **changes: Any) -> Settlement:
        values: dict[str, Any] = {
            "reservation_id": reservation_id,
            "charge_id": new_id(),
            "amount_usd": from_micro_usd(amount),
            "is_final": True,
            "is_failure": False,
            "counters": tuple((counter.budget_id, counter.subject) for counter in counters),
        }
        return Settlement(**(values | changes))

    async def publish(self, posts: CommittedPosts) -> SettleCounts:
        return settle_counts(await self.lane.run(publish_commands(posts)))

    async def post(self, reservation_id: str, amount: int, *counters: CounterRef, **changes: Any) -> SettleCounts:
        """Publish an event of a reservation: every counter's posted rises by the amount."""
        states = []
        for counter in counters:
            self.versions[counter] = self.versions.get(counter, 0) + 1
            states.append(self.state(counter, await self.posted(counter) + amount, self.versions[counter]))
        return await self.publish(self.posts(states, [self.settlement(reservation_id, amount, *counters, **changes)]))

    async def posted(self, counter: CounterRef) -> int:
        return int(await self.client.hget(key_of(counter), f"p:{unix_text(counter.bucket)}") or 0)

    async def held(self, counter: CounterRef) -> int:
        return int(await self.client.hget(key_of(counter), "h") or 0)

    async def members(self, counter: CounterRef) -> dict[str, tuple[int, int]]:
        """Reservation id -> (micro-USD, expiry in ms)."""
        rows = await self.client.zrange(f"{key_of(counter)}:z", 0, -1, withscores=True)
        found = {}
        for member, expires in rows:
            amount, _, reservation_id = member.decode().split(":", 2)
            found[reservation_id] = (int(amount), int(expires))
        return found

    async def make_due(self, reservation_id: str, *counters: CounterRef) -> None:
        """Let time pass for one reservation: its end is moved to the past, in all its keys."""
        past = 1_000
        for counter in counters:
            up_to = int(await self.client.hget(key_of(counter), "rx") or 0)
            for member, expires in await self.client.zrange(f"{key_of(counter)}:z", 0, -1, withscores=True):
                amount, _, name = member.decode().split(":", 2)
                if name == reservation_id:
                    await self.client.zadd(f"{key_of(counter)}:z", {member: past})
                    await self.client.hset(key_of(counter), "d", past)
                    if past < up_to <= expires:
                        await self.client.hincrby(key_of(counter), "rs", amount)
        await self.client.hset(f"{{{self.tenant_id}}}:r:{reservation_id}", "ex", past)

    async def assert_added_up(self, counter: CounterRef) -> None:
        """The sum a rolling counter knows is that of its buckets."""
        fields = await self.client.hgetall(key_of(counter))
        if b"so" in fields:
            start = (int(fields[b"so"]) - int(WINDOW_START.timestamp())) // STEP_SECONDS
            expected = sum([posted for number, posted in (await self.buckets(counter)).items() if number >= start])
            assert int(fields[b"sp"]) == expected
            assert int(fields[b"so"]) >= int(fields[b"o"])
        else:
            assert b"sp" not in fields

    async def assert_sound(self, *counters: CounterRef) -> None:
        """Held is the sum of the holds, never negative; sums are right; every key of the tenant ends some day."""
        for counter in counters:
            held, members = await self.held(counter), (await self.members(counter)).values()
            assert held == sum(amount for amount, _ in members)
            assert held >= 0
            up_to, added_up = await self.client.hmget(key_of(counter), "rx", "rs")
            if up_to is not None:
                assert int(added_up) == sum(amount for amount, expires in members if expires < int(up_to))
            await self.assert_added_up(counter)
        async for key in self.client.scan_iter(match=f"{{{self.tenant_id}}}:*", count=1000):
            if not key.endswith(b":cv"):
                assert await self.client.pttl(key) > 0, key
