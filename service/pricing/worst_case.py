"""The dearest usage a call can come to, within what is known of it before it is made. Pure.

Known is the length of the prompt, the most tokens it may put out, and what it uses beside plain text: parts of the
prompt that are written to the cache, heard or seen, images to be made, searches … What a model puts out nobody knows
before: every token counts at the dearest kind the price has. What goes in is the caller's to tell: a prompt is plain
text but for the declared parts. A cache read or, where the provider does it unasked, a cache write may happen to any.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from itertools import product
from typing import Any, Final

import msgspec

from service.pricing import rate_keys
from service.pricing.model_price import ModelPrice, Rates
from service.pricing.quantities import output_kinds
from service.pricing.units import CONTENT, OUTPUT_IMAGES, OUTPUT_PIXELS, QUERIES
from service.pricing.usage import PricingBasis, Usage

# Models of these modes answer without output tokens.
_SILENT_MODES: Final = frozenset({"embedding", "moderation", "rerank"})
# Providers whose caches take long prompts without being asked to, and charge for it where the list says so.
_WRITES_UNASKED: Final = frozenset({"openai", "azure"})

# How tokens of a kind are counted in `Usage`.
_FIELDS_OF: Final[Mapping[str, tuple[str, ...]]] = {
    rate_keys.TEXT_INPUT: (),
    rate_keys.CACHE_READ: ("cache_read_input_tokens",),
    rate_keys.CACHE_READ_AUDIO: (
        "cache_read_input_tokens",
        "cache_read_audio_input_tokens",
        "audio_input_tokens",
    ),
    rate_keys.CACHE_READ_IMAGE: (
        "cache_read_input_tokens",
        "cache_read_image_input_tokens",
        "image_input_tokens",
    ),
    rate_keys.CACHE_WRITE_5M: ("cache_write_5m_input_tokens",),
    rate_keys.CACHE_WRITE_1H: ("cache_write_1h_input_tokens",),
    rate_keys.AUDIO_INPUT: ("audio_input_tokens",),
    rate_keys.IMAGE_INPUT: ("image_input_tokens",),
    rate_keys.VIDEO_INPUT: ("video_input_tokens",),
    rate_keys.TEXT_OUTPUT: (),
    rate_keys.REASONING: ("reasoning_output_tokens",),
    rate_keys.AUDIO_OUTPUT: ("audio_output_tokens",),
    rate_keys.IMAGE_OUTPUT: ("image_output_tokens",),
    rate_keys.VIDEO_OUTPUT: ("video_output_tokens",),
}
# Parts of a prompt that can be declared, and the kinds their tokens may be charged as beside those of any token.
PROMPT_PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "cache_write_5m_input_tokens": (rate_keys.CACHE_WRITE_5M,),
    "cache_write_1h_input_tokens": (rate_keys.CACHE_WRITE_1H, rate_keys.CACHE_WRITE_5M),
    "audio_input_tokens": (rate_keys.AUDIO_INPUT, rate_keys.CACHE_READ_AUDIO),
    "image_input_tokens": (rate_keys.IMAGE_INPUT, rate_keys.CACHE_READ_IMAGE),
    "video_input_tokens": (rate_keys.VIDEO_INPUT,),
}
# What a request asks one of unless it says otherwise, and the kinds that price it.
_USUALLY_ONE: Final[Mapping[str, frozenset[str]]] = {
    OUTPUT_IMAGES: frozenset({OUTPUT_IMAGES, OUTPUT_PIXELS}),
    QUERIES: frozenset({QUERIES}),
}
_ONE: Final = Decimal(1)
_OUTPUTS: Final = tuple(kind for kind in rate_keys.TOKEN_KINDS if kind in rate_keys.OUTPUT_KINDS)


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """What a call uses beside plain text: at most that many tokens of a part of the prompt, and of other units."""

    prompt_parts: tuple[tuple[str, int], ...] = ()
    units: tuple[tuple[str, Decimal], ...] = ()


NOTHING_DECLARED: Final = Declared()


class Dearest(msgspec.Struct, frozen=True):
    """The kinds a call is charged at in the worst case. `is_rated` False = of a kind the price has no rate for."""

    prompt: str
    output: str | None  # None = the model puts out nothing
    parts: tuple[tuple[str, int], ...] = ()  # of the prompt, by kind
    is_rated: bool = True

    def usage(self, input_tokens: int, output_tokens: int, units: tuple[tuple[str, Decimal], ...]) -> Usage:
        """Return that many tokens, all of these kinds."""
        counts: dict[str, Any] = {}
        left = input_tokens
        for kind, tokens in self.parts:
            taken = min(tokens, left)
            left -= taken
            _count(counts, kind, taken)
        _count(counts, self.prompt, left)
        if self.output is None:
            return Usage(input_tokens=input_tokens, units=units, **counts)
        _count(counts, self.output, output_tokens)
        return Usage(input_tokens=input_tokens, output_tokens=output_tokens, units=units, **counts)


def dearest_kinds(
    rates: Rates, price: ModelPrice | None, basis: PricingBasis, declared: Declared
) -> tuple[Dearest, ...]:
    """Return the dearest kinds that have a rate; and, where a call could come to one that has none, those too.

    Where units are declared, also a prompt without the parts whose tokens would measure them.
    """
    if declared is not NOTHING_DECLARED:
        return _find_dearest_kinds(rates, price, basis, declared)
    # Of nothing but text the answer is always the same, and the rates of a model are the same object again and again.
    name = (id(rates), id(price), basis.call_type)
    known = _known_kinds.get(name)
    if known is None or known[0] is not rates or known[1] is not price:
        if len(_known_kinds) >= _MOST_KNOWN:
            _known_kinds.clear()
        known = _known_kinds[name] = (rates, price, _find_dearest_kinds(rates, price, basis, declared))
    return known[2]


_MOST_KNOWN: Final = 4_096
_known_kinds: dict[tuple[int, int, str], tuple[Rates, ModelPrice | None, tuple[Dearest, ...]]] = {}


def _find_dearest_kinds(
    rates: Rates, price: ModelPrice | None, basis: PricingBasis, declared: Declared
) -> tuple[Dearest, ...]:
    prompt = _dearest_of(_any_prompt(price), rates)
    prompts = (prompt,) if prompt is not None else ()
    if rate_keys.TEXT_INPUT not in rates:
        prompts = (*prompts, rate_keys.TEXT_INPUT)
    main = output_kinds(basis.call_type)[0]
    output = _dearest_output(rates, basis)
    outputs: tuple[str | None, ...] = (output,)  # None: whatever else it costs is known only if it puts out nothing
    if main not in rates and not is_silent(price):
        outputs = (output, main)
    cases = []
    for used, made in product(prompts, outputs):
        is_rated = used in rates and (made is None or made in rates)
        parts = _dearest_parts(declared, used, rates)
        cases.append(Dearest(used, made, parts, is_rated))
        if parts and (declared.units or not is_rated):
            cases.append(Dearest(used, made, (), is_rated))
    return tuple(cases)


def is_silent(price: ModelPrice | None) -> bool:
    """Tell whether a model puts out no tokens."""
    return price is not None and price.entry.mode in _SILENT_MODES


def with_usual_units(declared: Declared, price: ModelPrice | None) -> Declared:
    """Return what is declared; of an image or a query, that price the call and are not spoken of, there is one."""
    if price is None or price.is_priced_by_tokens:
        return declared
    named = {unit for unit, _ in declared.units}
    priced = price.entry.unit_kinds
    usual = [(unit, _ONE) for unit, kinds in _USUALLY_ONE.items() if unit not in named and not kinds.isdisjoint(priced)]
    return msgspec.structs.replace(declared, units=(*declared.units, *usual)) if usual else declared


def has_content(declared: Declared) -> bool:
    """Tell whether units are declared that tokens, where there are any, would measure too."""
    return any(unit in CONTENT for unit, _ in declared.units)


def _any_prompt(price: ModelPrice | None) -> tuple[str, ...]:
    """Return the kinds any token of a prompt may be charged as."""
    if price is not None and price.entry.provider in _WRITES_UNASKED:
        return (rate_keys.TEXT_INPUT, rate_keys.CACHE_READ, rate_keys.CACHE_WRITE_5M)
    return (rate_keys.TEXT_INPUT, rate_keys.CACHE_READ)


def _dearest_output(rates: Rates, basis: PricingBasis) -> str | None:
    """Return the dearest of all kinds; of equally dear ones what such a call is for."""
    return _dearest_of(dict.fromkeys((*output_kinds(basis.call_type), *_OUTPUTS)), rates)


def _dearest_parts(declared: Declared, prompt: str, rates: Rates) -> tuple[tuple[str, int], ...]:
    """Return the declared parts that are dearer than any other token, the dearest first: their sum may be too much."""
    parts = []
    for name, tokens in declared.prompt_parts:
        kind = _dearest_of((prompt, *PROMPT_PARTS[name]), rates)
        if kind is not None and kind != prompt:
            parts.append((kind, tokens))
    return tuple(sorted(parts, key=lambda part: rates[part[0]].charged_usd, reverse=True))


def _dearest_of(kinds: Iterable[str], rates: Rates) -> str | None:
    dearest = None
    for kind in kinds:
        rate = rates.get(kind)
        if rate is not None and (dearest is None or rate.charged_usd > rates[dearest].charged_usd):
            dearest = kind
    return dearest


def _count(counts: dict[str, Any], kind: str, tokens: int) -> None:
    if tokens:
        for field in _FIELDS_OF[kind]:
            counts[field] = counts.get(field, 0) + tokens
