"""Checks that count in 1, 4 or 8 budgets, and those budgets: a check's project says how many it counts in."""

import json
import random
from pathlib import Path
from typing import Any

TEAMS, USERS, KEYS = 20, 200, 400
NUMBERS_OF_BUDGETS = (1, 4, 8)

MONTH = {"kind": "calendar", "unit": "month", "timezone": "UTC"}
# What each further budget tells apart beside the project; the keys are those of `events`, which are known.
_EACH = (
    ("user",),
    (),
    ("team",),
    ("api_key",),
    ("organization",),
    ("end_user",),
    ("agent",),
    ("team", "user"),
)


def budget_bodies(numbers: tuple[int, ...] = NUMBERS_OF_BUDGETS) -> list[dict[str, Any]]:
    """Return the budgets: so many for the project of each number."""
    return [
        {
            "slug": f"{_project(number)}-{position}",
            "name": f"{_project(number)}, {' and '.join(each) or 'shared'}",
            "match": {"project": _project(number)} | dict.fromkeys(each, "*"),
            "limit_usd": "1000000",
            "period": MONTH,
        }
        for number in numbers
        for position, each in enumerate(_EACH[:number])
    ]


def check_body(name: str, key: int, budgets: int, input_tokens: int = 1200) -> dict[str, Any]:
    """Return a check of a request of its own that counts in so many budgets."""
    return {
        "request_id": name,
        "reserve": True,
        "ttl_seconds": 60,
        "dimensions": {
            "organization": "the-company",
            "team": f"team-{key % TEAMS}",
            "project": _project(budgets),
            "user": f"user-{key % USERS}",
            "api_key": f"{key:064x}",
            "end_user": f"customer-{key}",
            "agent": "support",
        },
        "model": "gpt-4.1-mini",
        "input_tokens": input_tokens,
        "max_output_tokens": 800,
    }


def write_checks(path: Path, *, bodies: int, seed: str, budgets: int, first_key: int = 0, keys: int = KEYS) -> None:
    """Write one check per line; the keys are `keys` from `first_key` on, at random."""
    chance = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for number in range(bodies):
            key = first_key + chance.randrange(keys)
            # No two calls are of one length: what is remembered of a call must not be its whole price.
            body = check_body(f"check-{seed}-{number}", key, budgets, chance.randrange(1_000, 10_000))
            file.write(json.dumps(body) + "\n")


def _project(budgets: int) -> str:
    return f"in-{budgets}"
