"""Builds the services of one process on opened pools, starts what runs beside requests, and ends it in order.

Order of the end: requests have drained; queued charges are committed, published and observed; followers and repairers
stop, deliveries of alerts under way are given back; pools close.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import structlog

from service.access.directory import CallerDirectory
from service.access.service import SettingsService, TenantService, TokenService
from service.alerts.evaluation import Evaluator
from service.alerts.observer import AlertObserver
from service.alerts.schedule import AlertSchedule
from service.alerts.sender import Sender
from service.alerts.service import AlertService, WebhookService
from service.audit.service import AuditTrail
from service.budgets.backtest_service import BacktestService
from service.budgets.carry import CarryFixer
from service.budgets.increase_service import IncreaseService
from service.budgets.seeding import BudgetSeeder
from service.budgets.service import BudgetService
from service.checks.dialects.quota import QuotaService
from service.checks.dialects.service import DialectService
from service.checks.estimates import EstimateService
from service.checks.freshness import CounterSeeder
from service.checks.hold_store import HoldStore
from service.checks.ledger_reader import LedgerReader
from service.checks.local_holds import LocalHolds
from service.checks.publisher import Publisher
from service.checks.recent_use import RecentUseReader
from service.checks.service import CheckService
from service.checks.sweep import Sweep
from service.config.fence import ConfigFence
from service.config.service import ConfigStore
from service.config.window_matcher import ConfigWindowMatcher
from service.db.clock import DatabaseClock
from service.db.pools import Pools, open_pools
from service.events.failed_attempts import FailedAttempts
from service.events.in_flight import BodyLimiter
from service.events.ingest import EventIngest
from service.events.price_metrics import PriceObserver
from service.events.quarantine import Quarantine, QuarantineReview
from service.events.rerating import DraftRerating
from service.events.service import IngestService
from service.health.service import HealthService
from service.identity.registry import KeyRegistry
from service.identity.repricing_offer import OfferFinder
from service.identity.service import AliasService, KeyService
from service.kit.clock import monotonic
from service.kit.repeating import Repeating
from service.ledger.conflicts import ConflictCharges
from service.ledger.maintenance import make_partitions_ahead, raise_epoch_after_failover
from service.ledger.queries import ChargeQueries
from service.ledger.reversal import ReversalService
from service.ledger.served_queries import ServedModels
from service.ledger.service import LedgerRecorder
from service.pricing.book_import import PriceBookImporter
from service.pricing.book_reading import PriceBookReader
from service.pricing.book_schedule import ScheduledImport
from service.pricing.divergence import Tolerance
from service.pricing.map_download import MapDownloader
from service.pricing.registry import PriceBooks
from service.pricing.rule_service import PriceRuleService
from service.repricing.price_judge import PriceJudge
from service.repricing.repricer import Repricer
from service.repricing.service import RepricingService
from service.repricing.worker import RepricingWorker
from service.settings import Settings
from service.spend.divergence_queries import DivergenceQueries
from service.spend.queries import SpendQueries
from service.spend.unpriced_queries import UnpricedQueries
from service.spend.unpriced_service import UnpricedService

_log = structlog.get_logger(__name__)

_PARTITIONS_SECONDS = 6 * 3600.0
_EPOCH_SECONDS = 5.0
_OUTBOX_FLUSH_SECONDS = 0.5
_CARRIES_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Services:
    """What handlers ask for, by the name of the field."""

    pools: Pools
    health: HealthService
    caller_directory: CallerDirectory
    token_service: TokenService
    tenant_service: TenantService
    settings_service: SettingsService
    alias_service: AliasService
    key_service: KeyService
    price_rule_service: PriceRuleService
    price_book_importer: PriceBookImporter
    price_book_reader: PriceBookReader
    map_downloader: MapDownloader
    audit_trail: AuditTrail
    alert_service: AlertService
    webhook_service: WebhookService
    budget_service: BudgetService
    increase_service: IncreaseService
    backtest_service: BacktestService
    charge_queries: ChargeQueries
    reversal_service: ReversalService
    repricing_service: RepricingService
    spend_queries: SpendQueries
    unpriced_service: UnpricedService
    offer_finder: OfferFinder
    divergence_queries: DivergenceQueries
    event_ingest: EventIngest
    body_limiter: BodyLimiter
    quarantine_review: QuarantineReview
    config_store: ConfigStore
    check_service: CheckService
    estimate_service: EstimateService
    dialect_service: DialectService
    quota_service: QuotaService


class _Runs(Protocol):
    def start(self) -> None: ...

    async def close(self) -> None: ...


_Runner = TypeVar("_Runner", bound=_Runs)


@dataclass(frozen=True, slots=True)
class _Shared:
    """What both paths, tracking and enforcement, know of tenants, keys and prices."""

    pools: Pools
    clock: DatabaseClock
    prices: PriceBooks
    configs: ConfigStore
    keys: KeyRegistry
    directory: CallerDirectory
    recent_use: RecentUseReader


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Build everything on opened pools; on leaving, finish what is queued, then close."""
    async with AsyncExitStack() as stack:
        shared = await _open_shared(stack, settings)
        postgres, configs = shared.pools.postgres, shared.configs
        sender = await _started(stack, Sender(postgres, settings.alerts))
        evaluator = Evaluator(postgres, sender.wake)
        checks, holds, publisher = await _open_checks(stack, settings, shared, AlertObserver(configs, evaluator))
        schedule = AlertSchedule(postgres, evaluator, settings.alerts)
        await _started(stack, Repeating(schedule.run, settings.alerts.interval_seconds, _note_failure))
        budget_seeder = await _started(stack, BudgetSeeder(postgres, configs, publisher))
        recorder = await _open_recorder(stack, settings, shared, publisher)
        charges = ChargeQueries(postgres)
        unpriced = UnpricedService(UnpricedQueries(postgres), PriceJudge(postgres, configs, shared.prices))
        importer, downloader = await _open_imports(stack, settings, shared)
        ingest = _build_ingest(settings, shared, holds, recorder)
        yield Services(
            pools=shared.pools,
            health=HealthService(shared.pools),
            config_store=configs,
            caller_directory=shared.directory,
            token_service=TokenService(postgres, shared.directory.forget),
            tenant_service=TenantService(postgres),
            settings_service=SettingsService(postgres, configs),
            alias_service=AliasService(postgres, configs.change),
            key_service=KeyService(postgres, shared.keys),
            price_rule_service=PriceRuleService(postgres, configs.change),
            audit_trail=AuditTrail(postgres),
            alert_service=AlertService(postgres),
            webhook_service=WebhookService(postgres, sender, settings.alerts),
            price_book_importer=importer,
            price_book_reader=PriceBookReader(postgres, shared.prices),
            map_downloader=downloader,
            budget_service=BudgetService(postgres, configs, budget_seeder, holds),
            increase_service=IncreaseService(postgres, configs),
            backtest_service=BacktestService(postgres),
            charge_queries=charges,
            reversal_service=ReversalService(charges, recorder),
            repricing_service=RepricingService(postgres, await _open_repricings(stack, shared, recorder)),
            spend_queries=SpendQueries(postgres),
            unpriced_service=unpriced,
            offer_finder=OfferFinder(unpriced.find_offers),
            divergence_queries=DivergenceQueries(postgres, _tolerance(settings)),
            event_ingest=ingest,
            body_limiter=BodyLimiter(settings.http.max_in_flight_bytes),
            quarantine_review=QuarantineReview(postgres, ingest, ConflictCharges(charges, recorder)),
            check_service=checks,
            estimate_service=EstimateService(configs, shared.keys, shared.prices, shared.recent_use, shared.clock.now),
            dialect_service=DialectService(checks, configs),
            quota_service=QuotaService(checks, KeyService(postgres, shared.keys)),
        )


