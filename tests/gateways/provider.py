"""A provider of models in the OpenAI form: answers, fails, streams or waits, as the first part of the path says.

`/answers` answers at once; `/fails` with 500; `/waits` when the test opens `may_go_on`; `/breaks` ends a stream in its
middle. Streams send a first piece, and the rest when the test lets them.
"""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from service.kit.ids import new_id
from tests.gateways.upstream import Seen, head_of, read_request

USAGE = {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}


@dataclass
class Provider:
    """An HTTP/1.1 server of one connection per request."""

    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    may_go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await read_request(reader)
            if request.method == "POST":
                self.seen.append(request)
                await self._answer(request, writer)
            else:
                # LiteLLM looks by itself what models there are.
                _write_json(writer, {"object": "list", "data": []})
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def asked(self, behaviour: str) -> list[Seen]:
        """Return the requests that came for a behaviour."""
        return [seen for seen in self.seen if seen.path.startswith(f"/{behaviour}/")]

    async def _answer(self, request: Seen, writer: asyncio.StreamWriter) -> None:
        behaviour, asked = request.path.split("/")[1], json.loads(request.body)
        if behaviour == "fails":
            _write_json(writer, {"error": {"message": "out of order", "type": "server_error"}}, status="500 Oops")
            return
        if behaviour == "waits":
            await self.may_go_on.wait()
        if asked.get("stream"):
            await self._stream(writer, asked, breaks=behaviour == "breaks")
        elif request.path.endswith("/responses"):
            _write_json(writer, _response(asked))
        elif request.path.endswith("/embeddings"):
            _write_json(writer, _embedding(asked))
        else:
            _write_json(writer, _completion(_served(asked)))
        await writer.drain()

    async def _stream(self, writer: asyncio.StreamWriter, asked: dict[str, Any], *, breaks: bool) -> None:
        writer.write(head_of("content-type: text/event-stream"))
        answer_id = f"chatcmpl-{new_id().hex}"
        # A router names its choice from the second piece on.
        writer.write(_chunk(answer_id, str(asked["model"]), {"role": "assistant", "content": "first "}))
        await writer.drain()
        if breaks:
            return
        await self.may_go_on.wait()
        writer.write(_chunk(answer_id, _served(asked), {"content": "second"}))
        writer.write(_chunk(answer_id, _served(asked), {}, finish_reason="stop"))
        writer.write(_event({**_head(answer_id, _served(asked)), "choices": [], "usage": USAGE}))
        writer.write(b"data: [DONE]\n\n")


def _served(asked: dict[str, Any]) -> str:
    return "gpt-5.4-mini-2026-03-17" if "router" in asked["model"] else str(asked["model"])


def _head(answer_id: str, model: str) -> dict[str, Any]:
    return {"id": answer_id, "object": "chat.completion.chunk", "created": 1_700_000_000, "model": model}


def _completion(model: str) -> dict[str, Any]:
    content = "an answer nobody but the client may read"
    return {
        "id": f"chatcmpl-{new_id().hex}",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": model,
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}],
        "usage": USAGE,
    }


def _response(asked: dict[str, Any]) -> dict[str, Any]:
    text = {"type": "output_text", "text": "an answer nobody but the client may read", "annotations": []}
    message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [text]}
    return {
        "id": f"resp_{new_id().hex}",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": "completed",
        "model": asked["model"],
        "output": [message],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {"input_tokens": 1000, "output_tokens": 500, "total_tokens": 1500},
    }


def _embedding(asked: dict[str, Any]) -> dict[str, Any]:
    usage = {"prompt_tokens": 1000, "total_tokens": 1000}
    vectors = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
    return {"object": "list", "model": asked["model"], "data": vectors, "usage": usage}


def _chunk(answer_id: str, model: str, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
    return _event({**_head(answer_id, model), "choices": choices})


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"


def _write_json(writer: asyncio.StreamWriter, content: dict[str, Any], status: str = "200 OK") -> None:
    body = json.dumps(content).encode()
    writer.write(head_of("content-type: application/json", f"content-length: {len(body)}", status=status) + body)
