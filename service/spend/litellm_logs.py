"""LiteLLM's shapes of spend: a row per charge as in its SpendLogs, and its sums per day. Pure.

Numbers are JSON numbers there; ours are written digit by digit and never pass through a float.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import reduce
from typing import Annotated, Any
from uuid import UUID

import msgspec

from service.kit.money import EXACT, ZERO, format_amount
from service.pricing import rate_keys
from service.pricing.rating_result import Line
from service.spend.litellm_query import day_of
from service.spend.spend_answer import SpendAnswer
from service.spend.spend_query import SpendQuery

ExactNumber = Annotated[
    msgspec.Raw,
    msgspec.Meta(extra_json_schema={"description": "USD, every digit", "extra": {"type": "number"}}),
]

_OUTPUT_KINDS = frozenset(
    {
        rate_keys.TEXT_OUTPUT,
        rate_keys.REASONING,
        rate_keys.AUDIO_OUTPUT,
        rate_keys.IMAGE_OUTPUT,
        rate_keys.VIDEO_OUTPUT,
    }
)
_INPUT_KINDS = frozenset(rate_keys.TOKEN_KINDS) - _OUTPUT_KINDS

# A longer duration is no call's; added to a time it may leave the calendar.
_MAX_DURATION_MS = timedelta(days=400) // timedelta(milliseconds=1)


class CostBreakdown(msgspec.Struct, kw_only=True):
    """`additional_costs` are the fees by name; input and output are null where no price of tokens is known."""

    input_cost: ExactNumber | None
    output_cost: ExactNumber | None
    additional_costs: dict[str, ExactNumber]
    original_cost: ExactNumber
    total_cost: ExactNumber
    service_tier: str | None


class ModelMapInformation(msgspec.Struct, kw_only=True):
    """The gateway's own price key."""

    model_map_key: str | None


class PromptTokensDetails(msgspec.Struct, kw_only=True):
    """Parts of the prompt."""

    cached_tokens: int
    cache_creation_tokens: int


class CompletionTokensDetails(msgspec.Struct, kw_only=True):
    """Parts of the completion."""

    reasoning_tokens: int


class UsageObject(msgspec.Struct, kw_only=True):
    """Tokens as LiteLLM counts them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails


class ChargeReference(msgspec.Struct, kw_only=True):
    """What the row is in the ledger; `/v1/charges/{charge_id}` explains it."""

    charge_id: UUID
    kind: str
    corrects_charge_id: UUID | None
    requested_model: str | None
    deployment: str | None
    served_model: str | None
    price_key: str | None
    price_book_version: str
    price_state: str
    fees_price_state: str
    effective_at: datetime
    recorded_at: datetime


class SpendLogMetadata(msgspec.Struct, kw_only=True):
    """The keys of LiteLLM's metadata that a ledger knows, and ours under `tallygate`."""

    user_api_key: str | None
    user_api_key_user_id: str | None
    user_api_key_team_id: str | None
    user_api_key_org_id: str | None
    user_api_key_project_id: str | None
    status: str
    usage_object: UsageObject
    model_map_information: ModelMapInformation
    cost_breakdown: CostBreakdown
    tallygate: ChargeReference


class SpendLog(msgspec.Struct, kw_only=True, rename={"started_at": "startTime", "ended_at": "endTime"}):
    """One charge as a row of SpendLogs.

    `model` is the model that served (where it is not known: the deployment, else the requested name), `model_group` the
    requested one. A reversal or correction is a row of its own, so that rows add up to the spend.
    """

    request_id: str
    call_type: str
    api_key: str
    spend: ExactNumber
    total_tokens: int
    prompt_tokens: int
    completion_tokens: int
    started_at: datetime
    ended_at: datetime
    request_duration_ms: int | None
    model: str
    model_id: str
    model_group: str
    custom_llm_provider: str
    api_base: str = ""
    user: str
    metadata: SpendLogMetadata
    cache_hit: str
    cache_key: str = ""
    request_tags: list[str]
    team_id: str | None
    organization_id: str | None
    end_user: str | None
    agent_id: str | None
    requester_ip_address: str | None = None
    messages: dict[str, str] = {}
    response: dict[str, str] = {}
    session_id: str | None
    status: str
    litellm_call_id: str | None


class DailySpend(msgspec.Struct, kw_only=True, rename={"day": "startTime"}):
    """The spend of one day (UTC), by user and by model; the empty name is what has none."""

    day: date
    spend: ExactNumber
    users: dict[str, ExactNumber]
    models: dict[str, ExactNumber]


_decode_lines = msgspec.json.Decoder(list[Line], strict=False).decode
_decode_quantities = msgspec.json.Decoder(dict[str, int]).decode


def exact_number(amount: Decimal) -> msgspec.Raw:
    """Return a JSON number of every digit of an amount."""
    return msgspec.Raw(format_amount(amount).encode())


def shown_model(served: str | None, deployment: str | None, requested: str | None) -> str:
    """Return what LiteLLM calls `model`: the served one; only where it is not known a name that stands for it."""
    return served or deployment or requested or ""


