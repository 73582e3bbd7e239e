"""The configuration fence in Redis: a check made with an older configuration is told to reload and ask again."""

from importlib.resources import files
from typing import Any, cast

import structlog
from redis.exceptions import RedisError

from service.db.pools import RedisClient, at_server_of

_RAISE_VERSION = files("service.config").joinpath("lua/raise_version.lua").read_text("utf-8")

_log = structlog.get_logger(__name__)


def fence_key(tenant_id: str) -> str:
    """Return the key of a tenant's fence."""
    return f"{{{tenant_id}}}:cv"


class ConfigFence:
    """Raises the fence after a committed change, so that every replica follows at its next check."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis

    async def raise_to(self, tenant_id: str, version: int) -> None:
        """Raise the tenant's fence; without Redis the announcement by Postgres and the poll have to do."""
        key = fence_key(tenant_id)
        try:
            await at_server_of(
                self._redis, key, lambda server: cast("Any", server).eval(_RAISE_VERSION, 1, key, version)
            )
        except (RedisError, OSError, TimeoutError) as error:
            _log.warning("config_fence_not_raised", error=type(error).__name__)
