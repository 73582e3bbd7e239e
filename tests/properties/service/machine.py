"""Any order of what can happen to one tenant at two replicas, with the whole application and real engines beneath.

Events, repetitions, checks with holds, settlements, voids, expiries, reversals, budgets made, changed and archived,
publishes lost at each point of the way or late, Redis wiped, swept, repaired. Amounts are whole cents.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import ROUND_CEILING, Decimal
from random import Random
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.checks.keys import counter_name
from service.kit.clock import utc_now
from service.kit.ids import new_id
from tests.api.checks.world import World
from tests.oracle import assert_sound, assert_totals_equal_charges, read_counters
from tests.properties.service.losses import LOSSES, Loss, Losses
from tests.properties.service.model import SHAPES, Caller, Counter, Hold, Limit, Model, Sent
from tests.window_oracle import assert_windows_equal_charges

T = TypeVar("T")

LIMITS = [0, 15, 40, 100, 1_000]

replicas = st.integers(0, 1)
teams = st.sampled_from(["red", "blue"])
users = st.sampled_from(["u1", "u2"])
slugs = st.sampled_from(sorted(SHAPES))
amounts_of_limits = st.sampled_from(LIMITS)
cents = st.integers(1, 12)
picks = st.integers(0, 10**6)


_FITTING_SHARE = 0.95
_FINAL_SHARE = 0.8


@dataclass
class Stage:
    """What all runs of the machine share: two applications on the same engines, in one loop."""

    runner: "asyncio.Runner"
    worlds: Sequence[World]
    losses: Losses


class ServiceMachine(RuleBasedStateMachine):
    stage: Stage

    @initialize(cents=st.lists(amounts_of_limits, min_size=len(SHAPES), max_size=len(SHAPES)))
    def open(self, cents: list[int]) -> None:
        tenant_id = f"m-{new_id().hex}"
        self.worlds = [World(world.services, world.client, tenant_id) for world in self.stage.worlds]
        self.run(self.worlds[0].create_tenant())
        self.worlds[1].headers = self.worlds[0].headers
        self.pools = self.worlds[0].services.pools
        self.model = Model()
        self.stage.losses.forget()
        for slug, limit in zip(SHAPES, cents, strict=True):
            self.put_budget(0, slug, limit)

    def walk(self, chance: Random, steps: int) -> None:
        """Take so many steps by chance: few long walks come where many short runs do not."""
        self.open([chance.choice(LIMITS[1:]) for _ in SHAPES])
        for _ in range(steps):
            self._step(chance)
            self.ledger_and_counters_are_sound()

    def _step(self, chance: Random) -> None:
        at, pick, amount = chance.randrange(2), chance.randrange(10**6), chance.randrange(1, 13)
        team, user, slug = chance.choice(["red", "blue"]), chance.choice(["u1", "u2"]), chance.choice(sorted(SHAPES))
        loss, limit, is_final = chance.choice(LOSSES), chance.choice(LIMITS), chance.random() < _FINAL_SHARE
        live, holds, sent, limits = self.model.live_holds, self.model.holds, self.model.sent, self.model.limits
        # What can be done now, and how often it is.
        steps: list[tuple[float, Callable[[], None]]] = [
            (30, lambda: self.check(at, team, user, amount)),
            (4 if live else 0, lambda: self.check_again(at, pick)),
            (25 if holds else 0, lambda: self.report(at, pick, self._cost(chance, pick), is_final)),
            (5 if live else 0, lambda: self.void(at, pick)),
            (3 if live else 0, lambda: self.expire(pick)),
            (1, lambda: self.ingest(at, team, user, amount)),
            (4 if sent else 0, lambda: self.send_again(at, pick)),
            (6 if sent else 0, lambda: self.reverse_twice_at_once(pick)),
            (4, lambda: self.put_budget(at, slug, limit)),
            (1 if limits else 0, lambda: self.archive_budget(at, pick)),
            (2 if limits else 0, lambda: self.grant_increase(at, pick, amount)),
            (2 if any(each.increases for each in limits.values()) else 0, lambda: self.end_increase(at, pick)),
            (10, lambda: self.lose_the_next_publish(loss)),
            (4, self.publish_late),
            (8, self.work_off_the_outbox),
            (1, lambda: self.wipe(is_meant=True)),
            (3, self.sweep),
        ]
        chance.choices([step for _, step in steps], [share for share, _ in steps])[0]()

    def _cost(self, chance: Random, pick: int) -> int:
        """Return what a call costs: mostly no more than was held for it."""
        most = max(self._pick(self.model.holds, pick).left.values(), default=0)
        return chance.randint(1, most) if most and chance.random() < _FITTING_SHARE else chance.randint(1, 12)

    def run(self, awaitable: Awaitable[T]) -> T:
        async def wait() -> T:
            return await awaitable

        return self.stage.runner.run(wait())

    # Calls

    @rule(at=replicas, team=teams, user=users, amount=cents)
    def check(self, at: int, team: str, user: str, amount: int) -> None:
        caller, reservation_id = Caller(team, user), new_id().hex
        counters = self.model.counters_of(caller)
        is_quiet = self.run(self._is_quiet())
        posted = self.run(self._posted())

        answer = self._ask(at, reservation_id, caller, amount)

        is_room = all(
            limit > 0 and posted.get(counter, 0) + self.model.held(counter) + amount <= limit
            for counter, limit in counters.items()
        )
        assert answer["degraded"] is False
        if is_quiet:
            assert answer["allowed"] is is_room, (answer, self.model)
        elif answer["allowed"]:
            # What is not published yet may deny too much, and lets through too much only where it had no hold.
            assert is_room or self.model.excused & counters.keys(), (answer, self.model)
        if answer["allowed"]:
            self.model.holds[reservation_id] = Hold(reservation_id, caller, dict.fromkeys(counters, amount))

    @precondition(lambda self: self.model.live_holds)
    @rule(at=replicas, pick=picks)
    def check_again(self, at: int, pick: int) -> None:
        hold = self._pick(self.model.live_holds, pick)
        if not hold.is_whole or not hold.left:
            return
        answer = self._ask(at, hold.reservation_id, hold.caller, hold.amount)
        assert answer["allowed"]
        assert answer["reservation"]["id"] == hold.reservation_id
        problem = self._ask(at, hold.reservation_id, hold.caller, hold.amount + 1, expect=409)
        assert problem["code"] == "request_id_reused"

    @precondition(lambda self: self.model.holds)
    @rule(at=replicas, pick=picks, amount=cents, is_final=st.booleans())
    def report(self, at: int, pick: int, amount: int, is_final: bool) -> None:
        """An event of a call that was let through; it may cost more than was held, and come after the hold's end."""
        hold = self._pick(self.model.holds, pick)
        self._send(at, hold.caller, amount, {"reservation_id": hold.reservation_id, "final": is_final})
        for counter in self.model.counters_of(hold.caller):
            if hold.is_due or amount > hold.left.get(counter, 0):
                self.model.excused.add(counter)
            if counter in hold.left:
                hold.left[counter] = max(hold.left[counter] - amount, 0)
        hold.is_whole = False
        if is_final or hold.is_due:
            self.model.end(hold)

    @precondition(lambda self: self.model.live_holds)
    @rule(at=replicas, pick=picks)
    def void(self, at: int, pick: int) -> None:
        hold = self._pick(self.model.live_holds, pick)
        answer = self.run(self.worlds[at].call("DELETE", f"/v1/reservations/{hold.reservation_id}"))
        assert answer["state"] == "voided"
        self.model.end(hold)

    @precondition(lambda self: self.model.live_holds)
    @rule(pick=picks)
    def expire(self, pick: int) -> None:
        hold = self._pick(self.model.live_holds, pick)
        self.run(self._make_due(hold.reservation_id))
        hold.is_due = True

    # Events

    @rule(at=replicas, team=teams, user=users, amount=cents)
    def ingest(self, at: int, team: str, user: str, amount: int) -> None:
        """An event of a call nobody asked about."""
        caller = Caller(team, user)
        self._send(at, caller, amount, {})
        self.model.excused.update(self.model.counters_of(caller))

    @precondition(lambda self: self.model.sent)
    @rule(at=replicas, pick=picks)
    def send_again(self, at: int, pick: int) -> None:
        sent = self._pick(self.model.sent, pick)
        answer = self.run(self.worlds[at].call("POST", "/v1/events?results=all", json=sent.body))
        assert (answer["recorded"], answer["duplicates"]) == (0, 1)
        assert answer["results"][0]["charge_id"] == sent.charge_id

    @precondition(lambda self: self.model.sent)
    @rule(pick=picks)
    def reverse_twice_at_once(self, pick: int) -> None:
        sent = self._pick(self.model.sent, pick)
        path = f"/v1/charges/{sent.charge_id}/reverse"

        async def reverse(world: World) -> int:
            answer = await world.client.post(path, headers=world.headers, json={"reason": "test"})
            return answer.status_code

        async def reverse_both() -> list[int]:
            return sorted(await asyncio.gather(*[reverse(world) for world in self.worlds]))

        assert self.run(reverse_both()) == ([409, 409] if sent.is_reversed else [201, 409])
        sent.is_reversed = True

    # Budgets

    @rule(at=replicas, slug=slugs, limit=amounts_of_limits)
    def put_budget(self, at: int, slug: str, limit: int) -> None:
        known = self.model.limits.get(slug)
        budget = self.run(self.worlds[at].put_budget(slug, match=SHAPES[slug], limit_usd=_usd(limit)))
        # What was let through before counts against a new or lowered limit, whether there is room or not.
        if known is None:
            self.model.limits[slug] = Limit(budget["budget_id"], slug, limit)
        if known is None or limit < known.base:
            self.model.excuse_all(self.model.limits[slug])
        self.model.limits[slug].base = limit

    @precondition(lambda self: self.model.limits)
    @rule(at=replicas, pick=picks, amount=cents)
    def grant_increase(self, at: int, pick: int, amount: int) -> None:
        limit = self._pick(self.model.limits, pick)
        body = {"amount_usd": _usd(amount), "until": (utc_now() + timedelta(days=1)).isoformat(), "reason": "test"}
        path = f"/v1/budgets/{limit.slug}/increases"
        granted = self.run(self.worlds[at].call("POST", path, expect=201, json=body))
        limit.increases[granted["increase_id"]] = amount

    @precondition(lambda self: any(limit.increases for limit in self.model.limits.values()))
    @rule(at=replicas, pick=picks)
    def end_increase(self, at: int, pick: int) -> None:
        limit = self._pick([limit for limit in self.model.limits.values() if limit.increases], pick)
        increase_id = self._pick(list(limit.increases), pick)
        path = f"/v1/budgets/{limit.slug}/increases/{increase_id}"
        answer = self.run(self.worlds[at].client.delete(path, headers=self.worlds[at].headers))
        assert answer.is_success, answer.text
        del limit.increases[increase_id]
        self.model.excuse_all(limit)

    @precondition(lambda self: self.model.limits)
    @rule(at=replicas, pick=picks)
    def archive_budget(self, at: int, pick: int) -> None:
        limit = self._pick(self.model.limits, pick)
        self.run(self.worlds[at].call("DELETE", f"/v1/budgets/{limit.slug}", expect=204))
        del self.model.limits[limit.slug]

    # Faults and repairs

    @rule(loss=st.sampled_from(LOSSES))
    def lose_the_next_publish(self, loss: Loss) -> None:
        self.stage.losses.next = loss

    @rule()
    def publish_late(self) -> None:
        self.run(self.stage.losses.publish_late())

    @rule()
    def work_off_the_outbox(self) -> None:
        self.run(self.stage.losses.repair())
        assert self.run(self._is_quiet())

    @rule(is_meant=st.sampled_from([True, False, False]))
    def wipe(self, is_meant: bool) -> None:
        if not is_meant:
            return
        self.run(self._delete_keys())
        # Old states in an empty Redis would be no counters anybody trusts, but not what the ledger says either.
        self.stage.losses.forget()
        for hold in self.model.holds.values():
            self.model.excused.update(self.model.counters_of(hold.caller), hold.left)
        self.model.holds.clear()

    @rule()
    def sweep(self) -> None:
        """Nothing but what is not published yet may be found."""
        found = self.run(self.worlds[0].sweep()).findings
        assert {finding.kind for finding in found} <= {"behind"}, found
        self.model.drop_due()

    # What always holds

    @invariant()
    def ledger_and_counters_are_sound(self) -> None:
        if hasattr(self, "model"):
            self.run(self._assert_sound())

    async def _assert_sound(self) -> None:
        tenant_id = self.worlds[0].tenant_id
        await assert_totals_equal_charges(self.pools.postgres, tenant_id)
        await assert_windows_equal_charges(self.pools.postgres, tenant_id)
        is_quiet, posted = await self._is_quiet(), await self._posted()
        copies = await read_counters(self.pools.redis, tenant_id)
        for limit in self.model.limits.values():
            for counter in self.model.counters_seen(limit):
                held = self.model.held(counter)
                self._assert_counter(counter, posted.get(counter, 0), copies, is_quiet=is_quiet)
                assert counter in self.model.excused or posted.get(counter, 0) + held <= limit.cents, (counter, limit)

    def _assert_counter(
        self, counter: Counter, posted: int, copies: dict[str, dict[str, str]], *, is_quiet: bool
    ) -> None:
        copy = next((copies[key] for key in copies if f":c:{counter_name(*counter)}:" in key), None)
        held = _cents(copy.get("h", "0")) if copy else 0
        live = self.model.held(counter)
        assert held >= 0
        if is_quiet:
            assert live <= held <= live + self.model.held(counter, due=True), (counter, held, self.model)
            shown = [_cents(value) for name, value in (copy or {}).items() if name.startswith("p:")]
            assert shown in ([], [posted]), (counter, shown, posted)

    def teardown(self) -> None:
        if hasattr(self, "model"):
            self.run(self._come_to_rest())

    async def _come_to_rest(self) -> None:
        for hold in self.model.holds.values():
            await self.worlds[0].client.delete(
                f"/v1/reservations/{hold.reservation_id}", headers=self.worlds[0].headers
            )
        await self.stage.losses.repair()
        await self.stage.losses.publish_late()
        await self.worlds[0].sweep()
        await assert_sound(self.pools, self.worlds[0].tenant_id)

    # How it is done

    def _ask(self, at: int, reservation_id: str, caller: Caller, amount: int, *, expect: int = 200) -> Any:
        return self.run(
            self.worlds[at].check(
                expect=expect,
                request_id=reservation_id,
                reserve=True,
                estimated_cost_usd=_usd(amount),
                dimensions={"team": caller.team, "user": caller.user},
            )
        )

    def _send(self, at: int, caller: Caller, amount: int, tallygate: dict[str, Any]) -> None:
        body = _event(caller, amount) | ({"tallygate": tallygate} if tallygate else {})
        answer = self.run(self.worlds[at].call("POST", "/v1/events?results=all", json=body))
        assert answer["recorded"] == 1, answer
        self.model.sent.append(Sent(body, answer["results"][0]["charge_id"]))

    def _pick(self, choices: Any, pick: int) -> Any:
        listed = list(choices.values()) if isinstance(choices, dict) else list(choices)
        return listed[pick % len(listed)]

    async def _posted(self) -> dict[Counter, int]:
        """Return what the ledger says of each counter, in cents."""
        async with self.pools.postgres.connection() as connection:
            cursor = await connection.execute(
                "SELECT budget_id, subject, enforced FROM budget_window WHERE tenant_id = %s",
                (self.worlds[0].tenant_id,),
            )
            return {(row[0], row[1]): _whole_cents(row[2]) async for row in cursor}

    async def _is_quiet(self) -> bool:
        async with self.pools.postgres.connection() as connection:
            cursor = await connection.execute("SELECT FROM outbox WHERE tenant_id = %s", (self.worlds[0].tenant_id,))
            return await cursor.fetchone() is None

    async def _delete_keys(self) -> None:
        redis: Any = self.pools.redis
        keys = [key async for key in redis.scan_iter(match=f"{{{self.worlds[0].tenant_id}}}:*", count=1_000)]
        if keys:
            await redis.delete(*keys)

    async def _make_due(self, reservation_id: str) -> None:
        """Let the time of one hold be over: its end is moved to the past, in all its keys."""
        redis: Any = self.pools.redis
        tenant_id, past_ms = self.worlds[0].tenant_id, 1_000
        async for key in redis.scan_iter(match=f"{{{tenant_id}}}:c:*:z", count=1_000):
            for member in await redis.zrange(key, 0, -1):
                if member.decode().endswith(f":{reservation_id}"):
                    await redis.zadd(key, {member: past_ms})
                    await redis.hset(key.removesuffix(b":z"), "d", past_ms)
        await redis.hset(f"{{{tenant_id}}}:r:{reservation_id}", "ex", past_ms)


def _event(caller: Caller, amount: int) -> dict[str, Any]:
    """Return an event of a model nobody has a price for: it costs what the gateway says."""
    now = utc_now().timestamp()
    return {
        "id": f"chatcmpl-{new_id()}",
        "litellm_call_id": str(new_id()),
        "call_type": "acompletion",
        "status": "success",
        "model": "house-model",
        "model_group": "house-model",
        "custom_llm_provider": "custom",
        "prompt_tokens": 1_000,
        "completion_tokens": 100,
        "total_tokens": 1_100,
        "response_cost": amount / 100,
        "startTime": now - 1,
        "endTime": now,
        "metadata": {"user_api_key_team_id": caller.team, "user_api_key_user_id": caller.user},
    }


def _usd(amount: int) -> str:
    return str(Decimal(amount).scaleb(-2))


def _cents(micro_usd: str) -> int:
    return _whole_cents(Decimal(micro_usd).scaleb(-6))


def _whole_cents(amount_usd: Decimal) -> int:
    whole = (amount_usd * 100).to_integral_value(ROUND_CEILING)
    assert whole == amount_usd * 100, amount_usd
    return int(whole)
