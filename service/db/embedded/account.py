"""Which account the engines run as: ourselves, or, PostgreSQL refusing to run as root, an unprivileged one."""

import os
import pwd
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.db.embedded.failure import EngineFailed

# `tallygate` where the administrator made one; `nobody` exists everywhere. initdb wants a passwd entry.
_UNPRIVILEGED_NAMES = ("tallygate", "nobody")


@dataclass(frozen=True, slots=True)
class Account:
    """The user and group of the engines; `switched` when they are not our own."""

    uid: int
    gid: int
    switched: bool

    def popen_options(self) -> dict[str, Any]:
        """Return what `subprocess` needs to start a child as this account."""
        if not self.switched:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def own(self, directory: Path) -> None:
        """Make a directory that we have just created, or that is ours already, this account's alone."""
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if self.switched:
                os.fchown(descriptor, self.uid, self.gid)
            os.fchmod(descriptor, 0o700)
        finally:
            os.close(descriptor)

    def can_reach(self, directory: Path) -> bool:
        """Tell, by trying, whether this account may enter the directory (modes, ACLs and mounts included)."""
        if not self.switched:
            return os.access(directory, os.X_OK)
        attempt = subprocess.run(
            ["/bin/sh", "-c", 'cd -- "$1"', "sh", str(directory)],
            cwd="/",
            check=False,
            capture_output=True,
            **self.popen_options(),
        )
        return attempt.returncode == 0


def engine_account(postgres_directory: Path) -> Account:
    """Return the account for this data: the owner of what is there already, so that a second start finds it."""
    uid, gid = os.geteuid(), os.getegid()
    owner = postgres_directory.stat() if postgres_directory.exists() else None
    if uid != 0:
        if owner is not None and owner.st_uid != uid:
            raise EngineFailed(
                f"{postgres_directory} belongs to user id {owner.st_uid} and this is user id {uid}: "
                "start as that user (or as root), or choose another TALLYGATE_DATA_DIR"
            )
        return Account(uid, gid, switched=False)
    if sys.platform != "linux":
        raise EngineFailed("the embedded engines run as an ordinary user on this system, not as root")
    if owner is not None and owner.st_uid != 0:
        return Account(owner.st_uid, owner.st_gid, switched=True)
    return _unprivileged_account()


def _unprivileged_account() -> Account:
    for name in _UNPRIVILEGED_NAMES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid, switched=True)
    raise EngineFailed(
        "PostgreSQL does not run as root and there is no unprivileged account: create a user named 'tallygate'"
    )
