"""Tells the person at the terminal when the server is ready, where the admin token lies, and what to type first."""

import http.client
import json
import sys
import threading
from collections.abc import Callable
from importlib import metadata
from types import TracebackType
from typing import Self

import click

from service.access.bootstrap import BootstrapResult
from service.errors import TallygateError
from service.kit.clock import monotonic
from service.settings import HttpSettings

_POLL_SECONDS = 0.1
_PATIENCE_SECONDS = 15.0


class ReadyNotice:
    """A thread that asks for readiness until it is there, says so once, and ends."""

    def __init__(
        self, settings: HttpSettings, token: BootstrapResult | None, make_token: Callable[[], BootstrapResult]
    ) -> None:
        """`make_token` is called once the server is ready, when there is no `token` yet."""
        self._host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - its meaning
        self._port = settings.port
        self._token = token
        self._make_token = make_token
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._announce, name="ready-notice", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()

    @property
    def address(self) -> str:
        """Return where a client on this machine reaches the server."""
        return f"http://{f'[{self._host}]' if ':' in self._host else self._host}:{self._port}"

    def _announce(self) -> None:
        warn_at = monotonic() + _PATIENCE_SECONDS
        while not self._stopping.wait(_POLL_SECONDS):
            obstacle = self._obstacle()
            if obstacle is None:
                self._say_ready()
                return
            if monotonic() > warn_at:
                click.echo(f"tallygate: not ready yet: {obstacle}", err=True)
                warn_at = monotonic() + _PATIENCE_SECONDS

    def _say_ready(self) -> None:
        try:
            click.echo(ready_text(self.address, self._token or self._make_token()))
            sys.stdout.flush()
        except TallygateError as error:
            click.echo(f"tallygate: no admin token: {error.detail}", err=True)

    def _obstacle(self) -> str | None:
        """Return what readiness waits for; None when the server is ready."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=5)
        try:
            connection.request("GET", "/health/ready", headers={"connection": "close"})
            response = connection.getresponse()
            answer = response.read()
            if response.status == http.client.OK:
                return None
            return "; ".join(check["detail"] for check in json.loads(answer)["checks"] if not check["passed"])
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            return str(error) or type(error).__name__
        finally:
            connection.close()


def ready_text(address: str, token: BootstrapResult) -> str:
    """Return the notice: the address, where the admin token lies, and a first event to try."""
    head = f"\nTallygate {metadata.version('tallygate')} is ready on {address}  (API pages: {address}/docs)\n"
    if token.token_file is not None:
        return f"{head}Admin token: {token.token_file}\n{_first_steps(address, f'$(cat {token.token_file})')}"
    match token.state:
        case "created" | "current":
            return f"{head}{_first_steps(address, '<admin token>')}"
        case "revoked":
            return f"{head}The admin token given was revoked and stays so: set another TALLYGATE_ADMIN_TOKEN.\n"
        case "missing":
            return f"{head}There is no admin token yet: set TALLYGATE_ADMIN_TOKEN or run `tallygate tokens create`.\n"


def _first_steps(address: str, token: str) -> str:
    return f"""
Post an event, then ask who spent what on which model:

  TOKEN="{token}"
  curl -s {address}/v1/events -H "Authorization: Bearer $TOKEN" -d '{{"id": "first-'$(date +%s)'",
    "call_type": "acompletion", "status": "success", "model": "gpt-4o-mini", "custom_llm_provider": "openai",
    "model_group": "gpt-4o-mini", "startTime": '$(date +%s)', "endTime": '$(date +%s)',
    "prompt_tokens": 1200, "completion_tokens": 300, "total_tokens": 1500,
    "metadata": {{"user_api_key_team_id": "core", "user_api_key_user_id": "ada"}}}}'
  curl -s "{address}/v1/spend?group_by=team,served_model" -H "Authorization: Bearer $TOKEN"

Ctrl-C stops it.
"""
