"""Decides whether a call may be made: who, which model, what it may cost, which budgets, one script call.

Guarantees: the decision is made by the newest configuration any replica has decided by; it comes within the deadline,
by the counters or, when they or the key cannot be asked in time, by the policy of the budgets (`degraded`).
"""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import msgspec

from service.access.tokens import Caller
from service.checks import metrics
from service.checks.attempt import Asked, Attempt, prepare_attempt
from service.checks.degraded import DegradedGate, id_reused
from service.checks.doubtful_holds import DoubtfulHolds
from service.checks.freshness import CounterSeeder
from service.checks.hold import Decision, IdReused, MissingCounters, Reservation, StaleConfig, StaleWindow
from service.checks.hold_store import HoldStore
from service.checks.ledger_reader import LedgerReader, LedgerUnavailable
from service.checks.local_holds import LocalHolds
from service.checks.outcome import Allowed, Hold, Outcome
from service.checks.recent_use import RecentUseReader
from service.checks.request import CheckRequest, fingerprint_of
from service.checks.routes import NOTHING_SEEN, RecentUse
from service.checks.scripts import CountersUnavailable, NothingDone
from service.checks.verdict import find_refusal, verdict, verdict_by_policy
from service.config.service import ConfigStore
from service.config.snapshot import TenantConfig
from service.errors import NotFound, StateConflict, Unavailable
from service.identity.completion import complete_dimensions, effective_key
from service.identity.known_key import KnownKey
from service.identity.registry import KeyRegistry
from service.kit.clock import from_unix_ms, monotonic, utc_now
from service.kit.ids import new_id_text
from service.kit.patience import patience
from service.pricing.registry import PriceBooks

# Shares of the deadline: for looking up the key, for what calls of the model did lately, for seeding or reloading, and
# up to the ledger's answer in the counters' place.
_KEY_SHARE = 0.4
_RECENT_SHARE = 0.2
_SEEDING_SHARE = 0.4
_LEDGER_SHARE = 0.9
# Each is one round trip: seed what is missing, reload the configuration, move to another window; some of them twice.
_MOST_ROUNDS = 6