async def _open_shared(stack: AsyncExitStack, settings: Settings) -> _Shared:
    pools = await stack.enter_async_context(open_pools(settings))
    clock = DatabaseClock(pools.postgres)
    await clock.start()
    stack.push_async_callback(clock.close)
    prices = PriceBooks(pools.postgres)
    await prices.start(settings.database_url)
    stack.push_async_callback(prices.close)
    configs = ConfigStore(pools.postgres, ConfigFence(pools.redis))
    keys, directory = KeyRegistry(pools.postgres), CallerDirectory(pools.postgres)
    for follower in (configs, keys, directory):
        follower.start(settings.database_url)
        stack.push_async_callback(follower.close)
    recent_use = RecentUseReader(pools.postgres)
    stack.push_async_callback(recent_use.close)
    return _Shared(pools, clock, prices, configs, keys, directory, recent_use)


async def _open_checks(
    stack: AsyncExitStack, settings: Settings, shared: _Shared, observer: AlertObserver
) -> tuple[CheckService, HoldStore, Publisher]:
    postgres, redis = shared.pools.postgres, shared.pools.redis
    deadline_ms = settings.checks.deadline_ms
    local_holds = LocalHolds(monotonic)
    ledger = LedgerReader(postgres)
    stack.push_async_callback(ledger.close)
    holds = await _started(stack, HoldStore(redis, deadline_ms=deadline_ms))
    carries = CarryFixer(postgres, shared.clock.now)
    await _started(stack, Repeating(carries.fix_due, _CARRIES_SECONDS, _note_failure))
    seeder = await _started(
        stack, CounterSeeder(redis, ledger, timeout_ms=settings.redis.command_timeout_ms, carries=carries)
    )
    publish_wait_ms = settings.ingest.publish_wait_ms
    publisher = await _started(
        stack,
        Publisher(redis, postgres, publish_wait_ms=publish_wait_ms, local_holds=local_holds, observer=observer),
    )
    # Whoever publishes ends first; what was observed by then is deleted by the publisher's end.
    stack.push_async_callback(observer.close)
    await _started(stack, Sweep(redis, ledger))
    checks = CheckService(
        configs=shared.configs,
        keys=shared.keys,
        prices=shared.prices,
        holds=holds,
        seeder=seeder,
        ledger=ledger,
        recent_use=shared.recent_use,
        local_holds=local_holds,
        deadline_ms=deadline_ms,
        clock=shared.clock.now,
    )
    stack.push_async_callback(checks.close)
    return checks, holds, publisher


