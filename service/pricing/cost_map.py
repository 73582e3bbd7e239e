"""Cost maps: reading one in LiteLLM's JSON form, and making the compact, deterministic snapshot a price book lives on.

A snapshot keeps the price-relevant keys, provider, mode and token limits of each model, states origin and licence, and
has a version that is a digest of its prices: the same prices are the same version, whatever the origin says. Pure.
"""

import gzip
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from hashlib import sha256
from typing import Any, Final

import msgspec

from service.kit.money import EXACT
from service.kit.text import MAX_KEY_TEXT
from service.pricing.map_entry import CostMapError, read_entry
from service.pricing.map_keys import NOT_CHARGED, is_price_relevant, is_understood, not_charged, not_understood

SNAPSHOT_FORMAT: Final = 1

_KEPT_KEYS: Final = frozenset({"litellm_provider", "mode", "max_tokens", "max_input_tokens", "max_output_tokens"})
# Explanations of the format that lie among the models.
_NOT_MODELS: Final = frozenset({"sample_spec", "fallback_generalizations"})
_VERSION_DIGITS: Final = 16
_WHOLE_DIGITS: Final = 30

# Numbers stay text until they are Decimal: a price of 1.4e-07 has no exact binary form.
_MAP_DECODER = msgspec.json.Decoder(dict[str, dict[str, Any]], float_hook=Decimal)
_ENTRY_DECODER = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)
_ENCODER = msgspec.json.Encoder(order="deterministic", decimal_format="number")


class _Name(str):
    """A key of a map, as a type of its own."""

    __slots__ = ()


class NotCharged(msgspec.Struct, frozen=True):
    """A key that is understood and no part of a call's price: how often the map has it, and why."""

    count: int
    reason: str


class ImportReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a map: nothing price-relevant is left out silently."""

    version: str
    models: int
    models_priced_by_tokens: int
    models_priced_by_other_units: int
    models_without_price: int
    understood_keys: dict[str, int]
    not_charged_keys: dict[str, NotCharged]
    not_understood_keys: dict[str, int]


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The compact form; `models` is its canonical JSON text, whose digest is the version."""

    format: int
    origin: str
    licence: str
    models: msgspec.Raw

    @property
    def version(self) -> str:
        """The digest of the prices."""
        return f"sha256-{sha256(self.models).hexdigest()[:_VERSION_DIGITS]}"

    def entries(self) -> dict[str, msgspec.Raw]:
        """Return the still undecoded entry of each model."""
        return msgspec.json.decode(self.models, type=dict[str, msgspec.Raw])


def read_cost_map(text: bytes) -> dict[str, dict[str, Any]]:
    """Return the models of a cost map, numbers exact; CostMapError when it is none."""
    try:
        entries = _MAP_DECODER.decode(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise CostMapError(f"not a cost map: {error}") from error
    models = {key: entry for key, entry in entries.items() if key not in _NOT_MODELS}
    for key in models:
        if not 0 < len(key) <= MAX_KEY_TEXT or not key.isprintable():
            raise CostMapError(f"not a cost map: {key[:MAX_KEY_TEXT]!r} cannot be the name of a model")
    return models


def repeated_models(text: bytes) -> list[str]:
    """Return the models a map states more than once: JSON's readers, ours too, take the last of them."""
    seen: Counter[str] = Counter()

    def count(_: type, key: str) -> _Name:
        seen[key] += 1
        return _Name(key)

    # Only a hook for keys sees each of them: a dict has kept the last by then.
    msgspec.json.decode(text, type=dict[_Name, msgspec.Raw], dec_hook=count)
    return sorted(key for key, times in seen.items() if times > 1)


def make_snapshot(entries: dict[str, dict[str, Any]], *, origin: str, licence: str) -> tuple[bytes, ImportReport]:
    """Return the compressed snapshot and the report; equal maps give equal bytes. CostMapError names a bad entry."""
    compact = {key: _compact(key, entry) for key, entry in entries.items()}
    prices = [read_entry(key, entry) for key, entry in compact.items()]
    models = msgspec.Raw(_ENCODER.encode(compact))
    snapshot = Snapshot(format=SNAPSHOT_FORMAT, origin=origin, licence=licence, models=models)
    by_tokens = sum(price.is_priced_by_tokens for price in prices)
    by_other_units = sum(price.is_priced_by_other_units for price in prices)
    uncharged = _counted(key for entry in compact.values() for key in not_charged(entry))
    report = ImportReport(
        version=snapshot.version,
        models=len(prices),
        models_priced_by_tokens=by_tokens,
        models_priced_by_other_units=by_other_units,
        models_without_price=len(prices) - by_tokens - by_other_units,
        understood_keys=_counted(key for entry in compact.values() for key in entry if is_understood(key)),
        not_charged_keys={key: NotCharged(count, NOT_CHARGED[key]) for key, count in uncharged.items()},
        not_understood_keys=_counted(key for entry in compact.values() for key in not_understood(entry)),
    )
    # mtime=0: the time of making it is no part of a snapshot.
    return gzip.compress(_ENCODER.encode(snapshot), compresslevel=9, mtime=0), report


def read_snapshot(compressed: bytes) -> Snapshot:
    """Return a snapshot from its compressed form; CostMapError when it is damaged or of another format."""
    try:
        snapshot = msgspec.json.decode(gzip.decompress(compressed), type=Snapshot)
    except (OSError, EOFError, msgspec.MsgspecError) as error:
        raise CostMapError(f"not a price snapshot: {error}") from error
    if snapshot.format != SNAPSHOT_FORMAT:
        raise CostMapError(f"price snapshot of format {snapshot.format}, this program reads format {SNAPSHOT_FORMAT}")
    return snapshot


def decode_entry(raw: msgspec.Raw) -> dict[str, Any]:
    """Return one entry of a snapshot, numbers exact."""
    return _ENTRY_DECODER.decode(raw)


def _compact(model: str, entry: dict[str, Any]) -> dict[str, Any]:
    """Return what prices need of an entry; null says as little as a missing key."""
    try:
        return {
            key: _canonical(value)
            for key, value in entry.items()
            if value is not None and (key in _KEPT_KEYS or is_price_relevant(key))
        }
    except (ArithmeticError, RecursionError) as error:
        raise CostMapError(f"{model}: there is a number or a structure in it that no price has") from error


def _canonical(value: Any) -> Any:
    """Return the value with one spelling per number, so that 1.0e-6 and 0.000001 are the same content."""
    match value:
        case Decimal():
            # 1e999999999 would unfold into as many digits; what reads a price refuses it by its size.
            is_whole = value.adjusted() < _WHOLE_DIGITS and value == value.to_integral_value()
            return int(value) if is_whole else EXACT.normalize(value)
        case dict():
            return {key: _canonical(part) for key, part in value.items()}
        case list():
            return [_canonical(part) for part in value]
        case _:
            return value


def _counted(keys: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(keys).items()))
