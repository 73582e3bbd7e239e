"""`make bench ARGS=reprice`: a day of charges priced anew by a server that takes events and answers checks meanwhile.

The charges are those of captured calls, spread over a day, 400 keys, 200 users and 20 teams, and counted in four
budgets. A price override and a fee change nearly all of them, so each becomes two rows more. BENCH_CHARGES says how
many.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from benchmarks import events, report
from benchmarks.full_ledger import fill_ledger, iso
from benchmarks.probe import ProbePlan, ProbeResult, Probing
from benchmarks.serving import TOKEN, free_port, serving
from service.db.embedded import EmbeddedEngines

_CHARGES = int(os.environ.get("BENCH_CHARGES", "20000"))
_SECONDS = float(os.environ.get("BENCH_SECONDS", "8"))
_PROBES = ("5 events, 20 times a second", "a check, 50 times a second")
_LONG_AGO = "2020-01-01T00:00:00Z"


@dataclass
class Watched:
    """What was seen of a server while something went on: seconds, and its resident memory in MiB."""

    seconds: float
    memory_mib: list[float]

    def __str__(self) -> str:
        quarter = max(1, len(self.memory_mib) // 4)
        first, last = self.memory_mib[:quarter], self.memory_mib[-quarter:]
        peaks = (max(first), max(last), max(self.memory_mib))
        return "{:.0f} MiB in its first quarter, {:.0f} MiB in its last, peak {:.0f} MiB".format(*peaks)


class _MemoryWatch:
    """Samples the resident memory of a server: of its process and, if it has some, its Python children."""

    def __init__(self, process_id: int) -> None:
        self._process_id = process_id
        self._stop = threading.Event()
        self.samples: list[float] = []
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            self.samples.append(_resident_mib(self._process_id))
            if self._stop.wait(0.5):
                return


def _resident_mib(process_id: int) -> float:
    place = Path(f"/proc/{process_id}")
    if b"python" not in place.joinpath("cmdline").read_bytes().partition(b"\0")[0]:
        return 0.0
    line = next(line for line in place.joinpath("status").read_text().splitlines() if line.startswith("VmRSS"))
    children = place.joinpath("task", str(process_id), "children").read_text().split()
    return int(line.split()[1]) / 1024 + sum(_resident_mib(int(child)) for child in children)


class _Api:
    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}"

    def call(self, method: str, path: str, body: object = None) -> Any:
        request = urllib.request.Request(  # noqa: S310 - our own server
            self._base + path,
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310 - same
            return json.loads(answer.read() or b"null")

    def wait(self, path: str, is_so: Callable[[Any], bool]) -> Any:
        while not is_so(found := self.call("GET", path)):
            time.sleep(0.25)
        return found


def _prepare(api: _Api, database_url: str, charges: int) -> None:
    captured = [json.loads(path.read_text("utf-8")) for path in sorted(events.CAPTURED.parent.glob("*.json"))]
    calls = [one for body in captured for one in (body if isinstance(body, list) else [body]) if one]
    now = time.time()
    recent = [one | {"startTime": now - 90, "endTime": now - 89} for one in calls if "startTime" in one]
    for first in range(0, len(recent), 20):
        api.call("POST", "/v1/events?results=none", recent[first : first + 20])
    started = time.monotonic()
    fill_ledger(database_url, charges, now - 23.5 * 3600)
    report.row("charges made", f"{charges:,}", f"{time.monotonic() - started:.0f} s")
    started = time.monotonic()
    for body in events.budget_bodies():
        api.call("POST", "/v1/budgets", body | {"period": {"kind": "lifetime"}})
    for body in events.budget_bodies():
        api.wait(f"/v1/budgets/{body['slug']}", lambda budget: budget["state"] == "current")
    report.row("four budgets seeded from them", "", f"{time.monotonic() - started:.0f} s")
    rates = {"input_cost_per_token": {"factor": "0.9"}, "output_cost_per_token": {"factor": "0.9"}}
    rule = {"name": "contract", "match": {}, "rates": rates, "effective_from": _LONG_AGO}
    api.call("POST", "/v1/price-overrides", rule)
    fee = {"name": "platform", "match": {}, "kind": "usd_per_request", "amount": "0.0001", "effective_from": _LONG_AGO}
    api.call("POST", "/v1/fees", fee)


def _reprice(api: _Api, process_id: int, *, applies: bool) -> tuple[dict[str, Any], Watched]:
    now = time.time()
    body = {"from": iso(now - 86_400), "to": iso(now), "apply": applies}
    with _MemoryWatch(process_id) as watch:
        started = time.monotonic()
        answer = api.call("POST", "/v1/repricings", body)
        answer = api.wait(f"/v1/repricings/{answer['id']}", lambda repricing: repricing["state"] != "running")
        seconds = time.monotonic() - started
    assert answer["state"] == "done", answer
    return answer, Watched(seconds, watch.samples)


def _beside(name: str, before: ProbeResult, during: ProbeResult) -> None:
    for percentile in ("p50_ms", "p99_ms"):
        without, meanwhile = getattr(before, percentile), getattr(during, percentile)
        times = f"{without:.1f} ms without it, {meanwhile:.1f} ms"
        report.row(f"{name}, {percentile[:3]} meanwhile", f"{meanwhile / without:.1f}x", times)
    failures = before.failures + during.failures
    report.row(f"{name}, sent meanwhile", f"{during.requests:,}", f"{failures} FAILED" if failures else "none failed")


def _check_drift(environment: dict[str, str]) -> str:
    command = [sys.executable, "-m", "service.cli", "check-drift"]
    ended = subprocess.run(command, env=os.environ | environment, check=False, capture_output=True, text=True)
    if ended.returncode != 0:
        raise SystemExit(ended.stdout + ended.stderr)
    return ended.stdout.strip()


def _measure(port: int, process_id: int, database_url: str, directory: Path, environment: dict[str, str]) -> None:
    api = _Api(port)
    report.title(f"A day of {_CHARGES:,} charges priced anew, events and checks going on meanwhile")
    _prepare(api, database_url, _CHARGES)
    bodies, checks = directory / "bodies", directory / "checks"
    events.write_bodies(bodies, bodies=400, events_per_body=5, now=time.time(), seed=7)
    events.write_checks(checks, bodies=4_000, seed=8)
    plans = (
        ProbePlan(port, "/v1/events?results=none", str(bodies), 20),
        ProbePlan(port, "/v1/check", str(checks), 50),
    )
    with Probing(plans) as probing:
        time.sleep(_SECONDS)
    before = probing.results()

    preview, watched = _reprice(api, process_id, applies=False)
    report.row(
        "preview, charges/s", f"{preview['progress']['examined'] / watched.seconds:,.0f}", f"{watched.seconds:.1f} s"
    )
    report.row("  resident memory of the server", "", str(watched))
    with Probing(plans) as probing:
        applied, watched = _reprice(api, process_id, applies=True)
    during = probing.results()
    progress = applied["progress"]
    report.row("applied, charges/s", f"{progress['examined'] / watched.seconds:,.0f}", f"{watched.seconds:.1f} s")
    report.row("  examined / corrected", f"{progress['changed']:,}", f"of {progress['examined']:,}")
    report.row("  resident memory of the server", "", str(watched))
    for name, without, meanwhile in zip(
        ("5 events, 20 times a second", "a check, 50 times a second"), before, during, strict=True
    ):
        _beside(name, without, meanwhile)
    again, watched = _reprice(api, process_id, applies=True)
    report.row("applied again, corrected", f"{again['progress']['changed']:,}", f"{watched.seconds:.1f} s")
    print(_check_drift(environment))


def main() -> None:
    """Run it once."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="tg-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        environment = {
            "TALLYGATE_DATA_DIR": str(directory / "data"),
            "TALLYGATE_PORT": str(port),
            "TALLYGATE_ADMIN_TOKEN": TOKEN,
            "TALLYGATE_LOG_ACCESS": "false",
        }
        command = [sys.executable, "-m", "service.cli", "serve"]
        with serving(command, port, "/health/ready", environment) as process_id:
            running = EmbeddedEngines.running_urls(directory / "data")
            assert running is not None
            assert running.database_url is not None
            _measure(port, process_id, running.database_url, directory, environment)


if __name__ == "__main__":
    main()
