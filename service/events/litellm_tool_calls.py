"""Reads what a call of an MCP tool costs by its server's own cost info, as the operator set it on the gateway. Pure."""

from decimal import Decimal
from typing import Final

import msgspec

from service.events.fields import EMPTY, decode_part, is_object, read_amount
from service.events.litellm_parts import Parts
from service.kit.money import ZERO

_PATH: Final = "metadata.mcp_tool_call_metadata"
_COSTS: Final = f"{_PATH}.mcp_server_cost_info"


class CostInfo(msgspec.Struct, frozen=True, gc=False):
    """USD per call: of any tool of the server, and of single ones."""

    default_cost_per_query: Decimal | None = None
    tool_name_to_cost_per_query: msgspec.Raw = EMPTY


class ToolCall(msgspec.Struct, frozen=True, gc=False):
    """Which tool was called, never with what arguments or result."""

    name: str | None = None
    mcp_server_cost_info: CostInfo | None = None


_TOOL_CALL = msgspec.json.Decoder(ToolCall)
_COST_BY_TOOL = msgspec.json.Decoder(dict[str, Decimal | None])


def read_tool_call_cost(parts: Parts) -> Decimal:
    """Return what the server's cost info says of the tool that was called; 0 without one."""
    raw = parts.metadata.mcp_tool_call_metadata
    if not is_object(raw):
        return ZERO
    call = decode_part(_TOOL_CALL, raw, _PATH)
    costs = call.mcp_server_cost_info
    if costs is None:
        return ZERO
    if is_object(costs.tool_name_to_cost_per_query):
        by_tool = decode_part(_COST_BY_TOOL, costs.tool_name_to_cost_per_query, f"{_COSTS}.tool_name_to_cost_per_query")
        stated = by_tool.get(call.name or "")
        if stated is not None:
            return read_amount(stated, f"{_COSTS}.tool_name_to_cost_per_query") or ZERO
    return read_amount(costs.default_cost_per_query, f"{_COSTS}.default_cost_per_query") or ZERO
