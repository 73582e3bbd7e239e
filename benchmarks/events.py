"""Bodies of events for the load generator: one captured event, again and again, each with ids and users of its own."""

import json
import random
from pathlib import Path
from typing import Any

CAPTURED = Path(__file__).parent.parent / "tests" / "data" / "plain_chat.json"

_TEAMS, _USERS, _KEYS = 20, 200, 400


def write_bodies(path: Path, *, bodies: int, events_per_body: int, now: float, seed: int) -> None:
    """Write one body per line: a JSON array of that many distinct events of about 14 kB, of all keys in turn."""
    chance = random.Random(seed)
    event: dict[str, Any] = json.loads(CAPTURED.read_text("utf-8"))[0]
    with path.open("w", encoding="utf-8") as file:
        for body in range(bodies):
            numbers = range(body * events_per_body, (body + 1) * events_per_body)
            events = [_distinct(event, f"{seed}-{n}", n % _KEYS, now - chance.random() * 60) for n in numbers]
            file.write(json.dumps(events) + "\n")


def _distinct(event: dict[str, Any], name: str, key: int, started: float) -> dict[str, Any]:
    metadata = event["metadata"] | {
        "user_api_key_hash": f"{key:064x}",
        "user_api_key_team_id": f"team-{key % _TEAMS}",
        "user_api_key_user_id": f"user-{key % _USERS}",
    }
    return event | {
        "id": f"chatcmpl-{name}",
        "litellm_call_id": f"call-{name}",
        "trace_id": f"trace-{name}",
        "startTime": started,
        "endTime": started + 1,
        "metadata": metadata,
    }


def budget_bodies() -> list[dict[str, Any]]:
    """Return four budgets that every one of these events falls into."""
    month = {"kind": "calendar", "unit": "month", "timezone": "UTC"}
    matches: dict[str, dict[str, str]] = {
        "everything": {},
        "each-team": {"team": "*"},
        "each-user": {"user": "*"},
        "each-key": {"api_key": "*"},
    }
    return [
        {"slug": slug, "name": slug, "match": match, "limit_usd": "1000000", "period": month}
        for slug, match in matches.items()
    ]


def write_checks(path: Path, *, bodies: int, seed: int) -> None:
    """Write one check per line, each of a request of its own, matching all four budgets."""
    chance = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for number in range(bodies):
            key = chance.randrange(_KEYS)
            body = {
                "request_id": f"check-{seed}-{number}",
                "reserve": True,
                "ttl_seconds": 60,
                "dimensions": {
                    "team": f"team-{key % _TEAMS}",
                    "user": f"user-{key % _USERS}",
                    "api_key": f"{key:064x}",
                },
                "model": "gpt-4.1-mini",
                "input_tokens": 1200,
                "max_output_tokens": 800,
            }
            file.write(json.dumps(body) + "\n")
