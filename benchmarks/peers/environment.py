"""The environment the peers live in: made once, and again when their lock or this Python changes."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_VENV = _ROOT / ".venv-peers"
_LOCK = Path(__file__).parent / "requirements.lock"
_STAMP = _VENV / ".installed"


def peers_python() -> Path:
    """Return the Python of .venv-peers, after installing what the lock names if that is not done yet."""
    python = _VENV / "bin" / "python"
    wanted = hashlib.sha256(f"{_VENV}\n{sys.version}\n".encode() + _LOCK.read_bytes()).hexdigest()
    if _STAMP.exists() and _STAMP.read_text("ascii") == wanted:
        return python
    print("Installing litellm and genai-prices into .venv-peers: once, and again when their lock changes.", flush=True)
    shutil.rmtree(_VENV, ignore_errors=True)
    _run(sys.executable, "-m", "venv", str(_VENV))
    pip = (str(python), "-m", "pip", "--disable-pip-version-check", "--quiet")
    _run(*pip, "install", "--require-hashes", "--requirement", str(_LOCK))
    _STAMP.write_text(wanted, "ascii")
    return python


def _run(*command: str) -> None:
    if subprocess.run(command, check=False).returncode != 0:
        raise SystemExit("The peers could not be installed; the lines above say why.")
