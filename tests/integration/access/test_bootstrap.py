# ruff: noqa: ASYNC240 — a file of one line, in a test, may be read while nobody waits
import asyncio
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.access import repository
from service.access.bootstrap import BootstrapResult, bootstrap
from service.access.directory import CallerDirectory
from service.access.service import TokenService
from service.access.tokens import ROLES, Caller, TokenTerms, token_digest
from service.audit.repository import AuditFilter
from service.audit.service import AuditTrail
from service.db import migrator
from service.db.pools import PostgresPool, make_postgres_pool
from service.errors import InvalidInput, Unauthenticated
from service.settings import PostgresSettings
from tests.integration.access.conftest import Clock

FIRST = "tg_first-0123456789"
SECOND = "tg_second-0123456789"


@pytest.fixture
async def own_pool(empty_database_url: str) -> AsyncIterator[PostgresPool]:
    """An installation that was never started."""
    migrator.upgrade(empty_database_url)
    pool = make_postgres_pool(empty_database_url, PostgresSettings(pool_min_connections=1, pool_max_connections=4))
    await pool.open()
    yield pool
    await pool.close()


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    return tmp_path / "admin-token"


async def caller_of(pool: PostgresPool, token: str) -> Caller:
    directory = CallerDirectory(pool, clock=Clock())
    return await directory.get_caller(token_digest(token))


async def is_valid(pool: PostgresPool, token: str) -> bool:
    try:
        await caller_of(pool, token)
    except Unauthenticated:
        return False
    return True


async def live_bootstrap_tokens(pool: PostgresPool) -> int:
    async with pool.connection() as connection:
        tokens = await repository.load_bootstrap_tokens(connection)
    return sum(token.revoked_at is None for token in tokens.values())


async def test_the_first_start_leaves_an_operators_token_in_a_file_only_its_owner_can_read(
    own_pool: PostgresPool, token_file: Path
) -> None:
    assert await bootstrap(own_pool, None, token_file) == BootstrapResult("created", token_file)
    assert stat.S_IMODE(token_file.stat().st_mode) == 0o600
    caller = await caller_of(own_pool, token_file.read_text().strip())
    assert (caller.tenant_id, caller.roles, caller.is_operator) == ("default", frozenset(ROLES), True)


async def test_a_second_start_changes_nothing(own_pool: PostgresPool, token_file: Path) -> None:
    await bootstrap(own_pool, None, token_file)
    written = token_file.read_text()
    assert await bootstrap(own_pool, None, token_file) == BootstrapResult("current", token_file)
    assert token_file.read_text() == written
    assert await live_bootstrap_tokens(own_pool) == 1


async def test_whoever_moves_the_token_out_of_the_file_keeps_it(own_pool: PostgresPool, token_file: Path) -> None:
    await bootstrap(own_pool, None, token_file)
    token = token_file.read_text().strip()
    token_file.unlink()
    assert await bootstrap(own_pool, None, token_file) == BootstrapResult("current", None)
    assert not token_file.exists()
    assert await is_valid(own_pool, token)


async def test_a_start_killed_between_file_and_commit_is_made_good_by_the_next(
    own_pool: PostgresPool, token_file: Path
) -> None:
    token_file.write_text(f"{FIRST}\n")
    assert await bootstrap(own_pool, None, token_file) == BootstrapResult("created", token_file)
    assert await is_valid(own_pool, FIRST)


async def test_a_file_torn_by_a_crash_is_written_anew(own_pool: PostgresPool, token_file: Path) -> None:
    token_file.write_text("tg_")
    token_file.chmod(0o644)
    assert (await bootstrap(own_pool, None, token_file)).state == "created"
    assert stat.S_IMODE(token_file.stat().st_mode) == 0o600
    assert await is_valid(own_pool, token_file.read_text().strip())


