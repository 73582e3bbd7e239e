"""What a gateway's request asks: under which keys, for which models, how large, under which id. Pure.

Every key a request shows and every model it names must pass: whoever adds a second one gains nothing.
"""

from itertools import product

import msgspec

from service.checks.request import CheckRequest
from service.identity.dimensions import Dimensions

MOST_KEYS = 4
MOST_MODELS = 4
# Without an event that ends them, holds only block: they are short.
HOLD_SECONDS = 60


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """One call of an end client, as a gateway passes it on.

    `keys`: ids of keys, the one that pays first. `models`: the one that is most likely meant first. `ambiguous`: what
    was said more than once, or too often. `call_id`: chosen by the end client, perhaps.
    """

    keys: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    dimensions: Dimensions = Dimensions()
    input_tokens: int = 0
    max_output_tokens: int | None = None
    call_id: str | None = None
    ambiguous: tuple[str, ...] = ()

    def requests(self) -> list[CheckRequest]:
        """Return the checks that all must pass; the first is that of the call itself. None of them holds anything."""
        keys: tuple[str | None, ...] = self.keys[:MOST_KEYS] or (None,)
        models: tuple[str | None, ...] = self.models[:MOST_MODELS] or (None,)
        return [self._request(key, model) for key, model in product(keys, models)]

    def _request(self, key: str | None, model: str | None) -> CheckRequest:
        return CheckRequest(
            request_id=None,
            wants_hold=False,
            ttl_seconds=HOLD_SECONDS,
            dimensions=msgspec.structs.replace(self.dimensions, api_key=key),
            model=model,
            provider=None,
            deployment=None,
            fallback_models=(),
            call_type="",
            input_tokens=self.input_tokens,
            max_output_tokens=self.max_output_tokens,
            service_tier=None,
            estimated_cost_usd=None,
        )
