"""The first token: from TALLYGATE_ADMIN_TOKEN, or, where Tallygate runs its own engines, made once and left in a file.

There is at most one live bootstrap token. A changed variable revokes the former one; one that was revoked never comes
back, so that an old replica that restarts during a rollout cannot undo a rotation. An unset variable changes nothing.
"""

import os
from collections.abc import Container
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from psycopg import AsyncConnection

from service.access import repository
from service.access.repository import DEFAULT_TENANT
from service.access.tokens import (
    MAX_TOKEN_LENGTH,
    MIN_TOKEN_LENGTH,
    ROLES,
    TokenTerms,
    new_token_text,
    token_digest,
)
from service.access.trail import record_change, terms_of
from service.db.pools import PostgresPool, connected
from service.errors import InvalidInput
from service.kit.ids import new_id

ADMIN_TOKEN_VARIABLE = "TALLYGATE_ADMIN_TOKEN"  # noqa: S105  (its name, not its value)

BootstrapState = Literal["created", "current", "revoked", "missing"]

_AUTHOR = "start of a server"
_TERMS = TokenTerms(name="bootstrap", roles=ROLES, is_operator=True, is_bootstrap=True)


@dataclass(frozen=True, slots=True)
class BootstrapResult:
    """What was found or made; never the token itself.

    `created` and `current`: there is an admin token; `token_file` is set when the file holds it. `revoked`: the token
    of the variable or the file was revoked and stays so. `missing`: nobody can administer anything yet; set the
    variable or run `tallygate tokens create`.
    """

    state: BootstrapState
    token_file: Path | None = None


async def bootstrap(pool: PostgresPool, admin_token: str | None, token_file: Path | None) -> BootstrapResult:
    """See to the tenant `default` and the bootstrap token; safe in several processes at once.

    `token_file` is where to leave a token made here; None with external engines. Raises InvalidInput for a variable
    that cannot serve, Unavailable without a database.
    """
    if admin_token is not None:
        _check_admin_token(admin_token)
    async with connected(pool) as connection, connection.transaction():
        await repository.lock_bootstrap(connection)
        await repository.insert_tenant(connection, DEFAULT_TENANT, DEFAULT_TENANT)
        if admin_token is not None:
            return await _take_variable(connection, admin_token, token_file)
        if token_file is not None:
            return await _take_file(connection, token_file)
        has_admin = await repository.has_admin_token(connection)
        return BootstrapResult("current" if has_admin else "missing")


async def _take_variable(
    connection: AsyncConnection[Any], admin_token: str, token_file: Path | None
) -> BootstrapResult:
    digest = token_digest(admin_token)
    known = await repository.find_token_by_digest(connection, digest)
    if known is not None and not known.is_bootstrap:
        raise InvalidInput("This token was made for something else; choose another one.", field=ADMIN_TOKEN_VARIABLE)
    if known is not None:
        return BootstrapResult("current" if known.revoked_at is None else "revoked")
    for revoked in await repository.revoke_other_bootstrap_tokens(connection, digest):
        await record_change(
            connection, revoked.tenant_id, _AUTHOR, "token.revoked", revoked.token_id, terms_of(revoked), None
        )
    await _insert(connection, digest)
    if token_file is not None:
        _remove_stale_file(token_file, await repository.load_bootstrap_tokens(connection))
    return BootstrapResult("created")


async def _take_file(connection: AsyncConnection[Any], token_file: Path) -> BootstrapResult:
    bootstrap_tokens = await repository.load_bootstrap_tokens(connection)
    written = _read_token(token_file)
    live = [digest for digest, token in bootstrap_tokens.items() if token.revoked_at is None]
    if live:
        # The file may be gone: whoever moved its token to a safer place did well.
        is_in_file = written is not None and token_digest(written) in live
        return BootstrapResult("current", token_file if is_in_file else None)
    if bootstrap_tokens:
        return BootstrapResult("revoked")
    if written is None:
        written = new_token_text()
        _write_token(token_file, written)
    # Otherwise the server was killed between writing the file and the commit, or the database was made anew.
    await _insert(connection, token_digest(written))
    return BootstrapResult("created", token_file)


async def _insert(connection: AsyncConnection[Any], digest: str) -> None:
    row = await repository.insert_token(connection, DEFAULT_TENANT, new_id(), digest, _TERMS)
    await record_change(connection, DEFAULT_TENANT, _AUTHOR, "token.created", row.token_id, None, terms_of(row))


def _remove_stale_file(token_file: Path, bootstrap_tokens: Container[str]) -> None:
    """Remove the file when its token has just been revoked: a dead token in it would only mislead."""
    written = _read_token(token_file)
    if written is not None and token_digest(written) in bootstrap_tokens:
        token_file.unlink(missing_ok=True)


def _check_admin_token(token: str) -> None:
    is_sendable = all("!" <= character <= "~" for character in token)
    if not is_sendable or not MIN_TOKEN_LENGTH <= len(token) <= MAX_TOKEN_LENGTH:
        raise InvalidInput(
            f"An admin token has {MIN_TOKEN_LENGTH} to {MAX_TOKEN_LENGTH} visible ASCII characters without spaces.",
            field=ADMIN_TOKEN_VARIABLE,
        )


def _read_token(token_file: Path) -> str | None:
    """Return the token in the file; None when there is no file or nothing in it that could be one."""
    try:
        descriptor = os.open(token_file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, encoding="ascii", errors="replace") as file:
        text = file.read(MAX_TOKEN_LENGTH + 2).strip()
    with suppress(InvalidInput):
        _check_admin_token(text)
        return text
    return None


def _write_token(token_file: Path, token: str) -> None:
    """Write the file as new, readable by its owner only; a torn one of an earlier start is replaced."""
    token_file.unlink(missing_ok=True)
    descriptor = os.open(token_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        # The umask can only take away, and must not take the owner's own right to read.
        os.fchmod(descriptor, 0o600)
        file.write(f"{token}\n")
        file.flush()
        os.fsync(descriptor)
    _sync_directory(token_file.parent)


def _sync_directory(directory: Path) -> None:
    """Make the new name durable: the commit that follows is, and a token whose text is lost helps nobody."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
