"""Keys without a database, for the proxies of the tests: `sk-<team>.<user>` belongs to that user of that team.

LiteLLM loads this file from beside the configuration and runs it in its own environment.
"""

from fastapi import Request
from litellm.proxy._types import UserAPIKeyAuth


async def who_asks(request: Request, api_key: str) -> UserAPIKeyAuth:
    """Return whose key it is."""
    del request
    team, _, user = api_key.removeprefix("sk-").partition(".")
    return UserAPIKeyAuth(
        api_key=api_key, team_id=team, user_id=user or None, org_id=f"org-of-{team}", project_id=f"project-of-{team}"
    )