async def _open_recorder(
    stack: AsyncExitStack, settings: Settings, shared: _Shared, publisher: Publisher
) -> LedgerRecorder:
    postgres = shared.pools.postgres
    recorder = LedgerRecorder(
        postgres,
        ConfigWindowMatcher(shared.configs, DraftRerating(shared.prices)),
        publisher,
        max_batch_charges=settings.ingest.batch_max_events,
        batch_wait_ms=settings.ingest.batch_wait_ms,
        max_queued_charges=settings.ingest.queue_max_events,
    )
    stack.push_async_callback(recorder.close)
    for action, seconds in (
        (partial(make_partitions_ahead, postgres), _PARTITIONS_SECONDS),
        (partial(raise_epoch_after_failover, postgres), _EPOCH_SECONDS),
        (recorder.delete_published, _OUTBOX_FLUSH_SECONDS),
    ):
        await _started(stack, Repeating(action, seconds, _note_failure))
    return recorder


async def _open_repricings(stack: AsyncExitStack, shared: _Shared, recorder: LedgerRecorder) -> RepricingWorker:
    postgres = shared.pools.postgres
    repricer = Repricer(postgres, shared.configs, shared.prices, recorder, turn=asyncio.Lock())
    return await _started(stack, RepricingWorker(postgres, repricer))


async def _open_imports(
    stack: AsyncExitStack, settings: Settings, shared: _Shared
) -> tuple[PriceBookImporter, MapDownloader]:
    postgres, downloader = shared.pools.postgres, MapDownloader(settings.prices)
    importer = PriceBookImporter(postgres, find_served=ServedModels(postgres).find, reload=shared.prices.reload)
    if settings.prices.url is not None:
        schedule = ScheduledImport(
            importer,
            downloader,
            url=settings.prices.url,
            interval_seconds=settings.prices.interval_hours * 3600.0,
        )
        schedule.start(settings.database_url)
        stack.push_async_callback(schedule.close)
    return importer, downloader


def _build_ingest(settings: Settings, shared: _Shared, holds: HoldStore, recorder: LedgerRecorder) -> EventIngest:
    postgres = shared.pools.postgres
    events = IngestService(
        configs=shared.configs,
        prices=shared.prices,
        keys=shared.keys,
        reservations=holds,
        failed_attempts=FailedAttempts(postgres),
        recorder=recorder,
        clock=shared.clock,
        observer=PriceObserver(shared.prices, _tolerance(settings)),
    )
    return EventIngest(events, Quarantine(postgres), max_body_bytes=settings.http.max_body_bytes)


def _tolerance(settings: Settings) -> Tolerance:
    return Tolerance(ratio=settings.prices.divergence_tolerance_percent.scaleb(-2))


async def _started(stack: AsyncExitStack, worker: _Runner) -> _Runner:
    worker.start()
    stack.push_async_callback(worker.close)
    return worker


def _note_failure(error: Exception) -> None:
    _log.warning("maintenance_failed", error=type(error).__name__, detail=str(error))
