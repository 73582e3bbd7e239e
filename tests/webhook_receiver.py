"""A receiver of webhooks on this machine: answers as it is told, keeps what it got, and verifies signatures.

The verification is written from the text of Standard Webhooks, with nothing of the product in it.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.loopback_server import LoopbackServer

# Writes an answer by the handler it is given.
Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass(frozen=True)
class Received:
    """One request that came in."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    def assert_signed_with(self, secret: str) -> None:
        kind, _, encoded = secret.partition("_")
        assert kind == "whsec"
        content = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + self.body
        digest = hmac.new(base64.b64decode(encoded), content, hashlib.sha256).digest()
        signatures = self.headers["webhook-signature"].split(" ")
        assert f"v1,{base64.b64encode(digest).decode()}" in signatures


class WebhookReceiver(LoopbackServer):
    """Answers by path, 204 unless told otherwise."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.received: list[Received] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.received.append(Received(self.path, headers, body))
                planned = outer.answers.get(self.path, [])
                (planned.pop(0) if len(planned) > 1 else planned[0] if planned else status(204))(self)

            def do_GET(self) -> None:
                outer.received.append(Received(f"GET {self.path}", {}, b""))
                status(200)(self)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(Handler)

    def at(self, path: str) -> list[Received]:
        return [each for each in list(self.received) if each.path == path]

    def never(self) -> Answer:
        """Keep the sender waiting until the test is over."""

        def write(handler: BaseHTTPRequestHandler) -> None:
            self.released.wait(60)
            handler.close_connection = True

        return write

    def endless(self) -> Answer:
        """Send a body that does not end before the sender goes."""

        def write(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.send_header("content-length", str(1 << 40))
            handler.end_headers()
            with suppress(OSError):
                while not self.released.is_set():
                    handler.wfile.write(bytes(1 << 16))
            handler.close_connection = True

        return write


def status(code: int, **headers: str) -> Answer:
    """Answer with a status; underscores in names of headers are dashes."""

    def write(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in {"content-length": "0", **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()

    return write
