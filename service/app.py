"""The application: settings -> services (composition.py) -> routes.

To add a slice: give `Services` a field, build it in `open_services`, and list its controllers in `_ROUTES`. A handler
asks for a service by the name of its field.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields
from typing import Any

from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide
from litestar.types import ControllerRouterHandler

from service.access.controller import SettingsController, TenantController, TokenController
from service.access.guards import provide_caller
from service.alerts.controller import AlertController
from service.alerts.webhook_controller import WebhookController
from service.amount_bodies import AmountSchemaPlugin, ExactRequest
from service.audit.controller import AuditController
from service.budgets.backtest_controller import BacktestController
from service.budgets.controller import BudgetController
from service.budgets.increase_controller import IncreaseController
from service.checks.controller import CheckController, ReservationController
from service.checks.dialects.authz import authorize
from service.checks.dialects.controller import DialectController
from service.checks.dialects.quota_controller import QuotaController
from service.checks.estimate_controller import EstimateController
from service.composition import Services, open_services
from service.events.controller import EventsController
from service.events.quarantine_controller import QuarantineController
from service.health.controller import HealthController
from service.identity.controller import AliasController, KeyController
from service.ledger.controller import ChargeController
from service.observability import RequestObserver, access_line_writer, configure_logs, forget_ended_processes
from service.openapi import get_openapi_yaml, openapi_config
from service.pricing.book_controller import PriceBookController, PriceController
from service.pricing.rule_controller import DiscountController, FeeController, PriceOverrideController
from service.problems import problem_handlers
from service.repricing.controller import RepricingController
from service.settings import MIB, Role, Settings
from service.spend.controller import SpendController
from service.spend.litellm_controller import LitellmSpendController
from service.spend.report_controller import ReportController

# Bodies of this size are small talk; the routes that take events raise it for themselves.
_SMALL_BODY_BYTES = 2 * MIB

_EVERY_ROLE: tuple[ControllerRouterHandler, ...] = (HealthController, get_openapi_yaml)
_INGEST: tuple[ControllerRouterHandler, ...] = (EventsController,)
_CHECK: tuple[ControllerRouterHandler, ...] = (
    CheckController,
    ReservationController,
    EstimateController,
    DialectController,
    authorize,
    QuotaController,
)
_REST: tuple[ControllerRouterHandler, ...] = (
    AlertController,
    AliasController,
    AuditController,
    BacktestController,
    BudgetController,
    ChargeController,
    DiscountController,
    FeeController,
    IncreaseController,
    KeyController,
    LitellmSpendController,
    PriceBookController,
    PriceController,
    PriceOverrideController,
    QuarantineController,
    ReportController,
    RepricingController,
    SettingsController,
    SpendController,
    TenantController,
    TokenController,
    WebhookController,
)
_ROUTES: dict[Role, tuple[ControllerRouterHandler, ...]] = {
    "all": (*_EVERY_ROLE, *_INGEST, *_CHECK, *_REST),
    "ingest": (*_EVERY_ROLE, *_INGEST),
    "check": (*_EVERY_ROLE, *_CHECK),
}


def create_app(settings: Settings | None = None) -> Litestar:
    """Return the application; it opens its pools when the server starts it and drains when the server stops it."""
    chosen = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        forget_ended_processes()
        async with open_services(chosen) as services:
            app.state.services = services
            yield

    configure_logs(chosen.logs)
    app = Litestar(
        route_handlers=_ROUTES[chosen.http.role],
        lifespan=[lifespan],
        dependencies={
            "caller": Provide(provide_caller),
            **{field.name: _provide(field.name) for field in fields(Services)},
        },
        exception_handlers=problem_handlers(),
        openapi_config=openapi_config(),
        plugins=[AmountSchemaPlugin()],
        request_class=ExactRequest,
        request_max_body_size=_SMALL_BODY_BYTES,
        state=State({"settings": chosen}),
        logging_config=None,
    )
    app.asgi_handler = RequestObserver(app.asgi_handler, write_line=access_line_writer(chosen.logs))
    return app


def _provide(name: str) -> Provide:
    def provide_service(state: State) -> Any:
        return getattr(state.services, name)

    return Provide(provide_service, sync_to_thread=False)
