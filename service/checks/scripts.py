"""The lane scripts travel on, to one server or to the primaries of a cluster. Every script may be sent again.

In a cluster each primary has a pipeline and a circuit breaker of its own: one that is away stops the tenants of its
slots and nobody else. What is redirected is sent where it belongs; what meets a slot under way waits for its arrival.
"""

import asyncio
from collections.abc import Sequence

import structlog
from redis.asyncio import Redis
from redis.exceptions import AskError, ClusterDownError, MovedError, ResponseError, TryAgainError

from service.checks.lua_scripts import Command, Reply
from service.checks.node_lane import Answer, CountersUnavailable, NodeLane, NothingDone
from service.db.cluster import Address, ClusterClient, ClusterUnknown, redirection_of, slot_of
from service.db.pools import RedisClient
from service.kit.patience import patience

__all__ = ["CountersUnavailable", "NothingDone", "ScriptLane"]

_log = structlog.get_logger(__name__)

_FIRST_PAUSE_SECONDS = 0.002
_LONGEST_PAUSE_SECONDS = 0.05
# Inside a script a key that has left already is refused in other words than outside of one.
_LEFT_ALREADY = "access a non local key"


class ScriptLane:
    """Sends the commands of one kind of caller in pipelines, over connections of its own.

    A caller puts its own deadline around a call and may leave at any time; the pipeline's deadline is `timeout_ms`.
    """

    def __init__(self, client: RedisClient, *, timeout_ms: float) -> None:
        self._lane: NodeLane | ClusterLane = (
            NodeLane(client, timeout_ms=timeout_ms)
            if isinstance(client, Redis)
            else ClusterLane(client, timeout_ms=timeout_ms)
        )

    @property
    def is_down(self) -> bool:
        """Tell whether nobody has answered lately: calls fail at once, but for probes."""
        return self._lane.is_down

    async def call(self, command: Command) -> Reply:
        """Return the reply to one command. Raises CountersUnavailable."""
        return _reply(await self._lane.call(command))

    async def run(self, commands: Sequence[Command]) -> list[Reply]:
        """Return the replies to commands. Raises CountersUnavailable, if one fails for all, when all have ended."""
        return [_reply(answer) for answer in await self._lane.attempt(commands)]

    async def attempt(self, commands: Sequence[Command]) -> list[Reply | CountersUnavailable]:
        """Return for each command its reply, or why there is none."""
        answers = await self._lane.attempt(commands)
        return [_refused(answer) if isinstance(answer, ResponseError) else answer for answer in answers]

    async def attempt_sequences(self, sequences: Sequence[Sequence[Command]]) -> list[list[Reply]]:
        """Return the replies of each sequence, up to its first command without one.

        The commands of a sequence run one after the other, and none after one that failed; sequences run at once.
        """
        return await asyncio.gather(*[self._attempt_in_order(each) for each in sequences])

    async def _attempt_in_order(self, commands: Sequence[Command]) -> list[Reply]:
        replies: list[Reply] = []
        for command in commands:
            (outcome,) = await self.attempt([command])
            if isinstance(outcome, CountersUnavailable):
                break
            replies.append(outcome)
        return replies

    def start(self) -> None:
        """Connect and load the scripts, so that the first caller need not wait for it."""
        self._lane.start()

    async def close(self) -> None:
        """Finish what is under way and give the connections back."""
        await self._lane.close()


