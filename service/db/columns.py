"""Column types every table uses the same way: aware timestamps, exact amounts, JSON."""

from typing import Any

from sqlalchemy import Column, Numeric, Text
from sqlalchemy import text as sql_text
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB, TIMESTAMP

# A quoted 'now()' would be evaluated once, when the table is made.
NOW = sql_text("now()")


def timestamp(*, nullable: bool = False, **options: Any) -> Column[Any]:
    """Return a timestamptz column."""
    return Column(TIMESTAMP(timezone=True), nullable=nullable, **options)


def amount(*, nullable: bool = False, **options: Any) -> Column[Any]:
    """Return an exact NUMERIC column without scale: nothing is rounded."""
    return Column(Numeric(), nullable=nullable, **options)


def text(*, nullable: bool = False, **options: Any) -> Column[Any]:
    """Return a text column."""
    return Column(Text(), nullable=nullable, **options)


def text_array(**options: Any) -> Column[Any]:
    """Return a text[] column that is never NULL."""
    return Column(ARRAY(Text()), nullable=False, server_default="{}", **options)


def jsonb(*, nullable: bool = False, **options: Any) -> Column[Any]:
    """Return a jsonb column, for documents that are searched or changed."""
    return Column(JSONB(), nullable=nullable, **options)


def json(*, nullable: bool = False, **options: Any) -> Column[Any]:
    """Return a json column, for documents that are written once and read whole."""
    return Column(JSON(), nullable=nullable, **options)
