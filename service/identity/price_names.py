"""Under which names the price of a served model is looked up, in order, each with the rules that lead there. Pure.

Order: the name as it stands, the provider's other prefixes, without region, without version or revision, and last the
undated name of a dated one. A fine-tune is never priced as the model it was made from.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Final

from service.identity import names
from service.identity.models import PriceCandidate
from service.identity.names import ModelName, take_apart

PROVIDER_VARIANT: Final = "provider_variant"  # azure_ai/… -> azure/…

# The same models under the same rates, listed under another prefix.
_VARIANTS: Final = {
    "azure_ai": "azure",
    "azure_text": "azure",
    "bedrock_converse": "bedrock",
    "cohere_chat": "cohere",
    "custom_openai": "openai",
    "ollama_chat": "ollama",
    "sagemaker_chat": "sagemaker",
    "vertex_ai_beta": "vertex_ai",
}

_SHORTENINGS: Final[tuple[tuple[str, Callable[[ModelName], ModelName]], ...]] = (
    # All fine-tunes of one model have one price: ft:gpt-4.1-mini-2025-04-14.
    (names.FINE_TUNE, lambda parts: parts._replace(fine_tune_suffix="")),
    (names.VERSION, lambda parts: parts._replace(version="")),
    (names.BEDROCK_REVISION, lambda parts: parts._replace(revision="")),
    (names.SNAPSHOT_DATE, lambda parts: parts._replace(date="")),
)

Step = tuple[ModelName, tuple[str, ...]]


@lru_cache(maxsize=8192)
def price_candidates(name: str, reason: str = "") -> tuple[PriceCandidate, ...]:
    """Return the names to try for a served model; `reason` says why the name itself is one, if that is not plain."""
    found: dict[str, PriceCandidate] = {}
    lead = (reason,) if reason else ()
    for tail, tail_rules in _tails(take_apart(name)):
        for place, place_rules in _places(tail):
            for variant, variant_rules in _prefixes(place):
                text = variant.text
                rules = lead + variant_rules + place_rules + tail_rules
                found.setdefault(text, PriceCandidate(name=text, rule=", ".join(rules)))
    return tuple(found.values())


def _tails(parts: ModelName) -> Iterator[Step]:
    """Yield the name with less and less behind it."""
    rules: tuple[str, ...] = ()
    yield parts, rules
    for rule, shorten in _SHORTENINGS:
        shorter = shorten(parts)
        if shorter != parts:
            parts, rules = shorter, (*rules, rule)
            yield parts, rules


def _places(parts: ModelName) -> Iterator[Step]:
    yield parts, ()
    if parts.area or parts.region:
        yield parts._replace(area="", region=""), (names.REGION_PREFIX,)


def _prefixes(parts: ModelName) -> Iterator[Step]:
    yield parts, ()
    rules: tuple[str, ...] = ()
    if parts.route:
        parts, rules = parts._replace(route=""), (names.ROUTE_PREFIX,)
        yield parts, rules
    if parts.resource:
        parts, rules = parts._replace(resource=""), (*rules, names.RESOURCE_PREFIX)
        yield parts, rules
    if not parts.providers:
        return
    variant = _VARIANTS.get(parts.providers[0][:-1].lower())
    if variant is not None:
        yield parts._replace(providers=(f"{variant}/", *parts.providers[1:])), (PROVIDER_VARIANT, *rules)
    # One prefix only: `openai/gpt-oss-120b` at groq is not OpenAI's.
    yield parts._replace(providers=parts.providers[1:]), (names.PROVIDER_PREFIX, *rules)