class ClusterLane:
    """Node lanes to the primaries of a cluster, found by the keys of the commands."""

    def __init__(self, client: ClusterClient, *, timeout_ms: float) -> None:
        self._slots = client.slots
        self._timeout_ms = timeout_ms
        self._nodes: dict[Address, NodeLane] = {}
        self._warm_up: asyncio.Task[None] | None = None

    @property
    def is_down(self) -> bool:
        """Tell whether none of the primaries has answered lately."""
        known = [self._nodes.get(address) for address in self._slots.known_primaries]
        return bool(known) and all(node is not None and node.is_down for node in known)

    async def call(self, command: Command) -> Answer:
        """Return the answer to one command. Raises CountersUnavailable."""
        return (await self._run_in_slot(_slot(command), [command]))[0]

    async def attempt(self, commands: Sequence[Command]) -> list[Answer | CountersUnavailable]:
        """Return for each command its answer, or why there is none; the slots of the commands are served at once."""
        positions: dict[int, list[int]] = {}
        for position, command in enumerate(commands):
            positions.setdefault(_slot(command), []).append(position)
        outcomes: dict[int, Answer | CountersUnavailable] = {}
        parts = [self._attempt_in_slot(slot, [commands[each] for each in own]) for slot, own in positions.items()]
        for own, part in zip(positions.values(), await asyncio.gather(*parts), strict=True):
            outcomes.update(zip(own, part, strict=True))
        return [outcomes[position] for position in range(len(commands))]

    def start(self) -> None:
        """Find the primaries, connect and load the scripts."""
        self._warm_up = asyncio.create_task(self._start_nodes())

    async def close(self) -> None:
        """Finish what is under way and give the connections back."""
        if self._warm_up is not None:
            await self._warm_up
        await asyncio.gather(*[node.close() for node in self._nodes.values()])

    async def _start_nodes(self) -> None:
        for address in await self._slots.primaries():
            self._node(address).start()

    def _node(self, address: Address) -> NodeLane:
        if address not in self._nodes:
            self._nodes[address] = NodeLane(self._slots.client_of(address), timeout_ms=self._timeout_ms)
        return self._nodes[address]

    async def _attempt_in_slot(self, slot: int, commands: Sequence[Command]) -> list[Answer | CountersUnavailable]:
        try:
            return list(await self._run_in_slot(slot, commands))
        except CountersUnavailable as error:
            return [error] * len(commands)

    async def _run_in_slot(self, slot: int, commands: Sequence[Command]) -> list[Answer]:
        """Run commands of one slot at its primary, wherever that is by now."""
        answers = await self._send(slot, commands)
        astray = [position for position, answer in enumerate(answers) if _is_astray(answer)]
        if astray:
            try:
                async with patience(self._timeout_ms / 1000):
                    await self._send_after(slot, commands, answers, astray)
            except TimeoutError:
                raise CountersUnavailable("the slot is on its way to another node") from None
        return answers

    async def _send(self, slot: int, commands: Sequence[Command]) -> list[Answer]:
        try:
            return await self._run_at(await self._slots.primary_of(slot), commands)
        except ClusterUnknown as error:
            raise CountersUnavailable(str(error)) from error
        except CountersUnavailable:
            # A replica may have taken over.
            self._slots.note_doubt()
            raise

    async def _run_at(self, address: Address, commands: Sequence[Command]) -> list[Answer]:
        """Run commands at one node; where it sends them is told in full."""
        answers = await self._node(address).run(commands)
        for answer in answers:
            if isinstance(answer, AskError):
                answer.host = redirection_of(answer, address).host
        return answers

    async def _send_after(
        self, slot: int, commands: Sequence[Command], answers: list[Answer], astray: list[int]
    ) -> None:
        """Send what went astray where it belongs, until all of it was answered there."""
        pause_seconds = _FIRST_PAUSE_SECONDS
        while astray:
            for position in list(astray):
                answers[position] = await self._redirect(slot, commands[position], answers[position], pause_seconds)
                if not _is_astray(answers[position]):
                    astray.remove(position)
            pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)

    async def _redirect(self, slot: int, command: Command, refusal: Answer, pause_seconds: float) -> Answer:
        match refusal:
            case MovedError():
                self._slots.note_moved(slot, Address(refusal.host, refusal.port))
            case AskError():
                # Of a slot under way, for this once: what the source does not have any more the target may have.
                return (await self._run_at(Address(refusal.host, refusal.port), [("ASKING",), command]))[1]
            case _:
                if isinstance(refusal, ClusterDownError):
                    self._slots.note_doubt()
                await asyncio.sleep(pause_seconds)
        return (await self._send(slot, [command]))[0]


def _slot(command: Command) -> int:
    """Return the slot of a script's first key; all its keys are of one tenant."""
    return slot_of(str(command[3]))


def _is_astray(answer: Answer) -> bool:
    """Tell whether a command was not run because its slot is not, or not wholly, where it was sent."""
    return isinstance(answer, ResponseError) and (
        isinstance(answer, AskError | TryAgainError | ClusterDownError) or _LEFT_ALREADY in str(answer)
    )


def _reply(answer: Answer | CountersUnavailable) -> Reply:
    if isinstance(answer, CountersUnavailable):
        raise answer
    if isinstance(answer, ResponseError):
        raise _refused(answer) from answer
    return answer


def _refused(error: ResponseError) -> CountersUnavailable:
    _log.error("counters_refused", error=str(error))
    return CountersUnavailable(str(error))
