"""Any order of checks, settlements, voids, renewals, lapses, late and repeated publishings, and wipes.

After every step the counters are what a plain model says, and never was more admitted than a limit allows.
"""

import asyncio
from random import Random
from typing import Any
from uuid import UUID

import pytest
import redis.asyncio
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from service.checks.hold import Decision, IdReused, MissingCounters
from service.checks.hold_store import HoldStore
from service.checks.keys import CounterRef, key_of, unix_text
from service.checks.lua_scripts import RECOUNT, script_command
from service.checks.scripts import ScriptLane
from service.kit.ids import new_id
from service.ledger.posts import CommittedPosts
from tests.integration.checks.gate import Gate

LIMITS = (2_000, 9_000, 10**9)
COUNTERS = range(len(LIMITS))
IDS = ["r0", "r1", "r2"]
ASKED = [0, 1, 7, 20, 40, 100, 101]
POSTED = [0, 1, 3, 5, 40, 250]


class Held:
    """One reservation in the model: what it still holds per counter, and how it ended."""

    def __init__(self, fingerprint: str, amount: int, counters: frozenset[int]) -> None:
        self.fingerprint = fingerprint
        self.amount = amount
        self.left = dict.fromkeys(counters, amount) if amount else {}
        self.is_live = True
        self.is_due = False


