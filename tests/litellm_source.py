"""A LiteLLM database for tests: its real tables, filled by hand, with what the proxy would have written there."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from service.kit.clock import utc_now
from tests.conftest import EngineUrls, fresh_database

TABLES = Path(__file__).parent / "data" / "litellm" / "tables.sql"


def token_of(name: str) -> str:
    """Return the hash LiteLLM keeps of a key."""
    return sha256(f"sk-{name}".encode()).hexdigest()


def naive(instant: datetime) -> datetime:
    """Return an instant as LiteLLM stores it."""
    return instant.astimezone(UTC).replace(tzinfo=None)


def next_month(instant: datetime) -> datetime:
    """Return when LiteLLM resets a budget of 30d next, in UTC."""
    first = instant.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (first + timedelta(days=32)).replace(day=1)


def next_day(instant: datetime) -> datetime:
    """Return when LiteLLM resets a budget of 1d next, in UTC."""
    return instant.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


class LiteLLMDatabase:
    """Writes rows; what is not stated has the default of the column."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.now = utc_now()
        self._numbers = count(1)

    def insert(self, table: str, **values: Any) -> None:
        adapted = {name: Jsonb(value) if isinstance(value, dict) else value for name, value in values.items()}
        statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
            sql.Identifier(f"LiteLLM_{table}"),
            sql.SQL(", ").join(map(sql.Identifier, adapted)),
            sql.SQL(", ").join(sql.Placeholder() * len(adapted)),
        )
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement, list(adapted.values()))

    def execute(self, statement: str, *parameters: Any) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement, parameters)

    def budget(self, budget_id: str, **values: Any) -> str:
        """Add a row of budgets; with a duration it is reset at the end of the month unless said otherwise."""
        if values.get("budget_duration") == "30d":
            values.setdefault("budget_reset_at", naive(next_month(self.now)))
        self.insert(
            "BudgetTable", budget_id=budget_id, created_by="t", updated_by="t", updated_at=naive(self.now), **values
        )
        return budget_id

    def key(self, name: str, **values: Any) -> str:
        if values.get("budget_duration") == "30d":
            values.setdefault("budget_reset_at", naive(next_month(self.now)))
        self.insert("VerificationToken", token=token_of(name), key_alias=name, models=[], **values)
        return token_of(name)

    def team(self, team_id: str, **values: Any) -> None:
        if values.get("budget_duration") == "30d":
            values.setdefault("budget_reset_at", naive(next_month(self.now)))
        self.insert("TeamTable", team_id=team_id, admins=[], members=[], models=[], **values)

    def user(self, user_id: str, **values: Any) -> None:
        if values.get("budget_duration") == "30d":
            values.setdefault("budget_reset_at", naive(next_month(self.now)))
        self.insert("UserTable", user_id=user_id, models=[], **values)

    def log(self, spend: float, *, at: datetime | None = None, **values: Any) -> None:
        """Add a row of spend logs: by default of a call that began when this database was made."""
        started = at or self.now
        defaults: dict[str, Any] = {
            "request_id": f"chatcmpl-{next(self._numbers)}",
            "call_type": "acompletion",
            "model": "gpt-4.1-mini",
            "model_group": "gpt-4.1-mini",
            "custom_llm_provider": "openai",
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "status": "success",
            "startTime": naive(started),
            "endTime": naive(started),
            "request_tags": Jsonb([]),
        }
        if "request_tags" in values:
            values["request_tags"] = Jsonb(values["request_tags"])
        self.insert("SpendLogs", spend=spend, **(defaults | values))


@contextmanager
def litellm_database(engines: EngineUrls) -> Iterator[LiteLLMDatabase]:
    """A database of its own with LiteLLM's tables, dropped afterwards."""
    with fresh_database(engines) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(TABLES.read_text())
        yield LiteLLMDatabase(url)
