"""The grammar of model names: every part a gateway may put around a model's own name, each under the name of a rule.

`take_apart` splits a name without losing a character; `name_forms` are the spellings a budget value may equal;
`match_key` is the shortest of them. Nothing is guessed: a part no rule knows stays in the name.
"""

import re
from functools import lru_cache
from itertools import product
from typing import Final, NamedTuple

from service.identity.providers import PROVIDERS
from service.kit.text import INVISIBLE, bounded_text, stripped_text

PROVIDER_PREFIX: Final = "provider_prefix"  # azure_ai/…, groq/openai/…
ROUTE_PREFIX: Final = "route_prefix"  # converse/…, model_router/…, responses/…
RESOURCE_PREFIX: Final = "resource_prefix"  # publishers/google/models/…, arn:aws:bedrock:…:inference-profile/…
REGION_PREFIX: Final = "region_prefix"  # us.anthropic.…, us-east-1/…, eu/…
VENDOR_PREFIX: Final = "vendor_prefix"  # anthropic.…, amazon.… of Bedrock; dropped in comparisons, never for a price
FINE_TUNE: Final = "fine_tune"  # ft:…:organization::id
VERSION: Final = "version"  # …@default, …@20251001
BEDROCK_REVISION: Final = "bedrock_revision"  # …-v1:0
SNAPSHOT_DATE: Final = "snapshot_date"  # …-2026-03-17, …-20260317
CASE: Final = "case"

_CACHED_NAMES: Final = 16_384

_ROUTES: Final = frozenset(
    ("converse", "invoke", "converse_like", "async_invoke", "agent", "responses", "chat", "o_series", "gpt5_series")
)
# Also without a provider in front: a gateway's cache hits lose it.
_ROUTER_ROUTES: Final = frozenset({"model_router", "model-router"})
_FIREWORKS_ROUTE: Final = re.compile(r"accounts/fireworks/(?:models|routers)/", re.IGNORECASE)
# Full names of resources at Vertex and Bedrock. An application-inference-profile names no model.
_RESOURCE: Final = re.compile(
    r"(?:projects/[^/]+/locations/[^/]+/)?publishers/[^/]+/models/"
    r"|arn:aws[a-z-]*:bedrock:[^/]*:(?:inference-profile|foundation-model)/",
    re.IGNORECASE,
)
# A region as a path segment of its own: of Bedrock, or Azure's data zones.
_REGION_SEGMENT: Final = re.compile(r"(?:us|eu|global|global-standard|[a-z]{2}(?:-gov)?-[a-z]+-\d)/", re.IGNORECASE)
_HAS_REGION_SEGMENTS: Final = frozenset({"azure", "azure_ai", "bedrock", "bedrock_converse", "bedrock_mantle"})
# Only in front of a vendor: `us.anthropic.claude-…` has a region, a public name such as `eu.assistant` has none.
_REGION: Final = re.compile(
    r"(?:us|us-gov|eu|apac|global|au|ca|in|jp|sa|me|af|mx)\.(?=[a-z][a-z0-9]*\.[a-z])", re.IGNORECASE
)
_ANY_VENDOR: Final = re.compile(r"[a-z][a-z0-9]*\.(?=.)", re.IGNORECASE)
_VENDOR: Final = re.compile(
    r"(?:ai21|amazon|anthropic|cohere|deepseek|google|luma|meta|minimax|mistral|moonshot|moonshotai|nvidia|openai|qwen"
    r"|stability|twelvelabs|writer|xai|zai)\.(?=[a-z])",
    re.IGNORECASE,
)
_FINE_TUNE: Final = re.compile(r"ft:(?P<name>[^:]+)(?P<suffix>:.*)?", re.IGNORECASE | re.DOTALL)
_VERSION: Final = re.compile(r"(?<=[^/@])@[^/@]+\Z")
# `v2:0` of titan-embed-text-v2:0 names the model; `-v1:0` and what follows a date count Bedrock's revisions.
_REVISION: Final = re.compile(
    r"(?<=.)(?:(?<=\d{8})-v\d+(?::\d+)?|-v?[01]:\d+|(?<=\d)-v1|(?<=v\d):\d+)\Z", re.IGNORECASE
)
_DATE: Final = re.compile(
    r"(?<=.)-20\d\d(?:-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])|(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01]))\Z"
)


class ModelName(NamedTuple):
    """A name taken apart; every part carries its own punctuation, so that `text` is the name as it came."""

    providers: tuple[str, ...] = ()  # "groq/", "openai/"
    route: str = ""  # "converse/"
    resource: str = ""  # "publishers/google/models/"
    area: str = ""  # "us-east-1/"
    region: str = ""  # "us."
    vendor: str = ""  # "anthropic."
    fine_tune: str = ""  # "ft:"
    core: str = ""
    date: str = ""  # "-2026-03-17"
    revision: str = ""  # "-v1:0"
    version: str = ""  # "@default"
    fine_tune_suffix: str = ""  # ":acme::C7abcd12"

    @property
    def text(self) -> str:
        """The parts joined again."""
        return "".join(self.providers) + "".join(self[1:])

    @property
    def provider(self) -> str | None:
        """The provider in front, in lower case."""
        return self.providers[0][:-1].lower() if self.providers else None

    @property
    def is_snapshot(self) -> bool:
        """Whether the name says which state of the model it means."""
        return bool(self.date or self.version)