class HoldMachine(RuleBasedStateMachine):
    redis_url = ""

    @initialize()
    def open(self) -> None:
        self.runner = asyncio.Runner()
        self.run(self._open())
        self.ledger = dict.fromkeys(COUNTERS, (0, 0))  # counter -> (posted, version): what was committed
        self.copy: dict[int, tuple[int, int]] = {}  # what the counters were told
        self.reservations: dict[str, Held] = {}
        self.pending: list[tuple[CommittedPosts, str, int, dict[str, Any], dict[int, tuple[int, int]]]] = []
        self.charged: dict[str, set[UUID]] = {}

    async def _open(self) -> None:
        client = redis.asyncio.Redis.from_url(self.redis_url)
        tenant_id = f"m-{new_id().hex}"
        self.gate = Gate(client, tenant_id, HoldStore(client, deadline_ms=5_000), ScriptLane(client, timeout_ms=5_000))

    def run(self, awaitable: Any) -> Any:
        return self.runner.run(awaitable)

    def ref(self, number: int) -> CounterRef:
        return self.gate.counter(number)

    @rule(
        reservation_id=st.sampled_from(IDS),
        fingerprint=st.sampled_from("ab"),
        amount=st.sampled_from(ASKED),
        counters=st.frozensets(st.sampled_from(list(COUNTERS)), min_size=1),
        wants_hold=st.sampled_from([True, True, True, False]),
    )
    def check(
        self, reservation_id: str, fingerprint: str, amount: int, counters: frozenset[int], wants_hold: bool
    ) -> None:
        asked = sorted(counters)
        ask = {
            "reservation_id": reservation_id,
            "fingerprint": fingerprint,
            "amount_micro_usd": amount,
            "limits": [LIMITS[number] for number in asked],
            "wants_hold": wants_hold,
        }
        refs = [self.ref(number) for number in asked]
        answer = self.run(self.gate.check(*refs, **ask))
        known = self.reservations.get(reservation_id)
        is_live = known is not None and known.is_live and not known.is_due
        if wants_hold and is_live and known is not None and known.fingerprint != fingerprint:
            assert answer == IdReused()
            return
        missing = [index for index, number in enumerate(asked) if number not in self.copy]
        if missing:
            assert answer == MissingCounters(tuple(missing))
            for number in (asked[index] for index in missing):
                self.seed(number)
            answer = self.run(self.gate.check(*refs, **ask))
        assert isinstance(answer, Decision)
        self._drop_due(asked, reservation_id if wants_hold else None)
        assert answer.is_replay is (wants_hold and is_live)
        if answer.is_replay:
            assert answer.is_allowed
            return
        expected = all(self.copy[number][0] + self.held(number) + max(amount, 1) <= LIMITS[number] for number in asked)
        assert answer.is_allowed is expected
        if expected and wants_hold:
            self.reservations[reservation_id] = Held(fingerprint, max(amount, 1), counters)
            for number in asked:
                assert self.copy[number][0] + self.held(number) <= LIMITS[number]

    @precondition(lambda self: self.reservations)
    @rule(
        pick=st.integers(0, 999),
        amount=st.sampled_from(POSTED),
        is_final=st.booleans(),
        is_failure=st.booleans(),
        times=st.integers(0, 2),
    )
    def commit(self, pick: int, amount: int, is_final: bool, is_failure: bool, times: int) -> None:
        """Record an event, most often of a live reservation and where it holds; publish it never, once or twice yet."""
        live = sorted(name for name, known in self.reservations.items() if known.left)
        names = (live or IDS) + IDS[:1]
        reservation_id = names[pick % len(names)]
        known = self.reservations.get(reservation_id)
        held = [] if known is None else sorted(known.left)
        counters = [frozenset(held or COUNTERS), frozenset({1}), frozenset({0, 2})][pick % 7 % 3]
        states = []
        for number in sorted(counters):
            posted, version = self.ledger[number]
            self.ledger[number] = (posted + amount, version + 1)
            states.append(self.gate.state(self.ref(number), *self.ledger[number]))
        flags = {"is_final": is_final, "is_failure": is_failure and not is_final}
        settlement = self.gate.settlement(reservation_id, amount, *[self.ref(n) for n in sorted(counters)], **flags)
        versions = {number: self.ledger[number] for number in counters}
        self.pending.append((self.gate.posts(states, [settlement]), reservation_id, amount, flags, versions))
        for _ in range(times):
            self._publish(len(self.pending) - 1)

    @precondition(lambda self: self.pending)
    @rule(pick=st.integers(0, 999), is_kept=st.booleans())
    def publish(self, pick: int, is_kept: bool) -> None:
        """Publish any commit there was, for the first time or again."""
        index = pick % len(self.pending)
        self._publish(index)
        if not is_kept:
            self.pending.pop(index)

    def _publish(self, index: int) -> None:
        posts, reservation_id, amount, flags, versions = self.pending[index]
        self.run(self.gate.publish(posts))
        for number, state in versions.items():
            if number in self.copy and self.copy[number][1] < state[1]:
                self.copy[number] = state
        self._settle(posts.settlements[0].charge_id, reservation_id, amount, flags, set(versions))

    def _settle(
        self, charge_id: UUID, reservation_id: str, amount: int, flags: dict[str, Any], counters: set[int]
    ) -> None:
        known = self.reservations.get(reservation_id)
        if known is None or charge_id in self.charged.setdefault(reservation_id, set()):
            return
        self.charged[reservation_id].add(charge_id)
        if not known.is_live:
            return
        if known.is_due or flags["is_final"]:
            known.is_live = False
            known.left = {}
            return
        for number in counters & known.left.keys():
            known.left[number] -= amount
            if known.left[number] <= 0:
                del known.left[number]

    @precondition(lambda self: self.reservations)
    @rule(reservation_id=st.sampled_from(IDS))
    def void(self, reservation_id: str) -> None:
        known = self.reservations.get(reservation_id)
        answer = self.run(self.gate.store.void(self.gate.tenant_id, reservation_id))
        assert (answer is None) is (known is None)
        if known is not None:
            known.is_live = False
            known.left = {}

    @precondition(lambda self: self.reservations)
    @rule(reservation_id=st.sampled_from(IDS))
    def renew(self, reservation_id: str) -> None:
        known = self.reservations.get(reservation_id)
        answer = self.run(self.gate.store.renew(self.gate.tenant_id, reservation_id, 900_000))
        assert (answer is None) is (known is None)
        if known is not None:
            assert (answer.state == "live") is (known.is_live and not known.is_due)

    @precondition(lambda self: self.reservations)
    @rule(reservation_id=st.sampled_from(IDS))
    def let_time_pass(self, reservation_id: str) -> None:
        known = self.reservations.get(reservation_id)
        if known is not None and known.is_live:
            self.run(self.gate.make_due(reservation_id, *[self.ref(number) for number in COUNTERS]))
            known.is_due = True

    @rule(number=st.sampled_from(list(COUNTERS)))
    def seed(self, number: int) -> None:
        posted, version = self.ledger[number]
        self.run(self.gate.seed(self.ref(number), posted=posted, version=version))
        if number not in self.copy or self.copy[number][1] < version:
            self.copy[number] = (posted, version)

    @rule(number=st.sampled_from(list(COUNTERS)))
    def sweep(self, number: int) -> None:
        bucket = unix_text(self.ref(number).bucket)
        reply = self.run(self.gate.lane.call(script_command(RECOUNT, [key_of(self.ref(number))], [bucket, "0"])))
        if reply:
            assert reply[3] == reply[4], "held was not the sum of the holds"
            self._drop_due([number], None)

    @precondition(lambda self: len(self.reservations) > 1)
    @rule(is_meant=st.sampled_from([True, False, False]))
    def wipe(self, is_meant: bool) -> None:
        if not is_meant:
            return

        async def delete() -> None:
            keys = [key async for key in self.gate.client.scan_iter(match=f"{{{self.gate.tenant_id}}}:*", count=1000)]
            if keys:
                await self.gate.client.delete(*keys)

        self.run(delete())
        self.copy.clear()
        self.reservations.clear()
        self.charged.clear()

    def _drop_due(self, numbers: list[int], asked_id: str | None) -> None:
        """Holds whose time is over leave the counters looked at; that of the id asked about leaves them all."""
        for reservation_id, known in self.reservations.items():
            if known.is_due and known.is_live:
                for number in list(known.left) if reservation_id == asked_id else numbers:
                    known.left.pop(number, None)

    def held(self, number: int) -> int:
        return sum(known.left.get(number, 0) for known in self.reservations.values())

    @invariant()
    def counters_are_what_the_model_says(self) -> None:
        if not hasattr(self, "runner"):
            return

        async def look() -> None:
            for number in COUNTERS:
                ref = self.ref(number)
                assert await self.gate.held(ref) == self.held(number), number
                if number in self.copy:
                    assert await self.gate.posted(ref) == self.copy[number][0], number
            await self.gate.assert_sound(*[self.ref(number) for number in COUNTERS])

        self.run(look())

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.run(self._close())
            self.runner.close()

    async def _close(self) -> None:
        await self.gate.store.close()
        await self.gate.lane.close()
        await self.gate.client.aclose()


