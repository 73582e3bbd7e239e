"""What is read of LiteLLM's database: one snapshot, read only. Tables and columns it does not have are named.

Rows come as JSON texts, so that amounts keep the shortest text of their double and nothing fails as a whole.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import msgspec
import psycopg
from psycopg import AsyncConnection, sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import class_row

from service.errors import InvalidInput, Unavailable
from service.imports.gateway_config import SECTIONS
from service.imports.source_rows import (
    AgentRow,
    BudgetRow,
    Entities,
    KeyRow,
    LinkedRow,
    MemberRow,
    ModelRow,
    TeamRow,
    UserRow,
    WindowSpendRow,
    json_of,
)
from service.imports.spend_groups import SpendGroup
from service.redaction import redact_text

SPEND_LOGS: Final = "LiteLLM_SpendLogs"
_CONFIG: Final = "LiteLLM_Config"
_ROWS_AT_ONCE: Final = 2_000
_CONNECT_SECONDS: Final = 10
# Of the client LiteLLM uses, not of libpq.
_CLIENT_PARAMETERS: Final = frozenset(
    {"connection_limit", "pool_timeout", "pgbouncer", "statement_cache_size", "socket_timeout", "sslaccept",
     "sslidentity", "sslpassword", "schema"}
)  # fmt: skip
_SNAPSHOT: Final = (
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY",
    "SET LOCAL TIME ZONE 'UTC'",
    "SET LOCAL extra_float_digits = 1",
    "SET LOCAL statement_timeout = 0",
    "SET LOCAL idle_in_transaction_session_timeout = 0",
)
_COLUMNS: Final = """
SELECT column_name FROM information_schema.columns
WHERE table_name = %s AND table_schema = ANY (current_schemas(false))
"""

Columns = Mapping[str, str | tuple[str, str]]  # field -> column, or (column, expression over it)
Row = TypeVar("Row", bound=msgspec.Struct)

_RATES = "nullif(concat_ws(', ', {}), '')"
_OWN: Final[Columns] = {
    "max_budget": "max_budget",
    "budget_duration": "budget_duration",
    "budget_reset_at": "budget_reset_at",
    "spend": "spend",
    "model_max_budget": "model_max_budget",
}
_RATE_COLUMNS: Final = ("tpm_limit", "rpm_limit", "tpd_limit", "max_parallel_requests", "session_tpm_limit",
                        "session_rpm_limit")  # fmt: skip
_TABLES: Final[tuple[tuple[str, str, type[Any], Columns], ...]] = (
    ("budgets", "LiteLLM_BudgetTable", BudgetRow, {
        "budget_id": "budget_id", "max_budget": "max_budget", "soft_budget": "soft_budget",
        "budget_duration": "budget_duration", "budget_reset_at": "budget_reset_at",
        "model_max_budget": "model_max_budget", "temp_budget_increase": "temp_budget_increase",
        "temp_budget_expiry": "temp_budget_expiry",
    }),
    ("keys", "LiteLLM_VerificationToken", KeyRow, {
        **_OWN, "budget_limits": "budget_limits", "token": "token", "key_alias": "key_alias", "user_id": "user_id",
        "team_id": "team_id",
        "organization_id": "organization_id", "project_id": "project_id", "agent_id": "agent_id",
        "budget_id": "budget_id", "blocked": "blocked", "expires": "expires", "budget_fallbacks": "budget_fallbacks",
        "temp_budget_increase": ("metadata", "metadata ->> 'temp_budget_increase'"),
        "temp_budget_expiry": ("metadata", "metadata ->> 'temp_budget_expiry'"),
        "end_user_budget_id": ("metadata", "metadata ->> 'end_user_budget_id'"),
        "throttles": ("metadata", "metadata ->> 'throttle_on_budget_exceeded'"),
    }),
    ("teams", "LiteLLM_TeamTable", TeamRow, {
        **_OWN, "soft_budget": "soft_budget", "budget_limits": "budget_limits", "team_id": "team_id",
        "team_alias": "team_alias", "organization_id": "organization_id",
        "blocked": "blocked", "team_member_budget_id": ("metadata", "metadata ->> 'team_member_budget_id'"),
    }),
    ("users", "LiteLLM_UserTable", UserRow, {
        **_OWN,
        "user_id": "user_id", "user_alias": "user_alias", "user_email": "user_email",
    }),
    ("organizations", "LiteLLM_OrganizationTable", LinkedRow, {
        "id": "organization_id", "name": "organization_alias", "spend": "spend", "budget_id": "budget_id",
    }),
    ("projects", "LiteLLM_ProjectTable", LinkedRow, {
        "id": "project_id", "name": "project_alias", "spend": "spend", "budget_id": "budget_id",
        "blocked": "blocked", "team_id": "team_id",
    }),
    ("end_users", "LiteLLM_EndUserTable", LinkedRow, {
        "id": "user_id", "name": "alias", "spend": "spend", "budget_id": "budget_id", "blocked": "blocked",
    }),
    ("tags", "LiteLLM_TagTable", LinkedRow, {"id": "tag_name", "spend": "spend", "budget_id": "budget_id"}),
    ("access_groups", "LiteLLM_ModelAccessGroupBudgetTable", LinkedRow, {
        "id": "access_group_name", "spend": "spend", "budget_id": "budget_id",
    }),
    ("members", "LiteLLM_TeamMembership", MemberRow, {
        "user_id": "user_id", "team_id": "team_id", "spend": "spend", "budget_id": "budget_id",
    }),
    ("agents", "LiteLLM_AgentsTable", AgentRow, {
        "agent_id": "agent_id", "agent_name": "agent_name",
        "max_budget_per_session": ("litellm_params", "litellm_params ->> 'max_budget_per_session'"),
    }),
    ("models", "LiteLLM_ProxyModelTable", ModelRow, {
        "model_id": "model_id", "model_name": "model_name",
        "max_budget": ("litellm_params", "litellm_params ->> 'max_budget'"),
        "access_groups": ("model_info", "model_info -> 'access_groups'"),
    }),
    ("window_spends", "LiteLLM_BudgetWindowSpend", WindowSpendRow, {
        "entity_type": "entity_type", "entity_id": "entity_id", "window_duration": "window_duration",
        "window_start": "window_start", "spend": "spend",
    }),
)  # fmt: skip

# What groups of logs are made of: (field, column, expression).
_GROUPED: Final = (
    ("bucket", "startTime", 'floor(extract(epoch FROM "startTime") / 900)::bigint'),
    ("api_key", "api_key", "nullif(api_key, '')"),
    ("team", "team_id", "nullif(team_id, '')"),
    ("user", "user", "nullif(\"user\", '')"),
    ("organization", "organization_id", "nullif(organization_id, '')"),
    ("project", "metadata", "nullif(metadata ->> 'user_api_key_project_id', '')"),
    ("end_user", "end_user", "nullif(end_user, '')"),
    ("agent", "agent_id", "nullif(agent_id, '')"),
    # Only agents have limits per session; other sessions would make a group of nearly every call.
    ("session", "session_id", "CASE WHEN agent_id <> '' THEN nullif(session_id, '') END"),
    ("tags", "request_tags", "nullif(request_tags::text, '[]')"),
    ("requested_group", "metadata", "nullif(metadata ->> 'original_model_group', '')"),
    ("model_group", "model_group", "nullif(model_group, '')"),
    ("model", "model", "nullif(model, '')"),
    ("deployment_id", "model_id", "nullif(model_id, '')"),
    ("provider", "custom_llm_provider", "nullif(custom_llm_provider, '')"),
)
_SUMMED: Final = (
    ("calls", "request_id", "count(*)"),
    ("input_tokens", "prompt_tokens", "coalesce(sum(greatest(prompt_tokens, 0)), 0)::bigint"),
    ("output_tokens", "completion_tokens", "coalesce(sum(greatest(completion_tokens, 0)), 0)::bigint"),
)
# What is no amount would spoil every sum: NaN is above infinity here, and less than 1e-20 USD is nothing but digits.
_IS_AMOUNT: Final = "spend >= 1e-20 AND spend <= 1e12"
_ODD: Final = (
    "SELECT count(*) FILTER (WHERE spend < 0), count(*) FILTER (WHERE spend > 1e12),"
    ' min("startTime")::timestamp, count(*) FROM "LiteLLM_SpendLogs" WHERE "startTime" >= %s AND "startTime" < %s'
)


class LogFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What there is in the logs of a range: rows, those left out, the oldest."""

    rows: int = 0
    negative: int = 0
    not_finite: int = 0
    oldest: datetime | None = None


