import asyncio
import socket
from ipaddress import ip_address
from typing import Any

import pytest

from service.outbound import AddressJudge, AddressRefused, AddressUnknown, JudgedBackend, is_never_asked, is_public

PRIVATE = (
    "127.0.0.1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "198.18.0.1",
    "192.0.0.8",
    "192.0.0.191",
    "192.88.99.1",
    "::1",
    "fc00::1",
    "fec0::1",
    "3fff::1",
    "3fff:fff:ffff::1",
    "5f00::1",
    "100:0:0:1::1",
    "::ffff:10.0.0.1",
    "::10.0.0.1",
    "64:ff9b::a00:1",
    "64:ff9b:1::a00:1",
    "64:ff9b:1:0:0:a00:1:0",
    "::ffff:0:a00:1",
    "2002:a00:1::",
)
NEVER = (
    "169.254.169.254",
    "fe80::1",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::",
    "224.0.0.1",
    "ff02::1",
    "0.0.0.0",  # noqa: S104 - asked for, not listened on
    "::",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fd00:c1::a9fe:a9fe",
    "fd00:ec2::23",
    "fd00:42::42",
    "192.0.0.192",
    "64:ff9b::c000:c0",
    "100.100.100.200",
    "168.63.129.16",
    "64:ff9b:1::a9fe:a9fe",
    "64:ff9b:1:2:3:4:a9fe:a9fe",
    "64:ff9b:1:a9fe:a9:fe00::",
    "64:ff9b:1:a9:fe:a9fe::",
    "64:ff9b:1:0:a9:fea9:fe00:0",
    "::ffff:0:a9fe:a9fe",
)


def judge(*, allow_private: bool = False) -> AddressJudge:
    return AddressJudge(allow_private=allow_private, setting="THE_SETTING")


@pytest.mark.parametrize("text", ["93.184.216.34", "192.0.1.1", "2606:2800:220:1::1", "3ffe::1"])
def test_public_addresses_may_be_asked(text: str):
    assert is_public(ip_address(text))
    assert not is_never_asked(ip_address(text))


@pytest.mark.parametrize("text", PRIVATE)
def test_private_addresses_may_be_asked_where_that_is_allowed_and_nowhere_else(text: str):
    assert not is_public(ip_address(text))
    assert not is_never_asked(ip_address(text))


@pytest.mark.parametrize("text", NEVER)
def test_addresses_where_credentials_are_handed_out_are_never_asked(text: str):
    assert not is_public(ip_address(text))
    assert is_never_asked(ip_address(text))


def resolve_to(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> None:
    """Let every name lead to the first of the answers, the next time to the second, and so on."""
    left = list(answers)

    async def getaddrinfo(_host: str, port: int, **_: Any) -> list[Any]:
        found = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (text, port)) for text in found]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)


async def test_a_name_is_refused_if_one_of_its_addresses_is_private(monkeypatch: pytest.MonkeyPatch):
    resolve_to(monkeypatch, ["93.184.216.34", "10.0.0.1"])
    with pytest.raises(AddressRefused, match="THE_SETTING"):
        await judge().find_addresses("two-faced.example", 443)


@pytest.mark.parametrize("allow_private", [False, True])
async def test_no_setting_is_named_where_none_helps(monkeypatch: pytest.MonkeyPatch, *, allow_private: bool):
    resolve_to(monkeypatch, ["10.0.0.1", "169.254.169.254"])
    with pytest.raises(AddressRefused, match="never asked") as refused:
        await judge(allow_private=allow_private).find_addresses("metadata.example", 443)
    assert "THE_SETTING" not in str(refused.value)


async def test_a_name_that_means_something_else_a_moment_later_leads_nowhere(monkeypatch: pytest.MonkeyPatch):
    resolve_to(monkeypatch, ["93.184.216.34"], ["169.254.169.254"])
    assert await judge().find_addresses("rebinding.example", 443) == [ip_address("93.184.216.34")]
    with pytest.raises(AddressRefused):
        await JudgedBackend(judge()).connect_tcp("rebinding.example", 443)


async def test_connections_go_to_the_address_that_was_judged(monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []

    class Connections:
        async def connect_tcp(self, host: str, *_: Any) -> None:
            asked.append(host)

    resolve_to(monkeypatch, ["93.184.216.34"], ["10.0.0.1"])
    backend = JudgedBackend(judge())
    monkeypatch.setattr(backend, "_backend", Connections())
    await backend.connect_tcp("rebinding.example", 443)
    assert asked == ["93.184.216.34"]


async def test_a_name_without_addresses_is_unknown(monkeypatch: pytest.MonkeyPatch):
    resolve_to(monkeypatch, [])
    with pytest.raises(AddressUnknown):
        await judge().find_addresses("empty.example", 443)


def test_plain_http_needs_the_setting():
    with pytest.raises(AddressRefused, match="THE_SETTING"):
        judge().check_url("http://hooks.example/")
    judge(allow_private=True).check_url("http://hooks.example/")
