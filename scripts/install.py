"""Makes .venv what requirements.lock and pyproject.toml say; does nothing when it is already.

Standard library only, and readable by any Python 3: it says what is missing instead of failing on its own syntax.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys

OLDEST = (3, 11)
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
VENV_PYTHON = os.path.join(VENV, "bin", "python")
STAMP = os.path.join(VENV, ".installed")
LOCK = os.path.join(ROOT, "requirements.lock")


def main():
    use_a_recent_python()
    wanted = fingerprint()
    if is_installed(wanted):
        return
    refuse_python_without_ensurepip()
    print("Installing into .venv from requirements.lock: once, and again when the lock changes.", flush=True)
    make_venv()
    pip("install", "--require-hashes", "-r", LOCK)
    pip("install", "--no-deps", "--no-build-isolation", "--editable", ROOT)
    with open(STAMP, "w", encoding="ascii") as stamp:
        stamp.write(wanted)


def use_a_recent_python():
    if sys.version_info >= OLDEST:
        return
    for minor in range(20, OLDEST[1] - 1, -1):
        newer = shutil.which("python3.{}".format(minor))
        if newer and subprocess.call([newer, "-c", ""], stderr=subprocess.DEVNULL) == 0:
            os.execv(newer, [newer, *sys.argv])  # noqa: S606 - the same script, by a newer Python
    found = "{}.{}".format(*sys.version_info)
    stop("Tallygate needs Python >= 3.11, and python3 is {}. Name another: make PYTHON=python3.12 run".format(found))


def fingerprint():
    """What .venv depends on: the two files, the interpreter, and the place (an editable install remembers it)."""
    digest = hashlib.sha256("{}\n{}\n".format(ROOT, sys.version).encode())
    for name in (LOCK, os.path.join(ROOT, "pyproject.toml")):
        with open(name, "rb") as content:
            digest.update(content.read())
    return digest.hexdigest()


def is_installed(wanted):
    if not os.path.exists(STAMP):
        return False
    with open(STAMP, encoding="ascii") as stamp:
        return stamp.read() == wanted and subprocess.call([VENV_PYTHON, "-c", ""], stderr=subprocess.DEVNULL) == 0


def refuse_python_without_ensurepip():
    if importlib.util.find_spec("ensurepip") is None:
        stop(
            "This Python has no ensurepip, which makes virtual environments. On Debian and Ubuntu install it with\n"
            "  apt-get install python{}.{}-venv".format(*sys.version_info)
        )


def make_venv():
    if os.path.exists(VENV):
        shutil.rmtree(VENV)
    if subprocess.call([sys.executable, "-m", "venv", VENV]) != 0:
        stop("The virtual environment .venv could not be made; the lines above say why.")


def pip(*arguments):
    command = [VENV_PYTHON, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    if subprocess.call(command, cwd=ROOT) != 0:
        stop("pip could not install; the lines above say why. Run the same command again to go on.")


def stop(message):
    sys.exit("tallygate: " + message)


if __name__ == "__main__":
    main()
