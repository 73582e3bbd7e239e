"""A web server on this machine that answers as it is told: for whatever downloads cost maps."""

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler

from tests.loopback_server import LoopbackServer

# Writes an answer by the handler it is given.
Answer = Callable[[BaseHTTPRequestHandler], None]


class MapServer(LoopbackServer):
    """Answers by path; remembers who asked for what."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.asked.append(self.path)
                outer.answers.get(self.path, answer(b"nothing here", status=404))(self)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(Handler)

    def never(self) -> Answer:
        """Begin an answer and never end it."""

        def write(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.send_header("content-length", "1000000")
            handler.end_headers()
            handler.wfile.flush()
            self.released.wait(60)

        return write


def answer(body: bytes, *, status: int = 200, **headers: str) -> Answer:
    """Answer with a body; underscores in names of headers are dashes."""

    def write(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        try:
            handler.wfile.write(body)
        except ConnectionError:
            handler.close_connection = True

    return write
