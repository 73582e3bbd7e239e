"""What a declaration answers when charges without a price would have one by it: the repricing to ask for. Pure."""

from collections.abc import Awaitable, Callable
from datetime import datetime

import msgspec


class RepricingRange(msgspec.Struct, frozen=True, kw_only=True, rename={"start": "from", "end": "to"}):
    """The body of `POST /v1/repricings`: a range, and filters as `GET /v1/charges` takes them."""

    start: datetime
    end: datetime
    filter: dict[str, list[str]]


class RepricingOffer(msgspec.Struct, frozen=True, kw_only=True):
    """So many requests had no price of ours and would have one by now; `repricing` is what to post for that."""

    requests: int
    repricing: RepricingRange


class OfferFinder:
    """Looks for what could be repriced, for those who just declared something.

    A class, so that handlers of slices that know nothing of charges can ask for it by type.
    """

    __slots__ = ("_find",)

    def __init__(self, find: Callable[[str], Awaitable[list[RepricingOffer] | None]]) -> None:
        self._find = find

    async def find(self, tenant_id: str) -> list[RepricingOffer] | None:
        """Return the offers of a tenant; None when looking for them took too long."""
        return await self._find(tenant_id)
