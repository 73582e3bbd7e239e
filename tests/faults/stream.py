"""A stream of posts to a server that may die: what was acknowledged, what must be sent again."""

import asyncio
from random import Random

import httpx

from tests.faults.chat_events import Event, body, chat_event
from tests.faults.replica import Answer, Caller


class Stream:
    """Events posted by some workers at once until told to stop, and what became of each."""

    def __init__(self, caller: Caller, random: Random, *, gate: Caller | None = None) -> None:
        """With a `gate`, the first event of each body has a hold, placed there, under the id of its call."""
        self._caller = caller
        self._random = random
        self._gate = gate
        self._is_stopping = False
        self.acknowledged: dict[str, str] = {}  # id of the event -> charge id
        self.unanswered: list[Event] = []
        self.reserved: set[str] = set()  # call ids
        self.refused: list[int] = []

    async def run(self, workers: int) -> None:
        """Post until `stop` or the server's end: a worker whose post was not answered posts no more."""
        await asyncio.gather(*(self._work() for _ in range(workers)))

    def stop(self) -> None:
        self._is_stopping = True

    async def send_again(self, caller: Caller) -> dict[str, str]:
        """Post what was not answered, whole, and return the charge of every event of the stream, by its id."""
        charges = dict(self.acknowledged)
        for start in range(0, len(self.unanswered), 50):
            events = self.unanswered[start : start + 50]
            answer = await _post_until_taken(caller, events)
            assert answer["recorded"] + answer["duplicates"] == len(events)
            for event, result in zip(events, answer["results"], strict=True):
                charges[event["id"]] = result["charge_id"]
        return charges

    async def _work(self) -> None:
        while not self._is_stopping:
            events = [self._some_event() for _ in range(self._random.choice((1, 1, 3, 12)))]
            if self._gate is not None:
                await self._reserve(self._gate, events[0])
            try:
                answer = await self._post(events)
            except httpx.TransportError:
                self.unanswered += events
                return
            if answer is None:
                self.unanswered += events
                continue
            for event, result in zip(events, answer["results"], strict=True):
                assert result["outcome"] == "recorded", result
                self.acknowledged[event["id"]] = result["charge_id"]

    async def _reserve(self, gate: Caller, event: Event) -> None:
        call_id = event["litellm_call_id"]
        metadata = event["metadata"]
        answer = await gate.check(
            request_id=call_id,
            reserve=True,
            model=event["model_group"],
            estimated_cost_usd="0.01",
            dimensions={
                "team": metadata["user_api_key_team_id"],
                "user": metadata["user_api_key_user_id"],
                "tags": event["request_tags"],
            },
        )
        assert answer["allowed"] is True
        self.reserved.add(call_id)

    async def _post(self, events: list[Event]) -> dict[str, list[dict[str, str]]] | None:
        response = await self._caller.request("POST", "/v1/events", json=events)
        if response.status_code == httpx.codes.OK:
            answer: dict[str, list[dict[str, str]]] = response.json()
            return answer
        assert response.status_code == httpx.codes.SERVICE_UNAVAILABLE, response.text
        assert int(response.headers["retry-after"]) > 0
        self.refused.append(response.status_code)
        return None

    def _some_event(self) -> Event:
        return chat_event(
            team=self._random.choice(["red", "blue"]),
            user=f"u{self._random.randrange(4)}",
            input_tokens=self._random.randrange(1, 3_000),
            request_tags=self._random.sample(["a", "b", "c"], 2),
        )


async def _post_until_taken(caller: Caller, events: list[Event]) -> Answer:
    """Post events as gateways do: again while the answer is 503; a pool may still lend connections that were cut."""
    async with asyncio.timeout(20):
        while True:
            response = await caller.request("POST", "/v1/events?results=all", content=body(*events))
            if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                assert response.status_code == httpx.codes.OK, response.text[:2000]
                answer: Answer = response.json()
                return answer
            await asyncio.sleep(0.05)
