"""What the failed attempts of a request asked for: after a fallback the gateway names only the group that served.

A gateway posts one failure event per request, under the request's id, mostly in the same body as the success that
follows. It is looked for in the body, then in what this process saw lately, then in the ledger of the last day.
"""

from collections import OrderedDict
from collections.abc import Sequence

from service.db.pools import PostgresPool
from service.events.usage_event import UsageEvent

_REMEMBERED = 50_000

_FIND = """
SELECT DISTINCT ON (request_id) request_id, api_key, requested_model
FROM charge
WHERE tenant_id = %s AND request_id = ANY (%s) AND status = 'failure' AND kind = 'usage'
  AND requested_model IS NOT NULL AND recorded_at > now() - interval '1 day'
ORDER BY request_id, occurred_at
"""

# A request is one client's: the id can be chosen by clients, the key cannot.
RequestKey = tuple[str, str, str | None]  # tenant_id, request_id, api_key


class FailedAttempts:
    """One instance per process."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool
        self._seen: OrderedDict[RequestKey, str] = OrderedDict()

    async def find_requested(self, tenant_id: str, events: Sequence[UsageEvent]) -> dict[RequestKey, str]:
        """Return the requested model of the first failed attempt, for the events of requests that had one."""
        for event in events:
            self._remember(tenant_id, event)
        fallbacks = [event for event in events if _may_have_fallen_back(event)]
        keys = {key for event in fallbacks if (key := request_key(tenant_id, event)) is not None}
        found = {key: self._seen[key] for key in keys if key in self._seen}
        wanted = sorted({request_id for _, request_id, _ in keys - found.keys()})
        if wanted:
            async with self._pool.connection() as connection:
                cursor = await connection.execute(_FIND, (tenant_id, wanted))
                rows = await cursor.fetchall()
            recorded = {(tenant_id, request_id, api_key): model for request_id, api_key, model in rows}
            found |= {key: recorded[key] for key in keys if key in recorded}
        return found

    def _remember(self, tenant_id: str, event: UsageEvent) -> None:
        key = request_key(tenant_id, event)
        model = event.models.requested_model or event.models.model_group
        if event.status != "failure" or key is None or model is None:
            return
        self._seen.setdefault(key, model)
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)


def request_key(tenant_id: str, event: UsageEvent) -> RequestKey | None:
    """Return what the attempts of one request have in common; None when the event names no request."""
    return None if event.request_id is None else (tenant_id, event.request_id, event.dimensions.api_key)


def _may_have_fallen_back(event: UsageEvent) -> bool:
    """Tell whether a success may have been a fallback: gateways say so, but for streams."""
    claims = event.models
    if event.status != "success" or claims.requested_model is not None:
        return False
    return claims.has_fallen_back is True or (claims.has_fallen_back is None and event.is_stream)
