"""An HTTP client of an application in this process, with the application's lifespan running around it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from litestar import Litestar


@asynccontextmanager
async def running_client(app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    """Open a client; the lifespan lives in a task of its own, as it does in a server (fixtures change tasks)."""
    started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    stopping = asyncio.Event()

    async def live() -> None:
        try:
            async with app.lifespan():
                started.set_result(None)
                await stopping.wait()
        except BaseException as error:
            if not started.done():
                started.set_exception(error)
                return
            raise

    life = asyncio.create_task(live())
    await started
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client
    finally:
        stopping.set()
        await life
