import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import redis

from service.app import create_app
from service.db.embedded import EmbeddedEngines
from service.settings import Settings
from tests.app_client import running_client


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with running_client(create_app(settings)) as opened:
        yield opened


async def test_server_with_its_engines_is_ready(client: httpx.AsyncClient):
    response = await client.get("/health/ready")
    assert response.status_code == 200, response.text
    assert {check["name"]: check["passed"] for check in response.json()["checks"]} == {
        "postgres": True,
        "migrations": True,
        "redis": True,
        "redis_eviction": True,
    }


@pytest.fixture
def own_redis_url() -> Iterator[str]:
    """A Valkey of this test's own: its configuration is changed."""
    with tempfile.TemporaryDirectory(prefix="tg-valkey-") as directory:
        Path(directory).chmod(0o711)
        with EmbeddedEngines(Path(directory), with_postgres=False) as engines:
            assert engines.urls.redis_url is not None
            yield engines.urls.redis_url


async def test_redis_that_evicts_makes_the_server_unready(settings: Settings, own_redis_url: str):
    own = settings.with_engines(database_url=settings.database_url, redis_url=own_redis_url)
    with redis.Redis.from_url(own_redis_url) as admin:
        admin.config_set("maxmemory-policy", "allkeys-lru")
    async with running_client(create_app(own)) as client:
        response = await client.get("/health/ready")
    assert response.status_code == 503
    (failed,) = [check for check in response.json()["checks"] if not check["passed"]]
    assert failed["name"] == "redis_eviction"
    assert "allkeys-lru" in failed["detail"]


async def test_unmigrated_database_makes_the_server_unready(settings: Settings, empty_database_url: str):
    unmigrated = settings.with_engines(database_url=empty_database_url, redis_url=settings.redis_url)
    async with running_client(create_app(unmigrated)) as client:
        response = await client.get("/health/ready")
    assert response.status_code == 503
    (failed,) = [check for check in response.json()["checks"] if not check["passed"]]
    assert failed["name"] == "migrations"
    assert "tallygate migrate" in failed["detail"]


async def test_server_without_engines_lives_but_is_not_ready():
    nowhere = Settings().with_engines(
        database_url="postgresql://somebody:hunter2@127.0.0.1:1/x", redis_url="redis://127.0.0.1:1"
    )
    async with running_client(create_app(nowhere)) as client:
        assert (await client.get("/health/live")).status_code == 200
        response = await client.get("/health/ready")
    assert response.status_code == 503
    assert [check["passed"] for check in response.json()["checks"]] == [False] * 4
    assert "hunter2" not in response.text


async def test_metrics_count_requests_by_route_template(client: httpx.AsyncClient):
    await client.get("/health/live")
    await client.get("/no/such/customer-name")
    response = await client.get("/metrics")
    metrics = response.text
    assert response.headers["content-type"].count("charset=utf-8") == 1
    assert 'tallygate_http_requests_total{method="GET",route="/health/live",status="200"}' in metrics
    assert 'route="unmatched",status="404"' in metrics
    assert "customer-name" not in metrics


@pytest.mark.parametrize(
    ("sent", "taken_over"), [("abc-123:4", True), ("", False), ("a b", False), ("x" * 129, False), ('{"a":1}', False)]
)
async def test_sane_request_id_is_taken_over_and_any_other_replaced(
    client: httpx.AsyncClient, sent: str, taken_over: bool
):
    response = await client.get("/health/live", headers={"x-request-id": sent})
    answered = response.headers["x-request-id"]
    assert (answered == sent) is taken_over
    assert answered


async def test_unknown_path_is_a_problem_document(client: httpx.AsyncClient):
    response = await client.get("/nowhere")
    assert response.headers["content-type"].startswith("application/problem+json")
    assert response.json()["code"] == "not_found"
    assert response.json()["status"] == response.status_code == 404


async def test_api_pages_load_nothing_from_elsewhere(client: httpx.AsyncClient):
    page = (await client.get("/docs")).text
    assert "/health/ready" in page
    assert "http://" not in page
    assert "https://" not in page
    assert (await client.get("/openapi.yaml")).text.startswith("openapi: 3.1")


async def test_methods_a_client_makes_up_are_counted_as_one(client: httpx.AsyncClient):
    for number in range(3):
        await client.request(f"INVENTED{number}", "/health/live")
    metrics = (await client.get("/metrics")).text
    assert 'method="other"' in metrics
    assert "INVENTED" not in metrics