class Source:
    """One snapshot of a LiteLLM database."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self._connection = connection

    async def read_now(self) -> datetime:
        """Return the time of the snapshot, by the clock of that database."""
        row = await (await self._connection.execute("SELECT now()")).fetchone()
        assert row is not None
        now: datetime = row[0]
        return now.astimezone(UTC)

    async def read_entities(self, progress: Callable[[str, int], None]) -> Entities:
        """Return everything but the logs. `progress` hears of (table, rows)."""
        found = Entities(missing=[], unreadable=[])
        for attribute, table, form, columns in _TABLES:
            rows = await self._read_table(table, form, columns, found)
            setattr(found, attribute, rows)
            progress(table, len(rows))
        return found

    async def read_config(self) -> dict[str, Any]:
        """Return the sections of the configuration that the proxy keeps in its database."""
        if not {"param_name", "param_value"} <= await self._columns(_CONFIG):
            return {}
        statement = 'SELECT param_name, param_value::text FROM "LiteLLM_Config" WHERE param_name = ANY (%s)'
        cursor = await self._connection.execute(statement, (list(SECTIONS),))
        return {name: json_of(msgspec.Raw((text or "null").encode())) async for name, text in cursor}

    async def read_log_facts(self, start: datetime, end: datetime) -> LogFacts | None:
        """Return what there is in the spend logs of [start, end); None when there is no such table."""
        if not {"startTime", "spend"} <= await self._columns(SPEND_LOGS):
            return None
        row = await (await self._connection.execute(_ODD, (_naive(start), _naive(end)))).fetchone()
        assert row is not None
        negative, not_finite, oldest, rows = row
        return LogFacts(
            rows=rows, negative=negative, not_finite=not_finite, oldest=oldest and oldest.replace(tzinfo=UTC)
        )

    async def stream_groups(self, start: datetime, end: datetime) -> AsyncIterator[Sequence[SpendGroup]]:
        """Yield the spend logs of [start, end) summed up, some groups at a time; the same ones at every call."""
        columns = await self._columns(SPEND_LOGS)
        statement = _group_statement(columns)
        name = "tallygate_import"
        async with self._connection.cursor(name, row_factory=class_row(SpendGroup)) as cursor:
            await cursor.execute(statement, (_naive(start), _naive(end)))
            while rows := await cursor.fetchmany(_ROWS_AT_ONCE):
                yield rows

    async def _columns(self, table: str) -> frozenset[str]:
        cursor = await self._connection.execute(_COLUMNS, (table,))
        return frozenset([row[0] async for row in cursor])

    async def _read_table(self, table: str, form: type[Row], columns: Columns, found: Entities) -> list[Row]:
        present = await self._columns(table)
        if not present:
            found.missing.append(f"table {table}")
            return []
        fields, lacking = _fields(columns, present, form)
        found.missing += [f"column {table}.{column}" for column in lacking]
        statement = sql.SQL("SELECT row_to_json(r)::text FROM (SELECT {} FROM {}) AS r").format(
            fields, sql.Identifier(table)
        )
        decode = msgspec.json.Decoder(form, strict=False).decode
        rows: list[Row] = []
        async with self._connection.cursor("tallygate_import") as cursor:
            await cursor.execute(statement)
            while texts := await cursor.fetchmany(_ROWS_AT_ONCE):
                for (text,) in texts:
                    try:
                        rows.append(decode(text))
                    except (msgspec.DecodeError, RecursionError) as error:
                        found.unreadable.append(f"{table} row {len(rows) + 1}: {str(error)[:200]}")
        return sorted(rows, key=_sort_key)


@asynccontextmanager
async def open_source(database_url: str) -> AsyncIterator[Source]:
    """Open one read-only snapshot. Raises Unavailable, InvalidInput for an address that is none."""
    conninfo, schema = _conninfo(database_url)
    try:
        connection = await AsyncConnection.connect(conninfo, connect_timeout=_CONNECT_SECONDS, autocommit=True)
    except psycopg.Error as error:
        detail = redact_text(str(error).partition("\n")[0])
        raise Unavailable(f"The database of LiteLLM cannot be opened: {detail}") from error
    async with connection, connection.transaction():
        for statement in _SNAPSHOT:
            await connection.execute(statement)
        if schema is not None:
            await connection.execute(sql.SQL("SET LOCAL search_path = {}").format(sql.Identifier(schema)))
        yield Source(connection)


def _conninfo(database_url: str) -> tuple[str, str | None]:
    """Return the address without what only LiteLLM's own client understands, and the schema it names."""
    parts = urlsplit(database_url)
    schema: str | None = None
    if parts.scheme in {"postgres", "postgresql"}:
        query = parse_qsl(parts.query, keep_blank_values=True)
        schema = dict(query).get("schema")
        kept = [(name, value) for name, value in query if name not in _CLIENT_PARAMETERS]
        database_url = urlunsplit(parts._replace(query=urlencode(kept, quote_via=quote)))
    try:
        conninfo_to_dict(database_url)
    except psycopg.ProgrammingError as error:
        detail = "This is no address of a PostgreSQL database (postgresql://user:password@host:5432/name)."
        raise InvalidInput(detail, field="--database-url") from error
    return database_url, schema


