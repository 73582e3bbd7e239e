"""Where the engines' Unix sockets lie: below the data directory, or, where that cannot be, in a short private place."""

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from service.db.embedded.account import Account
from service.db.embedded.failure import EngineFailed

# Linux takes 107 bytes, macOS 103.
MAX_SOCKET_PATH_BYTES = 103
_LONGEST_SOCKET_NAME = ".s.PGSQL.5432"


def socket_directory(data_dir: Path, account: Account) -> Path:
    """Return a directory of mode 0700 that belongs to the account and whose socket paths fit; make it if need be."""
    if _fits(data_dir / "run") and account.can_reach(data_dir):
        directory = data_dir / "run"
        directory.mkdir(mode=0o700, exist_ok=True)
        account.own(directory)
        return directory
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
    for parent in (Path(tempfile.gettempdir()), Path("/tmp")):  # noqa: S108 - owner and type are checked below
        directory = parent / f"tallygate-{account.uid}-{digest}"
        if _fits(directory) and account.can_reach(parent):
            return _private_directory(directory, account)
    raise EngineFailed(
        f"a Unix socket below {data_dir} would have a path of more than {MAX_SOCKET_PATH_BYTES} bytes or be out of "
        f"reach of user id {account.uid}, and so would one below {tempfile.gettempdir()}: "
        "choose another TALLYGATE_DATA_DIR"
    )


def _fits(directory: Path) -> bool:
    return len(os.fsencode(directory / _LONGEST_SOCKET_NAME)) <= MAX_SOCKET_PATH_BYTES


def _private_directory(directory: Path, account: Account) -> Path:
    """The place is writable for everybody: take the directory only when it is one, and is ours."""
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        status = directory.lstat()
        is_private = stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o077
        if not is_private or status.st_uid not in {account.uid, os.geteuid()}:
            raise EngineFailed(
                f"{directory} exists and is not a private directory of user id {account.uid}: remove it, "
                "or choose another TALLYGATE_DATA_DIR"
            ) from None
    account.own(directory)
    return directory