def test_counters_and_holds_follow_their_model(redis_url: str):
    machine = type("Machine", (HoldMachine,), {"redis_url": redis_url})
    chosen = settings(
        max_examples=50,
        stateful_step_count=40,
        deadline=None,
        # A failing run is short enough to be read as it is; shrinking it would take minutes.
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        print_blob=True,
    )
    run_state_machine_as_test(machine, settings=chosen)


@pytest.mark.parametrize("seed", range(4))
def test_long_runs_follow_the_model_too(redis_url: str, seed: int):
    """Hypothesis tries many short runs; these are few and long, and go where counters are full and ids reused."""
    chance = Random(seed)
    machine = type("Machine", (HoldMachine,), {"redis_url": redis_url})()
    machine.open()
    try:
        for _ in range(400):
            _step(machine, chance)
            machine.counters_are_what_the_model_says()
    finally:
        machine.teardown()


def _step(machine: HoldMachine, chance: Random) -> None:
    reservation_id, number, pick = chance.choice(IDS), chance.choice(list(COUNTERS)), chance.randrange(1000)
    counters = frozenset(chance.sample(list(COUNTERS), chance.randint(1, len(COUNTERS))))
    is_final, is_failure, is_kept = (chance.random() < share for share in (0.3, 0.3, 0.5))
    kind = chance.choices(
        ("check", "commit", "publish", "void", "renew", "time", "seed", "sweep", "wipe"),
        (30, 30, 15, 5, 5, 8, 3, 3, 0.5),
    )[0]
    match kind:
        case "check":
            machine.check(reservation_id, chance.choice("aab"), chance.choice(ASKED), counters, chance.random() < 0.8)
        case "commit":
            machine.commit(pick, chance.choice(POSTED), is_final, is_failure, chance.randint(0, 2))
        case "publish" if machine.pending:
            machine.publish(pick, is_kept)
        case "void":
            machine.void(reservation_id)
        case "renew":
            machine.renew(reservation_id)
        case "time":
            machine.let_time_pass(reservation_id)
        case "seed":
            machine.seed(number)
        case "sweep":
            machine.sweep(number)
        case "wipe":
            machine.wipe(is_meant=True)
