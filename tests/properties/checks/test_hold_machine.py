"""Any order of checks and repeats, by one route or several, settlements, voids, renewals, lapses, late and repeated
publishings, wipes, copies gone stale or in doubt, buckets that fall out or come early, limits that change.

After every step the counters are what a plain model says, and never was more admitted than a limit allows.
"""

import asyncio
from collections.abc import Callable
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

from service.checks.counter_reading import CounterReading
from service.checks.hold import Decision, IdReused, MissingCounters, RouteAsk
from service.checks.hold_store import HoldStore
from service.checks.keys import CounterRef, key_of, unix_text
from service.checks.lua_scripts import ADD_UP, FORGET, RECOUNT, script_command
from service.checks.publishing import seed_commands
from service.checks.scripts import ScriptLane
from service.kit.ids import new_id
from service.kit.money import from_micro_usd
from service.ledger.posts import CommittedPosts, CounterState
from tests.integration.checks.gate import BUCKETS, STEP_SECONDS, WINDOW_START, Gate
from tests.properties.checks.held import Held, Route

ROLLING, CARRYING = 3, 1
LIMITS = (2_000, 1_500, 10**9, 400)
COUNTERS = range(len(LIMITS))
IDS = ["r0", "r1", "r2"]
ASKED = [0, 1, 7, 20, 40, 100, 101]
POSTED = [0, 1, 3, 5, 40, 250]
INCREASES = [0, 100, 900]

NAMES = ["", "a", "b", "c"]

States = dict[int, tuple[int, int]]  # bucket -> (posted, version)


