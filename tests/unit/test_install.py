"""scripts/install.py: what a fresh machine is told."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def install() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tallygate_install", ROOT / "scripts" / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_missing_ensurepip_is_told_with_the_package_to_install(install: ModuleType, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(SystemExit, match=r"apt-get install python3\.\d+-venv"):
        install.refuse_python_without_ensurepip()


def test_old_python_without_a_newer_one_is_told_what_to_do(install: ModuleType, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(install, "OLDEST", (9, 99))
    with pytest.raises(SystemExit, match=r"needs Python >= 3\.11"):
        install.use_a_recent_python()


def test_environment_is_made_anew_only_when_what_it_depends_on_changed(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    for name in ("requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_text("one")
    monkeypatch.setattr(install, "ROOT", str(tmp_path))
    monkeypatch.setattr(install, "LOCK", str(tmp_path / "requirements.lock"))
    before = install.fingerprint()
    assert install.fingerprint() == before
    (tmp_path / "requirements.lock").write_text("two")
    assert install.fingerprint() != before
