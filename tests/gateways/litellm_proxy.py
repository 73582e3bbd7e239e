"""A real LiteLLM proxy, run with a configuration of deploy/gateways/litellm and the models of the tests' provider."""

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any, Self

import httpx
import psutil
import yaml

from tests.faults.server_process import free_port
from tests.faults.waiting import until
from tests.gateways.gateway_processes import ROOT

RECIPE = ROOT / "deploy/gateways/litellm"
PLACE = ROOT / ".gateways/litellm"
MASTER_KEY = "sk-master-of-the-gateway-tests-0123456789abcdef"
READY_SECONDS = 120.0

# Name a client asks for -> model sent to the provider, and how the provider behaves.
MODELS = {
    "quick": ("openai/gpt-4.1-mini", "answers"),
    "dear": ("openai/gpt-4.1", "answers"),
    "unsteady": ("openai/gpt-4.1", "fails"),
    "reserve": ("openai/gpt-4.1-mini", "waits"),
    "broken": ("openai/gpt-4.1-mini", "fails"),
    "slow": ("openai/gpt-4.1-mini", "waits"),
    "breaking": ("openai/gpt-4.1-mini", "breaks"),
    "router": ("azure_ai/model_router/model-router", "answers"),
    "embedder": ("openai/text-embedding-3-small", "answers"),
    "wild/*": ("openai/*", "answers"),
    "any-*": ("*", "answers"),
}
FALLBACKS = [{"unsteady": ["quick"]}, {"slow-unsteady": ["reserve"]}, {"dear": ["quick"]}]


def write_configuration(recipe: str, home: Path, provider: int) -> None:
    """Fill a recipe with the models of the tests, and lay what it names beside it."""
    configuration: dict[str, Any] = yaml.safe_load((RECIPE / recipe).read_text())
    models = MODELS | {"slow-unsteady": ("openai/gpt-4.1", "fails")}
    configuration["model_list"] = [
        {
            "model_name": name,
            "litellm_params": {
                "model": model,
                "api_base": f"http://127.0.0.1:{provider}/{behaviour}/v1",
                "api_key": "sk-of-the-provider",
            },
        }
        for name, (model, behaviour) in models.items()
    ]
    # Two deployments of one group, a dear and a cheap one; of a pattern, one by the name asked for and a cheap one.
    pairs = {"either": ("openai/gpt-4.1", "openai/gpt-4.1-mini"), "some-*": ("*", "openai/gpt-4.1-mini")}
    configuration["model_list"] += [
        {
            "model_name": name,
            "litellm_params": {
                "model": model,
                "api_base": f"http://127.0.0.1:{provider}/answers/v1",
                "api_key": "sk-of-the-provider",
            },
        }
        for name, models_of_it in pairs.items()
        for model in models_of_it
    ]
    configuration["router_settings"] = {"fallbacks": FALLBACKS, "num_retries": 0, "disable_cooldowns": True}
    configuration["general_settings"] |= {"custom_auth": "identities.who_asks"}
    (home / "config.yaml").write_text(yaml.safe_dump(configuration))
    shutil.copy(RECIPE / "tallygate_litellm.py", home)
    shutil.copy(ROOT / "tests/gateways/litellm/identities.py", home)


class LiteLLMProxy:
    """One proxy with its workers, in a process group of its own."""

    def __init__(
        self, home: Path, provider: int, *, recipe: str = "config.yaml", workers: int = 1, **variables: str
    ) -> None:
        self.home = home
        self.port = free_port()
        self._workers = workers
        self._variables = variables
        self._process: subprocess.Popen[bytes] | None = None
        home.mkdir()
        write_configuration(recipe, home, provider)
        self.client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=30)

    @property
    def spool(self) -> Path:
        return self.home / "tallygate-spool"

    def start(self) -> Self:
        assert (PLACE / "bin/litellm").exists(), "LiteLLM is not installed: `make test-gateways` does it"
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        environment = inherited | {
            "LITELLM_MASTER_KEY": MASTER_KEY,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_TELEMETRY": "False",
            "PYTHONUNBUFFERED": "1",
            "NO_PROXY": "127.0.0.1",
        }
        command = [str(PLACE / "bin/litellm"), "--config", "config.yaml", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--num_workers", str(self._workers)]
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.home,
                env=environment | self._variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    async def ready(self) -> Self:
        async def answers() -> bool:
            assert self._running.poll() is None, self.log()
            try:
                return (await self.client.get("/health/liveliness")).status_code == httpx.codes.OK
            except httpx.TransportError:
                return False

        await until(answers, "LiteLLM is ready", deadline_seconds=READY_SECONDS, pause=0.1)
        return self

    def log(self) -> str:
        return (self.home / "log").read_text(errors="replace")

    def workers(self) -> list[int]:
        """Return the processes that serve, or that supervise those that do."""
        parent = psutil.Process(self._running.pid)
        return [child.pid for child in parent.children(recursive=True)]

    def kill(self) -> None:
        """End every process at once."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def terminate(self) -> None:
        """Ask the proxy to end, and wait until it did."""
        self._running.terminate()
        self._running.wait(30)

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the proxy was not started"
        return self._process

    async def chat(self, key: str, model: str, **fields: Any) -> httpx.Response:
        return await self.client.post("/v1/chat/completions", headers=as_client(key), json=call(model, **fields))


def as_client(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def call(model: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": "a secret question"}]} | fields