class HoldMachine(RuleBasedStateMachine):
    """Counter 1 may have something carried in; counter 3 is rolling, the others have one bucket, number 0."""

    redis_url = ""

    @initialize()
    def open(self) -> None:
        self.runner = asyncio.Runner()
        self.run(self._open())
        self.ledger: dict[int, States] = {number: {} for number in COUNTERS}  # what was committed
        self.copy: dict[int, States] = {}  # what the counters were told since they were seeded
        self.stale: set[int] = set()
        self.first = 0  # the oldest bucket of the rolling counter that is counted
        self.increases = dict.fromkeys(COUNTERS, 0)
        self.carried: int | None = None  # what the ledger has fixed
        self.carried_copy = 0
        self.reservations: dict[str, Held] = {}
        self.pending: list[tuple[CommittedPosts, str, int, dict[str, Any], dict[int, tuple[int, int, int]]]] = []
        self.charged: dict[str, set[UUID]] = {}

    async def _open(self) -> None:
        client = redis.asyncio.Redis.from_url(self.redis_url)
        tenant_id = f"m-{new_id().hex}"
        self.gate = Gate(client, tenant_id, HoldStore(client, deadline_ms=5_000), ScriptLane(client, timeout_ms=5_000))

    def run(self, awaitable: Any) -> Any:
        return self.runner.run(awaitable)

    def ref(self, number: int) -> CounterRef:
        return self.gate.rolling(number, first=self.first) if number == ROLLING else self.gate.counter(number)

    def limit(self, number: int) -> int:
        return LIMITS[number] + self.increases[number] + (self.carried_copy if number == CARRYING else 0)

    def counted(self, number: int) -> list[int]:
        """Return what is posted in each bucket that is counted, the oldest first; one more may be of a clock ahead."""
        buckets = range(self.first, self.first + BUCKETS + 1) if number == ROLLING else range(1)
        return [self.copy[number].get(bucket, (0, 0))[0] for bucket in buckets]

    def room(self, number: int) -> int:
        return self.limit(number) - sum(self.counted(number)) - self.held(number)

    @rule(
        reservation_id=st.sampled_from(IDS),
        fingerprint=st.sampled_from("ab"),
        routes=st.lists(
            st.tuples(
                st.sampled_from(ASKED),
                st.frozensets(st.sampled_from(list(COUNTERS)), min_size=1),
                st.sampled_from(NAMES),
            ),
            min_size=1,
            max_size=3,
        ),
        wants_hold=st.sampled_from([True, True, True, False]),
    )
    def check(self, reservation_id: str, fingerprint: str, routes: list[Route], wants_hold: bool) -> None:
        """Ask about one route, said in the short form or not, or about several."""
        asked = sorted(frozenset[int]().union(*[counters for _, counters, _ in routes]))
        is_short = len(routes) == 1 and routes[0][0] % 2 == 0
        ask = {
            "reservation_id": reservation_id,
            "fingerprint": fingerprint,
            "amount_micro_usd": max(amount for amount, *_ in routes),
            "limits": [LIMITS[number] + self.increases[number] for number in asked],
            "wants_hold": wants_hold,
            "carrying": [self.ref(CARRYING)],
            "routes": ()
            if is_short
            else tuple(
                RouteAsk(amount, is_free=False, counters=tuple(map(asked.index, sorted(each))), name=name)
                for amount, each, name in routes
            ),
        }
        refs = [self.ref(number) for number in asked]
        answer = self.run(self.gate.check(*refs, **ask))
        known = self.reservations.get(reservation_id)
        is_live = known is not None and known.is_live and not known.is_due
        if wants_hold and is_live and known is not None and known.fingerprint != fingerprint:
            assert answer == IdReused()
            return
        missing = [index for index, number in enumerate(asked) if number not in self.copy or number in self.stale]
        if missing:
            assert answer == MissingCounters(tuple(missing))
            for number in (asked[index] for index in missing):
                self.seed(number)
            answer = self.run(self.gate.check(*refs, **ask))
        assert isinstance(answer, Decision)
        self._drop_due(asked, reservation_id if wants_hold else None)
        again = known.allows(routes, is_short=is_short) if wants_hold and is_live and known is not None else ()
        assert answer.is_replay is any(again)
        if answer.is_replay:
            assert answer.is_allowed
            assert answer.routes == (() if is_short else again)
        else:
            if again and known is not None:  # of no use to the routes there are now
                known.is_live, known.left = False, {}
            self._compare_decision(answer, asked, routes, is_short)
            if answer.is_allowed and wants_hold:
                self._hold(reservation_id, fingerprint, asked, routes, is_short, answer)
        for number, figures in zip(asked, answer.figures, strict=True):
            assert figures.posted_micro_usd == sum(self.counted(number))
            assert figures.held_micro_usd == self.held(number)
            assert figures.limit_micro_usd == self.limit(number)
            assert figures.carried_micro_usd == (self.carried_copy if number == CARRYING else 0)

    def _compare_decision(self, answer: Decision, asked: list[int], routes: list[Route], is_short: bool) -> None:
        allowed = tuple(all(max(amount, 1) <= self.room(number) for number in each) for amount, each, _ in routes)
        assert answer.is_allowed is any(allowed)
        assert answer.routes == (() if is_short else allowed)
        for number, figures in zip(asked, answer.figures, strict=True):
            denied = [max(a, 1) for a, each, _ in routes if number in each and max(a, 1) > self.room(number)]
            assert figures.denies is bool(denied)
            expected = self._falls_out_at(min(denied) - self.room(number)) if denied and number == ROLLING else None
            assert figures.resets_at_ms == expected

    def _falls_out_at(self, excess: int) -> int | None:
        freed = 0
        for index, posted in enumerate(self.counted(ROLLING)):
            freed += posted
            if freed >= excess:
                bucket = self.first + index + BUCKETS
                return int(WINDOW_START.timestamp() + bucket * STEP_SECONDS) * 1000
        return None

    def _hold(
        self,
        reservation_id: str,
        fingerprint: str,
        asked: list[int],
        routes: list[Route],
        is_short: bool,
        answer: Decision,
    ) -> None:
        flags = answer.routes or (True,)
        shares: dict[int, int] = {}
        names: dict[str, bool] = {}
        for (amount, counters, name), is_allowed in zip(routes, flags, strict=True):
            for number in counters if is_allowed else ():
                shares[number] = max(shares.get(number, 0), amount, 1)
            if name and not is_short:
                names[name] = names.get(name, True) and is_allowed
        assert answer.amount_micro_usd == max(shares.values())
        self.reservations[reservation_id] = Held(fingerprint, shares, set(asked) - set(shares), names)
        for number in asked:
            if number in shares:
                assert self.room(number) >= 0, "more was admitted than the limit allows"

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
        states, versions = [], {}
        for number in sorted(counters):
            bucket = self.first + pick % (BUCKETS + 1) if number == ROLLING else 0
            posted, version = self.ledger[number].get(bucket, (0, 0))
            state = self.ledger[number][bucket] = (posted + amount, version + 1)
            versions[number] = (bucket, *state)
            states.append(self._state(number, bucket, state))
        flags = {"is_final": is_final, "is_failure": is_failure and not is_final}
        settlement = self.gate.settlement(reservation_id, amount, *[self.ref(n) for n in sorted(counters)], **flags)
        self.pending.append((self.gate.posts(states, [settlement]), reservation_id, amount, flags, versions))
        for _ in range(times):
            self._publish(len(self.pending) - 1)

    def _state(self, number: int, bucket: int, state: tuple[int, int]) -> CounterState:
        if number == ROLLING:
            return self.gate.bucket_state(self.gate.rolling(number), bucket, *state)
        return self.gate.state(self.ref(number), *state)

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
        for number, (bucket, posted, version) in versions.items():
            if number in self.copy and self.copy[number].get(bucket, (0, 0))[1] < version:
                self.copy[number][bucket] = (posted, version)
                if number != ROLLING:
                    self.stale.discard(number)  # its only bucket is known now
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
        """Copy what the ledger says: of a rolling counter all buckets from the oldest one that is counted."""
        known = {
            bucket: state for bucket, state in self.ledger[number].items() if number != ROLLING or bucket >= self.first
        }
        if number != ROLLING:
            known.setdefault(0, (0, 0))
        carried = from_micro_usd(self.carried) if number == CARRYING and self.carried is not None else None
        reading = CounterReading(
            epoch=1,
            counter=self.ref(number),
            states=tuple([self._state(number, bucket, state) for bucket, state in sorted(known.items())]),
            carried_usd=carried,
        )
        self.run(self.gate.lane.run(seed_commands([reading])))
        self.copy[number] = known
        self.stale.discard(number)
        if number == CARRYING:
            self.carried_copy = self.carried or 0

    @rule(number=st.sampled_from(list(COUNTERS)))
    def go_stale(self, number: int) -> None:
        """Nobody has vouched for the copy lately, as after a restore of an old dump."""
        if number in self.copy:
            self.run(self.gate.client.hset(key_of(self.ref(number)), "f", 1_000))
            self.stale.add(number)

    @precondition(lambda self: ROLLING in self.copy)
    @rule(pick=st.integers(0, 999))
    def forget(self, pick: int) -> None:
        """The sweep doubts the copy of a bucket: the next check seeds anew."""
        known = sorted(self.copy[ROLLING].items()) or [(self.first, (0, 0))]
        bucket, (_, version) = known[pick % len(known)]
        arguments = [unix_text(self.gate.rolling(ROLLING, first=bucket).bucket), 1, version]
        if self.run(self.gate.lane.call(script_command(FORGET, [key_of(self.ref(ROLLING))], arguments))):
            del self.copy[ROLLING][bucket]
            self.stale.add(ROLLING)

    @rule(buckets=st.sampled_from([1, 1, 2, BUCKETS]))
    def let_buckets_pass(self, buckets: int) -> None:
        self.first += buckets

    @rule(number=st.sampled_from(list(COUNTERS)), amount=st.sampled_from(INCREASES))
    def change_limit(self, number: int, amount: int) -> None:
        """An increase is granted, or over: no hold placed before knows."""
        self.increases[number] = amount

    @rule(amount=st.sampled_from([0, 700]))
    def fix_carry(self, amount: int) -> None:
        if self.carried is None:
            self.carried = amount

    @rule(number=st.sampled_from(list(COUNTERS)), most=st.sampled_from([0, 1_000]))
    def sweep(self, number: int, most: int) -> None:
        ref = self.ref(number)
        bucket = "" if number == ROLLING else unix_text(ref.bucket)
        reply = self.run(self.gate.lane.call(script_command(RECOUNT, [key_of(ref)], [bucket, "0", most])))
        if reply:
            assert reply[1] in {reply[0], -1}, "held was not the sum of the holds"
            assert reply[7] == reply[8], "the sum was not that of the buckets"
            self._drop_due([number], None)

    @rule(number=st.sampled_from(list(COUNTERS)))
    def add_up_one_more(self, number: int) -> None:
        reply = self.run(self.gate.lane.call(script_command(ADD_UP, [key_of(self.ref(number))], [1])))
        assert not reply or reply[1] in {reply[0], -1}, "held was not the sum of the holds"

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
        self.stale.clear()
        self.carried_copy = 0
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
                if number == ROLLING and number in self.copy:
                    shown = await self.gate.buckets(ref)
                    known = {bucket: posted for bucket, (posted, _) in self.copy[number].items()}
                    assert {b: posted for b, posted in shown.items() if b >= self.first} == {
                        b: posted for b, posted in known.items() if b >= self.first
                    }
                elif number in self.copy:
                    assert await self.gate.posted(ref) == self.copy[number][0][0], number
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
    is_final, is_failure, is_kept = (chance.random() < share for share in (0.3, 0.3, 0.5))
    routes = [_a_route(chance) for _ in range(chance.choice([1, 1, 1, 2, 3]))]
    fingerprint, wants_hold, amount = chance.choice("aab"), chance.random() < 0.8, chance.choice(POSTED)
    steps: list[tuple[float, Callable[[], None]]] = [
        (35, lambda: machine.check(reservation_id, fingerprint, routes, wants_hold)),
        (30, lambda: machine.commit(pick, amount, is_final, is_failure, chance.randint(0, 2))),
        (15 if machine.pending else 0, lambda: machine.publish(pick, is_kept)),
        (5, lambda: machine.void(reservation_id)),
        (5, lambda: machine.renew(reservation_id)),
        (8, lambda: machine.let_time_pass(reservation_id)),
        (3, lambda: machine.seed(number)),
        (6, lambda: machine.sweep(number, chance.choice([0, 1_000]))),
        (12, lambda: machine.add_up_one_more(number)),
        (0.5, lambda: machine.wipe(is_meant=True)),
        (2, lambda: machine.go_stale(number)),
        (3, lambda: machine.let_buckets_pass(chance.choice([1, 1, 1, 2, BUCKETS + 3]))),
        (1 if ROLLING in machine.copy else 0, lambda: machine.forget(pick)),
        (2, lambda: machine.change_limit(number, chance.choice(INCREASES))),
        (0.5, lambda: machine.fix_carry(700)),
    ]
    (step,) = chance.choices([each for _, each in steps], [weight for weight, _ in steps])
    step()


def _a_route(chance: Random) -> Route:
    counters = chance.sample(list(COUNTERS), chance.randint(1, len(COUNTERS)))
    return chance.choice(ASKED), frozenset(counters), chance.choice(NAMES)
