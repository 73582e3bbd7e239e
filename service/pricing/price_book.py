"""A price book: an immutable set of prices with a version. Finds the price of a model, and a router's fee. Pure.

Entries are decoded when they are first asked for, so that a book is there in milliseconds and holds little.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from service.identity.models import ModelIdentity, PriceCandidate
from service.identity.names import PROVIDER_PREFIX
from service.pricing.cost_map import Snapshot, decode_entry, read_snapshot
from service.pricing.image_variants import variant_names
from service.pricing.map_entry import read_entry
from service.pricing.model_price import ModelPrice
from service.pricing.providers import may_bill_for, vendor_of
from service.pricing.units import CODE_SESSIONS
from service.pricing.usage import PricingBasis

# Entries that state a router's own fee. They price no model: a call is never priced by the router it went through.
ROUTER_KEYS: Final = ("azure_ai/model_router", "azure_ai/model-router", "azure/model-router")

# Entries that price a tool, below the name of the provider.
_TOOL_ENTRIES: Final[dict[str, str]] = {CODE_SESSIONS: "container"}
GUARDRAILS_KEY: Final = "bedrock/guardrails"

# Rules by which an operator, of Tallygate or of the gateway, said outright what a name is to be priced as.
_DECLARED_RULES: Final = ("alias", "base_model")


class FoundPrice(msgspec.Struct, frozen=True):
    """A model's price and the rule that led to it ("" = the name as it stands)."""

    price: ModelPrice
    rule: str


class PriceBook:
    """The prices of one version; the same for every call it is asked about."""

    __slots__ = ("_entries", "_folded", "_prices", "_router_fees", "licence", "origin", "version")

    def __init__(self, snapshot: Snapshot) -> None:
        self.version = snapshot.version
        self.origin = snapshot.origin
        self.licence = snapshot.licence
        self._entries = snapshot.entries()
        self._folded = {key.lower(): key for key in self._entries}
        self._prices: dict[str, ModelPrice] = {}
        self._router_fees: dict[str, ModelPrice] = {}
        for key in ROUTER_KEYS:
            fee = self.find(key)
            if fee is not None:
                self._router_fees.setdefault(key.partition("/")[0], fee)

    @classmethod
    def from_snapshot(cls, compressed: bytes) -> "PriceBook":
        """Return the book of a compressed snapshot; CostMapError when the bytes are none."""
        return cls(read_snapshot(compressed))

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[str]:
        """Go through the names of all entries, routers' fees included."""
        return iter(self._entries)

    def find(self, key: str) -> ModelPrice | None:
        """Return the price under exactly this key."""
        price = self._prices.get(key)
        if price is None and key in self._entries:
            price = ModelPrice(read_entry(key, decode_entry(self._entries[key])))
            self._prices[key] = price
        return price

    def raw_entry(self, key: str) -> dict[str, Any] | None:
        """Return the entry as the map states it, numbers exact; a new one each time, the caller may change it."""
        raw = self._entries.get(key)
        return None if raw is None else decode_entry(raw)

    def find_price(self, candidates: tuple[PriceCandidate, ...], provider: str | None = None) -> FoundPrice | None:
        """Return the first candidate's price that this provider may bill.

        A name without provider prefix could be another vendor's model: its entry must belong to the provider of the
        call, unless an operator declared the name. Upper and lower case are told apart only if both are in the book.
        """
        for candidate in candidates:
            name, rule = candidate.name, candidate.rule
            price = self._prices.get(name) or self.find(name)
            if price is None:
                folded = self._folded.get(name.lower())
                if folded is None:
                    continue
                price, rule = self.find(folded), f"{rule}, case" if rule else "case"
            if price is None or price.key in ROUTER_KEYS:
                continue
            if may_bill_for(provider, price.entry.provider) or _is_declared(candidate):
                # Many lists name their models without a prefix: under its own vendor that is the name as it stands.
                return FoundPrice(price, "" if rule == PROVIDER_PREFIX and provider is not None else rule)
        return None

    def find_variant(self, models: ModelIdentity, basis: PricingBasis) -> FoundPrice | None:
        """Return the price of an image by its size and quality, for models whose list has one for each."""
        candidates = tuple(
            PriceCandidate(name=name, rule=candidate.rule)
            for candidate in models.price_candidates
            for name in variant_names(candidate.name, basis.image_size, basis.image_quality)
        )
        return self.find_price(candidates, models.provider)

    def find_tool_price(self, unit: str, provider: str | None) -> ModelPrice | None:
        """Return the entry that prices a tool for all models of a provider."""
        name = _TOOL_ENTRIES.get(unit)
        return None if name is None or provider is None else self.find(f"{vendor_of(provider)}/{name}")

    def find_router_fee(self, provider: str | None) -> ModelPrice | None:
        """Return the entry of the router's flat fee, the provider's own one before the others."""
        return self._router_fees.get(provider or "") or next(iter(self._router_fees.values()), None)


def _is_declared(candidate: PriceCandidate) -> bool:
    return candidate.rule.startswith(_DECLARED_RULES)