def spend_log(row: Mapping[str, Any]) -> SpendLog:
    """Return the row of SpendLogs of a charge, read with its documents."""
    usage = _usage(row)
    duration = row["duration_ms"]
    return SpendLog(
        request_id=row["response_id"] or row["request_id"] or row["event_id"],
        call_type=row["call_type"],
        api_key=row["api_key"] or "",
        spend=exact_number(row["cost_usd"]),
        total_tokens=usage.total_tokens,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        started_at=row["occurred_at"],
        ended_at=row["occurred_at"] + timedelta(milliseconds=min(duration or 0, _MAX_DURATION_MS)),
        request_duration_ms=duration,
        model=shown_model(row["served_model"], row["deployment"], row["requested_model"]),
        model_id=row["deployment_id"] or "",
        model_group=row["requested_model"] or "",
        custom_llm_provider=row["provider"] or "",
        user=row["user"] or "",
        metadata=_metadata(row, usage),
        cache_hit=str(row["is_cache_hit"]),
        request_tags=[*row["tags"], *row["automatic_tags"]],
        team_id=row["team"],
        organization_id=row["organization"],
        end_user=row["end_user"],
        agent_id=row["agent"],
        session_id=row["session"] or row["trace_id"],
        status=row["status"],
        litellm_call_id=row["request_id"],
    )


def _usage(row: Mapping[str, Any]) -> UsageObject:
    # Nobody bought the tokens of a cache hit: the ledger keeps them apart, LiteLLM shows them.
    unbought = _decode_quantities(row["quantities"])
    prompt = row["input_tokens"] + unbought.get("cache_hit_input_tokens", 0)
    completion = row["output_tokens"] + unbought.get("cache_hit_output_tokens", 0)
    return UsageObject(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        prompt_tokens_details=PromptTokensDetails(
            cached_tokens=row["cache_read_input_tokens"], cache_creation_tokens=row["cache_write_input_tokens"]
        ),
        completion_tokens_details=CompletionTokensDetails(reasoning_tokens=row["reasoning_output_tokens"]),
    )


def _metadata(row: Mapping[str, Any], usage: UsageObject) -> SpendLogMetadata:
    return SpendLogMetadata(
        user_api_key=row["api_key"],
        user_api_key_user_id=row["user"],
        user_api_key_team_id=row["team"],
        user_api_key_org_id=row["organization"],
        user_api_key_project_id=row["project"],
        status=row["status"],
        usage_object=usage,
        model_map_information=ModelMapInformation(model_map_key=row["gateway_price_key"]),
        cost_breakdown=_breakdown(row),
        tallygate=msgspec.convert({name: row[name] for name in ChargeReference.__struct_fields__}, ChargeReference),
    )


def _breakdown(row: Mapping[str, Any]) -> CostBreakdown:
    components = _decode_lines(row["components"])
    # An unpriced model has no lines; zeros would make it look free.
    is_priced = row["price_state"] != "unpriced"
    has_directions = is_priced and all(line.name in rate_keys.TOKEN_KINDS for line in components)
    additional = _sums((line.name, line.amount_usd) for line in _decode_lines(row["fees"]))
    return CostBreakdown(
        input_cost=_cost_of(components, _INPUT_KINDS) if has_directions else None,
        output_cost=_cost_of(components, _OUTPUT_KINDS) if has_directions else None,
        additional_costs=additional,
        original_cost=exact_number(row["list_cost_usd"]),
        total_cost=exact_number(row["cost_usd"]),
        service_tier=row["service_tier"],
    )


def _cost_of(lines: Iterable[Line], kinds: frozenset[str]) -> msgspec.Raw:
    return exact_number(_total(line.amount_usd for line in lines if line.name in kinds))


def _total(amounts: Iterable[Decimal]) -> Decimal:
    return reduce(EXACT.add, amounts, ZERO)


def _sums(amounts: Iterable[tuple[str, Decimal]]) -> dict[str, ExactNumber]:
    totals: dict[str, Decimal] = defaultdict(lambda: ZERO)
    for name, amount in amounts:
        totals[name] = EXACT.add(totals[name], amount)
    return {name: exact_number(total) for name, total in totals.items()}


def daily_spend(query: SpendQuery, answer: SpendAnswer) -> list[DailySpend]:
    """Return the days with spend and, as LiteLLM does, the empty days after the last of them."""
    by_bucket: dict[int, list[tuple[dict[str, Any], Decimal]]] = defaultdict(list)
    for row in answer.rows:
        assert row.bucket is not None
        by_bucket[row.bucket].append((row.groups, row.measures["spend_usd"]))
    if not by_bucket:
        return []
    trailing = range(max(by_bucket) + 1, len(query.starts))
    return [_day(query.starts[bucket], by_bucket[bucket]) for bucket in (*sorted(by_bucket), *trailing)]


def _day(start: datetime, groups: list[tuple[dict[str, Any], Decimal]]) -> DailySpend:
    return DailySpend(
        day=day_of(start),
        spend=exact_number(_total(spend for _, spend in groups)),
        users=_sums((group["user"] or "", spend) for group, spend in groups),
        models=_sums(
            (shown_model(group["served_model"], group["deployment"], group["requested_model"]), spend)
            for group, spend in groups
        ),
    )
