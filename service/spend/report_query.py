"""What an analyst asks of a report over charges: groups, range, conditions, page. Parsed from query parameters; pure.

Rows are ordered by a weight (how much is at stake), heaviest first; a page goes on after the weight and the digest of
the group it ended with.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from hashlib import blake2b

import msgspec

from service.errors import InvalidInput
from service.kit.pagination import decode_cursor, encode_cursor, invalid_cursor, page_limit
from service.kit.parameters import Parameters, refuse_unknown
from service.ledger.filters import (
    FIELDS,
    Condition,
    TimeRange,
    parse_conditions,
    parse_range,
    scope_conditions,
    single,
)

# A charge and its reversal agree in these, so that they cancel each other in every answer; in `kind` they do not, and
# the state is what these reports are about.
REPORT_FIELDS = tuple(name for name in FIELDS if name not in {"kind", "price_state", "event_id", "request_id"})

_WEIGHT = re.compile(r"[0-9]{1,60}(\.[0-9]{1,300})?")
_DIGEST = re.compile(r"[0-9a-f]{32}")


class ReportPosition(msgspec.Struct, frozen=True):
    """Where a page ends: the next one begins after this group."""

    weight: Decimal
    group_digest: str


class ReportQuery(msgspec.Struct, frozen=True, kw_only=True):
    """One question. `options`: what the report takes beside filters and page, as it was asked."""

    group_by: tuple[str, ...]
    time_range: TimeRange
    conditions: tuple[Condition, ...]
    options: tuple[str, ...]
    limit: int
    after: ReportPosition | None


def parse_report_query(
    parameters: Parameters,
    scope: Mapping[str, Sequence[str]],
    now: datetime,
    *,
    group_by: tuple[str, ...],
    options: Mapping[str, str],
) -> ReportQuery:
    """Return the question of a reader's parameters. `options` maps the further parameters to what was understood.

    Raises InvalidInput naming the parameter.
    """
    refuse_unknown(parameters, (*REPORT_FIELDS, "from", "to", "limit", "cursor", *options))
    cursor = single(parameters, "cursor")
    page = None if cursor is None else _decode_page(cursor)
    query = ReportQuery(
        group_by=group_by,
        time_range=parse_range(parameters, now, first_page=page.time_range if page else None),
        conditions=(*parse_conditions(parameters), *scope_conditions(scope)),
        options=tuple(options.values()),
        limit=page_limit(single(parameters, "limit")),
        after=page.after if page else None,
    )
    if page is not None and page.digest != _digest(query):
        raise invalid_cursor()
    return query


def parse_group_by(parameters: Parameters, known: Sequence[str], default: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names to group by, with commas between them or repeated. Raises InvalidInput (`unknown_value`)."""
    texts = parameters.get("group_by", ())
    names = tuple(dict.fromkeys(name.strip() for text in texts for name in text.split(",") if name.strip()))
    for name in names:
        if name not in known:
            raise InvalidInput(
                f"Cannot group by {name[:100]!r} here; these can be grouped by: {', '.join(known)}.",
                code="unknown_value",
                field="group_by",
            )
    return names or default


def report_cursor(query: ReportQuery, position: ReportPosition) -> str:
    """Return the cursor of the page after this group."""
    time_range = query.time_range
    instants = (time_range.start.isoformat(), time_range.end.isoformat())
    return encode_cursor([_digest(query), *instants, format(position.weight, "f"), position.group_digest])


class _Page(msgspec.Struct, frozen=True):
    digest: str
    time_range: TimeRange
    after: ReportPosition


def _digest(query: ReportQuery) -> str:
    """Return what ties a cursor to its question: all of it but the page."""
    question = msgspec.structs.replace(query, after=None, limit=0)
    return blake2b(msgspec.json.encode(question), digest_size=9).hexdigest()


def _decode_page(cursor: str) -> _Page:
    digest, start, end, weight, group_digest = decode_cursor(cursor, length=5)
    try:
        time_range = TimeRange(datetime.fromisoformat(start), datetime.fromisoformat(end))
        is_known = _WEIGHT.fullmatch(weight) is not None and _DIGEST.fullmatch(group_digest) is not None
    except (TypeError, ValueError) as error:
        raise invalid_cursor() from error
    if time_range.start.tzinfo is None or time_range.end.tzinfo is None or not isinstance(digest, str) or not is_known:
        raise invalid_cursor()
    return _Page(digest, time_range, ReportPosition(Decimal(weight), group_digest))
