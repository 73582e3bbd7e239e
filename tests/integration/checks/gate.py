"""One tenant's counters on a real engine, driven by whole micro-USD."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from service.checks.hold import NO_WINDOW_END_MS, CounterAsk, Decision, HoldAnswer, HoldAsk, SettleCounts
from service.checks.hold_store import HoldStore
from service.checks.keys import CounterRef, key_of, unix_text
from service.checks.publishing import publish_commands, seed_commands, settle_counts
from service.checks.scripts import ScriptLane
from service.kit.ids import new_id
from service.kit.money import from_micro_usd
from service.ledger.posts import CommittedPosts, CounterState, Settlement

WINDOW_START = datetime(2026, 11, 1, tzinfo=UTC)
PLENTY = 1_000_000


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

    async def seed(self, *counters: CounterRef, posted: int = 0, version: int = 0, epoch: int = 1) -> None:
        states = [self.state(counter, posted, version) for counter in counters]
        await self.lane.run(seed_commands(self.tenant_id, epoch, states))

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
        asked = tuple(
            CounterAsk(key_of(counter), unix_text(counter.bucket), limit, counter not in shadows)
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
            for member in await self.client.zrange(f"{key_of(counter)}:z", 0, -1):
                if member.decode().split(":", 2)[2] == reservation_id:
                    await self.client.zadd(f"{key_of(counter)}:z", {member: past})
                    await self.client.hset(key_of(counter), "d", past)
        await self.client.hset(f"{{{self.tenant_id}}}:r:{reservation_id}", "ex", past)

    async def assert_sound(self, *counters: CounterRef) -> None:
        """Held is the sum of the holds, never negative; every key of the tenant ends some day."""
        for counter in counters:
            held = await self.held(counter)
            assert held == sum(amount for amount, _ in (await self.members(counter)).values())
            assert held >= 0
        async for key in self.client.scan_iter(match=f"{{{self.tenant_id}}}:*", count=1000):
            if not key.endswith(b":cv"):
                assert await self.client.pttl(key) > 0, key
