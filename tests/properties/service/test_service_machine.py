"""Fault 31: the state machine over the whole service; a short run each time, a long one by `make soak`.

TALLYGATE_TEST_SEED replays the rounds of a run that failed; TALLYGATE_TEST_SOAK_MINUTES is how long a soak lasts.
"""

import asyncio
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from random import Random
from secrets import randbits
from time import monotonic

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from service.app import create_app
from service.settings import CheckSettings, IngestSettings, LogSettings, Settings
from tests.api.checks.world import World
from tests.app_client import running_client
from tests.properties.service.losses import losing_publishers
from tests.properties.service.machine import ServiceMachine, Stage

SOAK_MINUTES = float(os.environ.get("TALLYGATE_TEST_SOAK_MINUTES", "0"))
FIRST_SEED = int(os.environ.get("TALLYGATE_TEST_SEED", "0")) or randbits(32)
EXAMPLES, STEPS = 12, 20
WALKS, WALKED_STEPS = 3, 120
SOAK_WALKED_STEPS = 1_000


@pytest.fixture(scope="module")
def stage_settings(settings: Settings) -> Settings:
    # What is promised exactly is promised while the engines answer in time, and these machines are busy.
    patient = {"checks": CheckSettings(deadline_ms=5_000), "ingest": IngestSettings(publish_wait_ms=5_000)}
    return settings.model_copy(update=patient | {"logs": LogSettings(level="error", access=False)})


@contextmanager
def _stage(stage_settings: Settings) -> Iterator[Stage]:
    with asyncio.Runner() as runner, losing_publishers() as losses:
        stack = AsyncExitStack()
        worlds = []
        try:
            for _ in range(2):
                app = create_app(stage_settings)
                client = runner.run(stack.enter_async_context(running_client(app)))
                worlds.append(World(app.state.services, client, ""))
            yield Stage(runner, worlds, losses)
        finally:
            runner.run(stack.aclose())


def _run(stage: Stage, with_seed: int, *, walks: int, walked_steps: int) -> None:
    """Let Hypothesis find short runs, then walk far."""
    print(f"TALLYGATE_TEST_SEED={with_seed}", flush=True)  # noqa: T201
    machine = seed(with_seed)(type("Machine", (ServiceMachine,), {"stage": stage}))
    chosen = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        # A failing run is short enough to be read as it is; shrinking it would take minutes.
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=chosen)
    for number in range(walks):
        walker = machine()
        walker.walk(Random(with_seed + number), walked_steps)
        walker.teardown()


def test_whatever_happens_in_whatever_order_the_ledger_and_the_counters_are_sound(stage_settings: Settings):
    with _stage(stage_settings) as stage:
        _run(stage, FIRST_SEED, walks=WALKS, walked_steps=WALKED_STEPS)


@pytest.mark.skipif(not SOAK_MINUTES, reason="a soak takes as long as it is told to: make soak")
def test_for_as_long_as_it_is_told_to(stage_settings: Settings):
    ends_at = monotonic() + 60 * SOAK_MINUTES
    rounds = 0
    with _stage(stage_settings) as stage:
        while monotonic() < ends_at:
            _run(stage, FIRST_SEED + 1_000 * rounds, walks=1, walked_steps=SOAK_WALKED_STEPS)
            rounds += 1
    print(f"{rounds} rounds")  # noqa: T201