class CheckService:
    """Decides the checks of one process."""

    def __init__(
        self,
        *,
        configs: ConfigStore,
        keys: KeyRegistry,
        prices: PriceBooks,
        holds: HoldStore,
        seeder: CounterSeeder,
        ledger: LedgerReader,
        recent_use: RecentUseReader,
        local_holds: LocalHolds,
        deadline_ms: float,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._configs = configs
        self._keys = keys
        self._prices = prices
        self._holds = holds
        self._seeder = seeder
        self._ledger = ledger
        self._recent_use = recent_use
        self._local_holds = local_holds
        self._degraded = DegradedGate(ledger, local_holds, monotonic)
        self._deadline_seconds = deadline_ms / 1000
        self._clock = clock
        self._doubtful = DoubtfulHolds(holds)

    async def check(self, caller: Caller, request: CheckRequest) -> Outcome:
        """Decide one call, and hold its amount if asked to.

        Raises StateConflict (`request_id_reused`), and Unavailable when not even the configuration is known.
        """
        started = monotonic()
        attempt = await self._prepare(caller, request)
        try:
            outcome = find_refusal(attempt) or await self._decide(attempt)
        except (CountersUnavailable, LedgerUnavailable) as error:
            is_in_doubt = isinstance(error, CountersUnavailable) and not isinstance(error, NothingDone)
            outcome = await self._decide_by_policy(attempt, started, is_in_doubt=is_in_doubt)
        if attempt.asked.is_key_unread:
            metrics.UNREAD_KEYS.labels("allowed" if isinstance(outcome, Allowed) else outcome.code).inc()
        (metrics.CHECKS_ALLOWED if isinstance(outcome, Allowed) else metrics.CHECKS.labels(outcome.code)).inc()
        metrics.CHECK_SECONDS.observe(monotonic() - started)
        return outcome

    async def get_reservation(self, caller: Caller, reservation_id: str) -> Reservation:
        """Return a reservation of the caller's tenant. Raises NotFound, Unavailable."""
        return await _get(self._holds.find(caller.tenant_id, reservation_id))

    async def void(self, caller: Caller, reservation_id: str) -> Reservation:
        """Cancel a reservation; one that has ended stays as it is. Raises NotFound, Unavailable."""
        self._local_holds.release(caller.tenant_id, reservation_id)
        reservation = await _get(self._holds.void(caller.tenant_id, reservation_id))
        metrics.HOLDS_VOIDED.inc()
        return reservation

    async def renew(self, caller: Caller, reservation_id: str, ttl_seconds: int) -> Reservation:
        """Let a live hold last at least so long from now. Raises NotFound, StateConflict, Unavailable."""
        reservation = await _get(self._holds.renew(caller.tenant_id, reservation_id, ttl_seconds * 1000))
        if reservation.state != "live":
            raise StateConflict(f"This reservation is {reservation.state}; check again.", code="reservation_ended")
        return reservation

    async def close(self) -> None:
        """Finish what was left to do beside the answers."""
        await self._doubtful.close()

    async def _prepare(self, caller: Caller, request: CheckRequest) -> Attempt:
        known, is_key_unread = await self._find_key(caller, request)
        config = self._configs.find(caller.tenant_id) or await self._get_config(caller.tenant_id)
        asked = Asked(
            request,
            complete_dimensions(request.dimensions, known, caller.pinned),
            request.request_id or new_id_text(),
            fingerprint_of(request, caller.pinned) if request.wants_hold else "",
            new_id_text() if request.wants_hold else "",
            await self._find_recent_use(request, config),
            is_key_unread,
        )
        return self._put(asked, config, self._clock())

    async def _find_recent_use(self, request: CheckRequest, config: TenantConfig) -> RecentUse:
        if request.max_output_tokens is not None and not config.budgets.route_dimensions:
            return NOTHING_SEEN
        return await self._recent_use.find(request, config, patience_seconds=self._deadline_seconds * _RECENT_SHARE)

    async def _get_config(self, tenant_id: str) -> TenantConfig:
        """Return the configuration of a tenant this process meets for the first time. Raises Unavailable."""
        try:
            async with patience(self._deadline_seconds * _LEDGER_SHARE):
                return await self._configs.get(tenant_id)
        except TimeoutError as error:
            raise Unavailable("The configuration could not be read in time.") from error

    def _put(self, asked: Asked, config: TenantConfig, at: datetime) -> Attempt:
        return prepare_attempt(asked, config, self._prices.at(config.tenant_id, at), at)

    async def _find_key(self, caller: Caller, request: CheckRequest) -> tuple[KnownKey | None, bool]:
        """Return what is known of the key of a call, and whether that is unknown because it could not be read.

        A key that was read a while ago, and had no entry, counts as read.
        """
        api_key = effective_key(request.dimensions, caller.pinned)
        if api_key is None:
            return None, False
        patience_seconds = self._deadline_seconds * _KEY_SHARE
        try:
            return await self._keys.find(caller.tenant_id, api_key, patience_seconds=patience_seconds), False
        except Unavailable:
            return None, True

    async def _decide(self, attempt: Attempt) -> Outcome:
        """Ask the counters, as often as it takes to put the right question.

        Raises CountersUnavailable, LedgerUnavailable, StateConflict.
        """
        for _ in range(_MOST_ROUNDS):
            if self._ledger.is_down:
                attempt = _going_on_without_ledger(attempt)
            match await self._holds.check_and_hold(attempt.ask):
                case Decision() as decision:
                    return self._conclude(attempt, decision)
                case MissingCounters(positions):
                    attempt = await self._seed(attempt, positions)
                case StaleConfig(version):
                    attempt = await self._follow(attempt, version)
                    if refusal := find_refusal(attempt):
                        return refusal
                case StaleWindow(now_ms):
                    attempt = self._put(attempt.asked, attempt.config, from_unix_ms(now_ms))
                case IdReused():
                    raise id_reused()
        raise NothingDone("the question went out of date again and again")

    def _conclude(self, attempt: Attempt, decision: Decision) -> Outcome:
        for asked, counter in zip(attempt.ask.counters, attempt.counters, strict=False):
            self._seeder.note_used(asked.key, counter)
        self._degraded.remember_held(attempt.ask.counters, decision)
        if decision.expires_at_ms and not decision.is_replay:
            metrics.HOLDS_PLACED.inc()
        if decision.lapsed_holds:
            metrics.HOLDS_LAPSED.inc(decision.lapsed_holds)
        return verdict(attempt, decision)

    async def _seed(self, attempt: Attempt, positions: tuple[int, ...]) -> Attempt:
        """Copy missing counters from the ledger; when that is down, go on with the copies there are."""
        missing = [attempt.counters[position] for position in positions]
        try:
            async with patience(self._deadline_seconds * _SEEDING_SHARE):
                await self._seeder.seed(missing)
        except (LedgerUnavailable, TimeoutError) as error:
            if attempt.ask.is_ledger_down:
                raise LedgerUnavailable("not even stale copies are there") from error
            return _going_on_without_ledger(attempt)
        return attempt

    async def _follow(self, attempt: Attempt, version: int) -> Attempt:
        """Take over the newer configuration another replica has decided by. Raises CountersUnavailable."""
        try:
            async with patience(self._deadline_seconds * _SEEDING_SHARE):
                config = await self._configs.reload(attempt.config.tenant_id)
        except (Unavailable, TimeoutError) as error:
            raise NothingDone("the counters know a newer configuration than can be read") from error
        if config.version < version:
            # The database was restored to an earlier state: it is the truth.
            await self._holds.lower_fence(config.tenant_id, version, config.version)
        recent = await self._find_recent_use(attempt.asked.request, config)
        return self._put(msgspec.structs.replace(attempt.asked, recent=recent), config, attempt.at)

    async def _decide_by_policy(self, attempt: Attempt, started: float, *, is_in_doubt: bool) -> Outcome:
        left_seconds = self._deadline_seconds * _LEDGER_SHARE - (monotonic() - started)
        counters = attempt.counters[: len(attempt.ask.counters)]
        decision = await self._degraded.decide(
            attempt.ask, counters, patience_seconds=left_seconds, is_repeat_refused=bool(attempt.asked.request.occasion)
        )
        hold = None
        if decision.is_allowed and attempt.ask.wants_hold:
            ends_at = self._clock() + timedelta(milliseconds=attempt.ask.ttl_ms)
            hold = Hold(attempt.asked.reservation_id, decision.amount_micro_usd, ends_at)
        outcome = verdict_by_policy(attempt, decision.standings, hold, decision.routes, is_allowed=decision.is_allowed)
        if is_in_doubt and attempt.ask.wants_hold and not isinstance(outcome, Allowed):
            self._doubtful.take_back(attempt.ask)
        return outcome


def _going_on_without_ledger(attempt: Attempt) -> Attempt:
    return msgspec.structs.replace(attempt, ask=msgspec.structs.replace(attempt.ask, is_ledger_down=True))


async def _get(answer: Awaitable[Reservation | None]) -> Reservation:
    try:
        reservation = await answer
    except CountersUnavailable as error:
        raise Unavailable("Reservations cannot be reached at the moment.") from error
    if reservation is None:
        raise NotFound("There is no such reservation.")
    return reservation
