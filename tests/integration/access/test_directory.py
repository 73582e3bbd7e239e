import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from service.access.caller_cache import FRESH_SECONDS, RENEWAL_SECONDS, UNKNOWN_SECONDS
from service.access.directory import CallerDirectory
from service.access.service import TokenService
from service.access.tokens import new_token_text, token_digest
from service.db.pools import Pools
from service.errors import Unauthenticated
from tests.integration.access.conftest import Clock, MakeToken, OpenDirectory
from tests.integration.access.waiting import until


def requests_made(pools: Pools) -> int:
    return pools.postgres.get_stats().get("requests_num", 0)


async def test_a_caller_is_what_its_token_says(directory: CallerDirectory, make_token: MakeToken, tenant: str) -> None:
    end = datetime.now(UTC) + timedelta(days=1)
    token = await make_token(
        name="eu gateway",
        roles=("read", "check"),
        scope={"team": ["core", "web"]},
        pinned={"organization": "acme", "source": "eu"},
        trusted_headers=("x-tallygate-user",),
        reserve=True,
        on_unresolved="deny",
        expires_at=end,
    )
    caller = await directory.get_caller(token_digest(token.text))
    assert (caller.tenant_id, caller.token_id, caller.name) == (tenant, token.row.token_id, "eu gateway")
    assert caller.roles == {"read", "check"}
    assert not caller.is_operator
    assert caller.scope == {"team": ["core", "web"]}
    assert (caller.pinned, caller.source) == ({"organization": "acme"}, "eu")
    assert caller.trusted_headers == {"x-tallygate-user"}
    assert (caller.reserve, caller.on_unresolved, caller.expires_at) == (True, "deny", end)


async def test_a_known_token_costs_no_database_trip(
    directory: CallerDirectory, make_token: MakeToken, pools: Pools, clock: Clock
) -> None:
    digest = token_digest((await make_token()).text)
    await directory.get_caller(digest)
    before = requests_made(pools)
    for _ in range(100):
        await directory.get_caller(digest)
        clock.now += RENEWAL_SECONDS / 200
    assert requests_made(pools) == before


async def test_a_token_in_use_is_renewed_beside_the_requests_once(
    directory: CallerDirectory, make_token: MakeToken, pools: Pools, clock: Clock
) -> None:
    digest = token_digest((await make_token()).text)
    await directory.get_caller(digest)
    before = requests_made(pools)
    clock.now += RENEWAL_SECONDS
    for _ in range(50):
        assert directory.find_cached(digest) is not None
    await until(lambda: not directory._renewals)
    assert requests_made(pools) == before + 1
    clock.now += FRESH_SECONDS - 0.1
    assert directory.find_cached(digest) is not None


async def test_a_thousand_guesses_share_a_few_statements(directory: CallerDirectory, pools: Pools) -> None:
    digests = [token_digest(new_token_text()) for _ in range(1000)]
    before = requests_made(pools)
    answers = await asyncio.gather(*map(directory.get_caller, digests), return_exceptions=True)
    assert all(isinstance(answer, Unauthenticated) and answer.code == "unauthenticated" for answer in answers)
    assert requests_made(pools) - before <= 3


async def test_a_repeated_wrong_token_is_refused_from_memory_for_a_second(
    directory: CallerDirectory, pools: Pools, clock: Clock
) -> None:
    digest = token_digest(new_token_text())
    with pytest.raises(Unauthenticated):
        await directory.get_caller(digest)
    before = requests_made(pools)
    for _ in range(100):
        with pytest.raises(Unauthenticated):
            await directory.get_caller(digest)
    assert requests_made(pools) == before
    clock.now += UNKNOWN_SECONDS
    with pytest.raises(Unauthenticated):
        await directory.get_caller(digest)
    assert requests_made(pools) == before + 1


async def test_a_revocation_that_nobody_heard_of_takes_at_most_five_seconds(
    directory: CallerDirectory, make_token: MakeToken, pools: Pools, clock: Clock, tenant: str
) -> None:
    token = await make_token()
    digest = token_digest(token.text)
    await directory.get_caller(digest)
    await TokenService(pools.postgres).revoke(tenant, token.row.token_id, None)
    clock.now += 5.0
    with pytest.raises(Unauthenticated):
        await directory.get_caller(digest)
    with pytest.raises(Unauthenticated):
        await directory.get_caller(digest, survives_outage=True)