async def test_a_file_behind_a_link_is_not_followed(own_pool: PostgresPool, token_file: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text(f"{FIRST}\n")
    token_file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        await bootstrap(own_pool, None, token_file)
    assert not await is_valid(own_pool, FIRST)


async def test_a_failed_write_leaves_no_token_behind(own_pool: PostgresPool, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        await bootstrap(own_pool, None, tmp_path / "missing" / "admin-token")
    assert await live_bootstrap_tokens(own_pool) == 0


async def test_the_variable_takes_the_place_of_the_file(own_pool: PostgresPool, token_file: Path) -> None:
    assert await bootstrap(own_pool, FIRST, token_file) == BootstrapResult("created")
    assert not token_file.exists()
    assert (await caller_of(own_pool, FIRST)).is_operator
    assert await bootstrap(own_pool, FIRST, token_file) == BootstrapResult("current")


async def test_setting_the_variable_later_revokes_the_token_of_the_file_and_removes_it(
    own_pool: PostgresPool, token_file: Path
) -> None:
    await bootstrap(own_pool, None, token_file)
    written = token_file.read_text().strip()
    await bootstrap(own_pool, FIRST, token_file)
    assert not await is_valid(own_pool, written)
    assert not token_file.exists()


async def test_changing_the_variable_revokes_the_former_token_for_good(own_pool: PostgresPool) -> None:
    await bootstrap(own_pool, FIRST, None)
    assert (await bootstrap(own_pool, SECOND, None)).state == "created"
    assert not await is_valid(own_pool, FIRST)
    assert await is_valid(own_pool, SECOND)
    # An old replica restarts in the middle of a rollout.
    assert (await bootstrap(own_pool, FIRST, None)).state == "revoked"
    assert not await is_valid(own_pool, FIRST)
    assert await is_valid(own_pool, SECOND)


async def test_a_rotation_is_heard_by_servers_that_run(own_pool: PostgresPool, empty_database_url: str) -> None:
    await bootstrap(own_pool, FIRST, None)
    async with asyncio.timeout(10), await own_pool.getconn() as listener:
        await listener.execute(f"LISTEN {repository.TOKEN_CHANNEL}")
        await bootstrap(own_pool, SECOND, None)
        heard = {notice.payload async for notice in listener.notifies(stop_after=2)}
    assert heard == {token_digest(FIRST), token_digest(SECOND)}


async def test_an_unset_variable_changes_nothing(own_pool: PostgresPool, token_file: Path) -> None:
    await bootstrap(own_pool, FIRST, None)
    assert (await bootstrap(own_pool, None, None)).state == "current"
    assert await bootstrap(own_pool, None, token_file) == BootstrapResult("current", None)
    assert await is_valid(own_pool, FIRST)
    assert not token_file.exists()


async def test_other_tokens_outlive_a_rotation(own_pool: PostgresPool) -> None:
    await bootstrap(own_pool, FIRST, None)
    other = await TokenService(own_pool).create("default", TokenTerms(name="gateway", roles=("ingest",)), None)
    await bootstrap(own_pool, SECOND, None)
    assert await is_valid(own_pool, other.text)


async def test_a_bootstrap_token_an_operator_revoked_stays_revoked(own_pool: PostgresPool, token_file: Path) -> None:
    await bootstrap(own_pool, None, token_file)
    token = token_file.read_text().strip()
    await TokenService(own_pool).revoke("default", (await caller_of(own_pool, token)).token_id, None)
    assert (await bootstrap(own_pool, None, token_file)).state == "revoked"
    assert not await is_valid(own_pool, token)


async def test_external_engines_without_variable_and_token_are_told_of(own_pool: PostgresPool) -> None:
    assert (await bootstrap(own_pool, None, None)).state == "missing"
    await TokenService(own_pool).create("default", TokenTerms(name="admin", roles=("admin",)), None)
    assert (await bootstrap(own_pool, None, None)).state == "current"


async def test_a_token_made_for_something_else_cannot_become_the_bootstrap_token(own_pool: PostgresPool) -> None:
    await bootstrap(own_pool, FIRST, None)
    other = await TokenService(own_pool).create("default", TokenTerms(name="gateway", roles=("ingest",)), None)
    with pytest.raises(InvalidInput) as refused:
        await bootstrap(own_pool, other.text, None)
    assert refused.value.field == "TALLYGATE_ADMIN_TOKEN"
    assert other.text not in refused.value.detail
    assert await is_valid(own_pool, FIRST)


@pytest.mark.parametrize("value", ["short", "with a space in it all", "umlautä-0123456789", "x" * 513, "a\n" * 10])
async def test_a_variable_nobody_could_send_is_refused_without_repeating_it(own_pool: PostgresPool, value: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        await bootstrap(own_pool, value, None)
    assert value not in refused.value.detail


@pytest.mark.parametrize("admin_token", [None, FIRST])
async def test_processes_that_start_together_make_one_token(
    own_pool: PostgresPool, empty_database_url: str, token_file: Path, admin_token: str | None
) -> None:
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _START_ONE_SERVER,
            empty_database_url,
            str(token_file),
            admin_token or "",
            stdout=asyncio.subprocess.PIPE,
        )
        for _ in range(3)
    ]
    answers = [(await process.communicate())[0].decode().strip() for process in processes]
    assert sorted(answers) == ["created", "current", "current"]
    assert await live_bootstrap_tokens(own_pool) == 1
    assert await is_valid(own_pool, admin_token or token_file.read_text().strip())


_START_ONE_SERVER = """
import asyncio, sys
from pathlib import Path
from service.access.bootstrap import bootstrap
from service.db.pools import make_postgres_pool
from service.settings import PostgresSettings

async def start(database_url, token_file, admin_token):
    async with make_postgres_pool(database_url, PostgresSettings()) as pool:
        print((await bootstrap(pool, admin_token or None, Path(token_file))).state)

asyncio.run(start(*sys.argv[1:]))
"""


async def test_bootstrap_tokens_are_in_the_audit_trail(own_pool: PostgresPool) -> None:
    for token in ("first-" + "x" * 20, "second-" + "x" * 20):
        await bootstrap(own_pool, token, None)
        await bootstrap(own_pool, token, None)
    trail = await AuditTrail(own_pool).list_page("default", AuditFilter(), before_entry=None, limit=10)
    assert [entry.action for entry in trail] == ["token.created", "token.revoked", "token.created"]
    assert trail[1].subject_id == trail[2].subject_id != trail[0].subject_id
    assert {entry.changed_by for entry in trail} == {"start of a server"}