def clean_name(name: str) -> str | None:
    """Return a name as it enters identity: nothing invisible around it, no `/` or `@` without anything behind it."""
    clean = stripped_text(name)
    return (clean.rstrip(INVISIBLE + "/@") if clean.endswith(("/", "@")) else clean) or None


@lru_cache(maxsize=_CACHED_NAMES)
def take_apart(name: str) -> ModelName:
    """Return the parts of a name; whatever no rule knows is `core`, which is empty only for an empty name."""
    providers, rest = _split_providers(name)
    route, rest = _split_route(rest, providers)
    resource, rest = _split_match(_RESOURCE, rest)
    area, rest = _split_area(rest, providers)
    fine_tune = _FINE_TUNE.fullmatch(rest)
    if fine_tune is not None:
        core, date, revision, version = _split_tail(fine_tune["name"])
        suffix = fine_tune["suffix"] or ""
        return ModelName(providers, route, resource, area, "", "", rest[:3], core, date, revision, version, suffix)
    region, rest = _split_match(_REGION, rest)
    # What stands behind a region is a vendor, known or not.
    vendor, rest = _split_match(_ANY_VENDOR if region else _VENDOR, rest)
    core, date, revision, version = _split_tail(rest)
    return ModelName(providers, route, resource, area, region, vendor, "", core, date, revision, version)


@lru_cache(maxsize=_CACHED_NAMES)
def name_forms(name: str) -> tuple[str, ...]:
    """Return all spellings, in lower case, that a budget value for this name may have, the full name first.

    A value with a provider prefix, a region, a date, … needs it in the name; a value without matches any.
    """
    lower = name.lower()
    parts = take_apart(lower)
    providers = ["".join(parts.providers[start:]) for start in range(len(parts.providers) + 1)]
    within = parts.resource + parts.area
    places = [parts.route + within, within, parts.area, ""]
    origins = [parts.region + parts.vendor, parts.vendor, ""]
    tunings = [(parts.fine_tune, parts.fine_tune_suffix), (parts.fine_tune, ""), ("", "")]
    tails = [parts.date + parts.revision + parts.version, parts.date + parts.revision, parts.date, ""]
    spellings = (
        provider + place + origin + tuning + parts.core + tail + suffix
        for provider, place, origin, (tuning, suffix), tail in product(providers, places, origins, tunings, tails)
    )
    # Half a prefix (a route without its provider) is part of a name by no rule.
    key = match_key(lower)
    forms = [form for form in dict.fromkeys((lower, *spellings)) if match_key(form) == key]
    return tuple(dict.fromkeys(map(bounded_text, (*forms, key))))


@lru_cache(maxsize=_CACHED_NAMES)
def match_key(name: str) -> str:
    """Return the shortest spelling: the model's own name in lower case. The key of a key is itself."""
    key = name.lower()
    while (core := take_apart(key).core) != key:
        key = core
    return bounded_text(key)


def same_model(one: str, other: str) -> bool:
    """Tell whether two names mean the same model, whatever is around its own name."""
    return match_key(one) == match_key(other)


def _split_providers(name: str) -> tuple[tuple[str, ...], str]:
    """A known provider in front, also several: groq/openai/gpt-oss-120b is OpenAI's model at groq."""
    found: list[str] = []
    rest = name
    while True:
        head, slash, tail = rest.partition("/")
        if not (slash and tail and head.lower() in PROVIDERS):
            return tuple(found), rest
        found.append(head + slash)
        rest = tail


def _split_route(rest: str, providers: tuple[str, ...]) -> tuple[str, str]:
    route, tail = _split_match(_FIREWORKS_ROUTE, rest)
    if route:
        return route, tail
    head, slash, tail = rest.partition("/")
    is_route = head.lower() in _ROUTER_ROUTES or (bool(providers) and head.lower() in _ROUTES)
    return (head + slash, tail) if slash and tail and is_route else ("", rest)


def _split_area(rest: str, providers: tuple[str, ...]) -> tuple[str, str]:
    if not any(provider[:-1].lower() in _HAS_REGION_SEGMENTS for provider in providers):
        return "", rest
    return _split_match(_REGION_SEGMENT, rest)


def _split_match(pattern: re.Pattern[str], rest: str) -> tuple[str, str]:
    found = pattern.match(rest)
    return ("", rest) if found is None or found.end() == len(rest) else (rest[: found.end()], rest[found.end() :])


def _split_tail(rest: str) -> tuple[str, str, str, str]:
    """Return (core, date, revision, version)."""
    rest, version = _split_end(_VERSION, rest)
    rest, revision = _split_end(_REVISION, rest)
    core, date = _split_end(_DATE, rest)
    return core, date, revision, version


def _split_end(pattern: re.Pattern[str], rest: str) -> tuple[str, str]:
    found = pattern.search(rest)
    return (rest, "") if found is None else (rest[: found.start()], rest[found.start() :])
