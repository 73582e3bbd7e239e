"""The up to three names of one model call: what the gateway claims, and what we make of it. Pure values."""

from typing import Final

import msgspec

# Columns of a charge; their values and where each came from are replaced together when a call is resolved anew.
IDENTITY: Final = (
    "requested_model",
    "requested_canonical",
    "deployment",
    "deployment_id",
    "served_model",
    "provider",
)


class ModelClaims(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Names as the event carries them; None = absent or empty."""

    requested_model: str | None = None  # only adapters know it after a fallback (`tallygate.requested_model`)
    model_group: str | None = None
    model: str | None = None
    deployment_model: str | None = None  # hidden_params.litellm_model_name: what was sent to the provider
    deployment_id: str | None = None  # model_id
    response_model: str | None = None
    provider: str | None = None
    gateway_price_key: str | None = None  # model_map_information.model_map_key
    has_router_fee: bool = False  # the gateway's breakdown carries a router's flat cost
    # True or False only if the gateway says whether a fallback happened (x-litellm-attempted-fallbacks); streams don't.
    has_fallen_back: bool | None = None
    is_failure: bool = False  # a failed call may name its deployment where the served model is expected


class PriceCandidate(msgspec.Struct, frozen=True, kw_only=True):
    """A name to look up in the price book, and the rule that led to it ("" = the name as it stands)."""

    name: str
    rule: str = ""


class ModelIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Requested model, deployment and served model of one call, each with its provenance.

    `requested_model` is what the client asked for; `requested_canonical` the same after aliases, or the canonical
    served name when the event has no requested one: budgets and checks compare by these two and nothing else.
    `price_candidates` are tried in order; none found = unpriced.
    """

    requested_model: str | None
    requested_canonical: str | None
    deployment: str | None
    deployment_id: str | None
    served_model: str | None
    provider: str | None
    is_router: bool
    price_candidates: tuple[PriceCandidate, ...]
    provenance: dict[str, str]

    def provenance_instead(self, known: dict[str, str]) -> dict[str, str]:
        """Return the provenance of a charge that gets these names instead of others; that of its people stays."""
        return {name: source for name, source in known.items() if name not in IDENTITY} | self.provenance
