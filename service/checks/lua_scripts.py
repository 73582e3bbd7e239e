"""The Lua scripts of this slice, read once, and the commands that run them. Pure."""

from collections.abc import Iterable, Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Any

import msgspec

_LUA = files("service.checks").joinpath("lua")

Argument = str | int | bytes
Command = tuple[Argument, ...]
Reply = list[Any]


class Script(msgspec.Struct, frozen=True):
    """A script's text, with the shared part in front, and the digest Redis knows it by."""

    name: str
    text: str
    digest: str


def load_script(name: str) -> Script:
    """Return the script `lua/<name>.lua`."""
    text = "\n".join(_LUA.joinpath(f"{part}.lua").read_text("utf-8") for part in ("holds", name))
    return Script(name, text, sha1(text.encode(), usedforsecurity=False).hexdigest())


CHECK_AND_HOLD = load_script("check_and_hold")
PUBLISH_AND_SETTLE = load_script("publish_and_settle")
SEED = load_script("seed")
VOID = load_script("void")
RENEW = load_script("renew")
READ_HELD = load_script("read_held")
RECOUNT = load_script("recount")
ADD_UP = load_script("add_up")
FORGET = load_script("forget")
LOWER_FENCE = load_script("lower_fence")
FIND_RESERVATIONS = load_script("find_reservations")
SCRIPTS = (
    CHECK_AND_HOLD,
    PUBLISH_AND_SETTLE,
    SEED,
    VOID,
    RENEW,
    READ_HELD,
    RECOUNT,
    ADD_UP,
    FORGET,
    LOWER_FENCE,
    FIND_RESERVATIONS,
)


def script_command(script: Script, keys: Sequence[str], arguments: Iterable[Argument]) -> Command:
    """Return the command that runs a script; its keys are all of one tenant."""
    return ("EVALSHA", script.digest, len(keys), *keys, *arguments)
