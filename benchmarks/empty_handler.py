"""The floor of every request: a Litestar handler that takes the same body and answers a constant.

`python -m benchmarks.empty_handler PORT PROCESSES [BYTES]` serves it the way Tallygate is served, with an answer of
that size.
"""

import os
import sys

from granian import Granian
from granian.constants import Interfaces, Loops
from litestar import Litestar, Request, Response, post

_SIZE = "BENCH_EMPTY_ANSWER_BYTES"
_ANSWER = b'{"allowed":true}'.ljust(int(os.environ.get(_SIZE, "0")))


@post("/empty", status_code=200, include_in_schema=False)
async def take_body(request: Request[None, None, None]) -> Response[bytes]:
    """Read the body and do nothing with it."""
    await request.body()
    return Response(_ANSWER, media_type="application/json")


def create_app() -> Litestar:
    """Return an application with this one handler."""
    return Litestar([take_body], openapi_config=None, logging_config=None, request_max_body_size=1 << 30)


if __name__ == "__main__":
    if len(sys.argv) > 3:
        os.environ[_SIZE] = sys.argv[3]  # for the processes it starts
    Granian(
        "benchmarks.empty_handler:create_app",
        factory=True,
        address="127.0.0.1",
        port=int(sys.argv[1]),
        workers=int(sys.argv[2]),
        interface=Interfaces.ASGI,
        loop=Loops.uvloop,
        websockets=False,
        log_enabled=False,
    ).serve()
