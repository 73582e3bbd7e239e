"""The routes a load balancer, an orchestrator and Prometheus ask; none of them needs a token."""

from litestar import Controller, Response, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.status_codes import HTTP_200_OK, HTTP_503_SERVICE_UNAVAILABLE
from msgspec import Struct
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from service.health.service import HealthService, Readiness
from service.observability import metrics_registry

# The framework adds the charset to every text.
_METRICS_TYPE = CONTENT_TYPE_LATEST.replace("; charset=utf-8", "")


class Liveness(Struct):
    """The process answers."""

    live: bool = True


class HealthController(Controller):
    """Liveness, readiness, metrics."""

    tags = ["Health"]  # noqa: RUF012 - Litestar reads it from the class
    security = [{}]  # noqa: RUF012 - same

    @get("/health/live", operation_id="get_liveness", summary="Whether the process answers", sync_to_thread=False)
    def live(self) -> Liveness:
        """Answer without asking anybody: a failing database is no reason to restart a server."""
        return Liveness()

    @get(
        "/health/ready",
        operation_id="get_readiness",
        summary="Whether the server can do its work",
        responses={
            HTTP_503_SERVICE_UNAVAILABLE: ResponseSpec(
                Readiness, description="At least one condition does not hold", generate_examples=False
            )
        },
    )
    async def ready(self, health: NamedDependency[HealthService]) -> Response[Readiness]:
        """Ask PostgreSQL (reachable, migrated) and Redis (reachable, evicts nothing); 503 unless all of it holds."""
        readiness = await health.readiness()
        status = HTTP_200_OK if readiness.ready else HTTP_503_SERVICE_UNAVAILABLE
        return Response(readiness, status_code=status, headers={"cache-control": "no-store"})

    @get(
        "/metrics",
        operation_id="get_metrics",
        summary="Metrics for Prometheus",
        media_type="text/plain",
        sync_to_thread=False,
    )
    def metrics(self) -> Response[bytes]:
        """Answer in the Prometheus text format."""
        return Response(generate_latest(metrics_registry()), media_type=_METRICS_TYPE)
