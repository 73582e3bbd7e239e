"""The wheel as somebody else gets it: built here, installed elsewhere, without the checkout."""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import psycopg
import pytest

from service.db import migrator

ROOT = Path(__file__).parents[3]

pytestmark = [pytest.mark.slow, pytest.mark.embedded]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", directory],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (built,) = directory.glob("tallygate-*.whl")
    return built


@pytest.fixture(scope="module")
def python_elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel; the dependencies are those of this one, our checkout is not."""
    home = tmp_path_factory.mktemp("elsewhere")
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    (site_packages,) = home.glob("lib/python*/site-packages")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site_packages]
    subprocess.run([*install, wheel], check=True)
    # A plain line adds a folder; its own .pth files, an editable Tallygate among them, are not read.
    (site_packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return python


def test_wheel_carries_everything_the_service_reads_at_run_time(python_elsewhere: Path):
    (installed,) = python_elsewhere.parents[1].glob("lib/python*/site-packages/service")
    of_checkout = {
        path.relative_to(ROOT / "service")
        for path in (ROOT / "service").rglob("*")
        if path.is_file() and not any(part.startswith((".", "__pycache__")) for part in path.parts)
    }
    of_wheel = {path.relative_to(installed) for path in installed.rglob("*") if path.is_file()}
    assert of_checkout <= of_wheel
    versions = {path.name for path in (ROOT / "alembic" / "versions").glob("*.py")}
    assert versions == {path.name for path in (installed / "db" / "migrations" / "versions").glob("*.py")}


def test_installed_wheel_migrates_a_database(python_elsewhere: Path, empty_database_url: str, redis_url: str):
    migrated = subprocess.run(
        [python_elsewhere, "-m", "service.cli", "migrate"],
        cwd="/",
        env={"TALLYGATE_DATABASE_URL": empty_database_url, "TALLYGATE_REDIS_URL": redis_url},
        check=False,
        capture_output=True,
        text=True,
    )
    assert migrated.returncode == 0, migrated.stderr
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (migrator.head_revision(),)


def test_code_that_ran_was_that_of_the_wheel(python_elsewhere: Path):
    shown = subprocess.run(
        [python_elsewhere, "-c", "import service; print(service.__file__)"],
        cwd="/",
        check=True,
        capture_output=True,
        text=True,
    )
    assert Path(shown.stdout.strip()).is_relative_to(python_elsewhere.parents[1])