def _fields(columns: Columns, present: frozenset[str], form: type[Any]) -> tuple[sql.Composable, list[str]]:
    """Return the list of what is selected, and the columns there are not."""
    selected: list[sql.Composable] = []
    lacking: list[str] = []
    for field, source in columns.items():
        column, expression = source if isinstance(source, tuple) else (source, None)
        if column not in present:
            lacking.append(column)
            continue
        value = sql.Identifier(column) if expression is None else sql.SQL(expression)
        selected.append(sql.SQL("{} AS {}").format(value, sql.Identifier(field)))
    if "rate_limits" in form.__struct_fields__:
        names = [name for name in _RATE_COLUMNS if name in present]
        parts = [
            sql.SQL("CASE WHEN {} IS NOT NULL THEN {} END").format(sql.Identifier(n), sql.Literal(n)) for n in names
        ]
        rates = sql.SQL(_RATES).format(sql.SQL(", ").join(parts)) if parts else sql.SQL("NULL")
        selected.append(sql.SQL("{} AS rate_limits").format(rates))
    return sql.SQL(", ").join(selected), sorted(set(lacking))


def _group_statement(present: frozenset[str]) -> sql.Composed:
    """Return the statement of the groups; a column there is not is NULL in all of them."""
    fields: list[sql.Composable] = []
    for field, column, expression in (*_GROUPED, *_SUMMED):
        is_there = column in present and (column != "session_id" or "agent_id" in present)
        value = expression if is_there else ("0" if (field, column, expression) in _SUMMED else "NULL::text")
        fields.append(sql.SQL("{} AS {}").format(sql.SQL(value), sql.Identifier(field)))
    fields.append(sql.SQL('max("startTime")::timestamp AS latest, sum(spend::text::numeric) AS amount_usd'))
    return sql.SQL(
        'SELECT {fields} FROM "LiteLLM_SpendLogs" WHERE "startTime" >= %s AND "startTime" < %s AND {amounts}'
        " GROUP BY {numbers}"
    ).format(
        fields=sql.SQL(", ").join(fields),
        amounts=sql.SQL(_IS_AMOUNT),
        numbers=sql.SQL(", ").join(sql.SQL(str(number + 1)) for number in range(len(_GROUPED))),
    )


def _naive(instant: datetime) -> datetime:
    """Return the instant as LiteLLM stores it: UTC without an offset, in whole milliseconds."""
    naive = instant.astimezone(UTC).replace(tzinfo=None)
    return naive.replace(microsecond=naive.microsecond // 1000 * 1000)


def _sort_key(row: msgspec.Struct) -> tuple[str, ...]:
    """Order rows by their ids, so that plans of the same content are the same."""
    names = ("token", "budget_id", "id", "team_id", "user_id", "agent_id", "model_id", "entity_id", "window_duration")
    return tuple(str(getattr(row, name, "")) for name in names)