async def test_an_idle_caller_with_check_rights_is_still_confirmed_before_it_is_used(
    directory: CallerDirectory, make_token: MakeToken, pools: Pools, clock: Clock, tenant: str
) -> None:
    token = await make_token()
    digest = token_digest(token.text)
    await directory.get_caller(digest)
    await TokenService(pools.postgres).revoke(tenant, token.row.token_id, None)
    clock.now += 60.0
    with pytest.raises(Unauthenticated):
        await directory.get_caller(digest, survives_outage=True)


async def test_a_revocation_is_heard_by_other_processes_at_once(
    listening_directory: OpenDirectory, make_token: MakeToken, pools: Pools, database_url: str, tenant: str
) -> None:
    token = await make_token()
    digest = token_digest(token.text)
    async with listening_directory(pools.postgres, database_url) as here:
        await here.get_caller(digest)
        await until(lambda: here._follower is not None and here._cache.find(digest) is not None)
        await _until_listening(pools, here, digest)
        await TokenService(pools.postgres).revoke(tenant, token.row.token_id, None)
        await until(lambda: here._cache.find(digest) is None)
        with pytest.raises(Unauthenticated):
            await here.get_caller(digest, survives_outage=True)


async def test_a_token_made_a_moment_after_it_was_tried_works_at_once(
    directory: CallerDirectory, make_token: MakeToken
) -> None:
    token = await make_token()
    digest = token_digest(token.text)
    directory._cache.keep_unknown(digest, asked_at=directory._clock())
    with pytest.raises(Unauthenticated):
        await directory.get_caller(digest)
    directory.forget(digest)
    assert (await directory.get_caller(digest)).token_id == token.row.token_id


async def test_news_that_arrive_while_a_statement_is_under_way_are_not_lost(
    directory: CallerDirectory, make_token: MakeToken, pools: Pools, tenant: str
) -> None:
    """The statement may have read before the revocation was committed: its answer must not be kept."""
    token = await make_token()
    digest = token_digest(token.text)
    ask_once = directory._ask_once
    statements = 0

    async def revoked_after_reading(digests: set[str]) -> object:
        nonlocal statements
        statements += 1
        keep = directory._keep
        if statements == 1:

            def revoke_then_keep(*arguments: object) -> object:
                directory.forget(digest)
                return keep(*arguments)  # type: ignore[arg-type]

            directory._keep = revoke_then_keep  # type: ignore[method-assign,assignment]
        answer = await ask_once(digests)
        directory._keep = keep  # type: ignore[method-assign]
        if statements == 1:
            await TokenService(pools.postgres).revoke(tenant, token.row.token_id, None)
        return answer

    directory._ask_once = revoked_after_reading  # type: ignore[method-assign,assignment]
    with pytest.raises(Unauthenticated):
        await directory.get_caller(digest)
    assert statements == 2


async def test_an_expired_token_says_so_and_is_no_longer_good(
    directory: CallerDirectory, make_token: MakeToken, clock: Clock
) -> None:
    digest = token_digest((await make_token(expires_at=datetime.now(UTC) + timedelta(seconds=4))).text)
    await directory.get_caller(digest)
    clock.now += 4.5
    with pytest.raises(Unauthenticated) as refused:
        directory.find_cached(digest)
    assert refused.value.code == "token_expired"


async def test_a_cancelled_request_does_not_take_the_answer_of_others_with_it(
    directory: CallerDirectory, make_token: MakeToken
) -> None:
    digest = token_digest((await make_token()).text)
    gone, stays = (asyncio.create_task(directory.get_caller(digest)) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    assert (await stays).name == "gateway"
    with pytest.raises(asyncio.CancelledError):
        await gone


async def _until_listening(pools: Pools, directory: CallerDirectory, digest: str) -> None:
    """Announce until it is heard once, so that what follows tests the announcement and not the start."""
    from service.access import repository

    async def heard() -> bool:
        async with pools.postgres.connection() as connection:
            await repository.announce(connection, digest)
        return directory._cache.find(digest) is None

    async with asyncio.timeout(10):
        while not await heard():  # noqa: ASYNC110  (what it waits for happens in the database)
            await asyncio.sleep(0.005)
    await directory.get_caller(digest)
