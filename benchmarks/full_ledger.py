"""Fills a ledger with a day of charges: what was recorded already, again and again, with ids and people of its own."""

import time
from typing import Any

import psycopg

from service.ledger.totals import CORE_KEY, core_key_digest

_INSERTED_AT_ONCE = 50_000
_CORE = ", ".join(f'"{name}"' for name in CORE_KEY)
_MEASURES = (
    "requests", "failed_requests", "unpriced_requests", "input_tokens", "output_tokens", "cache_read_input_tokens",
    "cache_write_input_tokens", "reasoning_output_tokens", "cost_usd", "model_cost_usd", "fees_usd", "list_cost_usd",
    "enforced_usd",
)  # fmt: skip

_COPY_TEMPLATES = """
CREATE UNLOGGED TABLE template AS
SELECT row_number() OVER (ORDER BY charge_id) - 1 AS number, c.*
FROM charge AS c WHERE kind = 'usage' AND facts IS NOT NULL
"""
_INSERT_CHARGES = """
INSERT INTO charge ({columns})
SELECT {values}
FROM (SELECT n, n % 400 AS k, gen_random_uuid() AS id,
             %(start)s::timestamptz + n * (interval '23 hours' / %(count)s) AS at
      FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n) AS s
JOIN template AS t ON t.number = s.n %% (SELECT count(*) FROM template)
"""
_CHANGED = {
    "charge_id": "s.id",
    "event_id": "'bench-' || s.n",
    "request_id": "'call-' || s.n",
    "response_id": "'chatcmpl-' || s.n",
    "trace_id": "'trace-' || s.n",
    "session": "NULL",
    "reservation_id": "NULL",
    "occurred_at": "s.at",
    "received_at": "s.at",
    "effective_at": "s.at",
    "recorded_at": "now()",
    "api_key": "lpad(to_hex(s.k), 64, '0')",
    "team": "'team-' || s.k % 20",
    "user": "'user-' || s.k % 200",
}
_INSERT_KEYS = """
INSERT INTO event_key (tenant_id, source, event_id, fingerprint, fingerprint_version, charge_id, recorded_at)
SELECT tenant_id, source, event_id, sha256(event_id::bytea), 1, charge_id, recorded_at
FROM charge WHERE event_id LIKE 'bench-%'
"""
_SUMS = ", ".join(f"sum({name}) AS {name}" for name in _MEASURES)
_INSERT_TOTALS = f"""
INSERT INTO spend_total (tenant_id, bucket, key_digest, {_CORE}, {", ".join(_MEASURES)})
SELECT c.tenant_id, c.bucket, d.digest, {", ".join(f'c."{name}"' for name in CORE_KEY)}, {", ".join(_MEASURES)}
FROM (SELECT tenant_id, date_bin('15 minutes', effective_at, 'epoch') AS bucket, {_CORE}, {_SUMS}
      FROM charge WHERE event_id LIKE 'bench-%%' GROUP BY 1, 2, {_CORE}) AS c
JOIN digest AS d ON d.key = ROW({", ".join(f'c."{name}"' for name in CORE_KEY)})::text
ON CONFLICT (tenant_id, bucket, key_digest) DO UPDATE SET
    {", ".join(f"{name} = spend_total.{name} + excluded.{name}" for name in _MEASURES)}
"""
_INSERT_LABELS = f"""
INSERT INTO spend_label_total (tenant_id, bucket, label, value, {", ".join(_MEASURES)})
SELECT tenant_id, date_bin('15 minutes', effective_at, 'epoch'), label, value, {_SUMS}
FROM charge CROSS JOIN LATERAL (
    SELECT 'agent' AS label, agent AS value UNION ALL SELECT 'end_user', end_user
    UNION ALL SELECT 'tag', tag FROM unnest(tags) AS tag
) AS l
WHERE event_id LIKE 'bench-%%' AND value IS NOT NULL GROUP BY 1, 2, 3, 4
ON CONFLICT (tenant_id, bucket, label, value) DO UPDATE SET
    {", ".join(f"{name} = spend_label_total.{name} + excluded.{name}" for name in _MEASURES)}
"""


def fill_ledger(database_url: str, charges: int, start: float) -> None:
    """Multiply what was recorded to that many charges of the 23 hours from `start` on, with their keys and totals."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SET statement_timeout = 0")
        connection.execute(_COPY_TEMPLATES)
        columns = [row[0] for row in connection.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'charge' AND table_schema = 'public'"
        )]  # fmt: skip
        statement = (
            _INSERT_CHARGES.format(
                columns=", ".join(f'"{name}"' for name in columns),
                values=", ".join(_CHANGED.get(name, f't."{name}"') for name in columns),
            )
            .replace("n % 400", "n %% 400")
            .replace("s.k % ", "s.k %% ")
        )
        for first in range(0, charges, _INSERTED_AT_ONCE):
            last = min(first + _INSERTED_AT_ONCE, charges) - 1
            bounds = {"first": first, "last": last, "count": charges, "start": iso(start)}
            connection.execute(statement, bounds)
        connection.execute(_INSERT_KEYS)
        _insert_digests(connection)
        connection.execute(_INSERT_TOTALS.replace("%%", "%"))
        connection.execute(_INSERT_LABELS.replace("%%", "%"))
        connection.execute("DROP TABLE template, digest")
        connection.execute("VACUUM ANALYZE")


def _insert_digests(connection: psycopg.Connection[Any]) -> None:
    connection.execute("CREATE UNLOGGED TABLE digest (key text, digest bytea)")
    found = connection.execute(f"SELECT DISTINCT {_CORE}, ROW({_CORE})::text FROM charge WHERE event_id LIKE 'bench-%'")
    keys = found.fetchall()
    with connection.cursor() as cursor, cursor.copy("COPY digest FROM STDIN") as copy:
        for row in keys:
            copy.write_row((row[-1], core_key_digest(tuple(row[:-1]))))


def iso(instant: float) -> str:
    """Return an instant in text."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(instant))
