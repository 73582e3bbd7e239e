"""Downloads from a real web server on this machine, and addresses that are not asked."""

import asyncio
import gzip
from collections.abc import Iterator
from typing import Any

import pytest

from service.errors import InvalidInput
from service.outbound import shown_url
from service.pricing.map_download import MapDownloader
from service.settings import PricesSettings
from tests.map_server import MapServer, answer

MAP = b'{"m": {"input_cost_per_token": 1e-6}}'


@pytest.fixture
def server() -> Iterator[MapServer]:
    with MapServer().running() as running:
        yield running


def downloader(**options: Any) -> MapDownloader:
    return MapDownloader(PricesSettings(**({"allow_private_addresses": True} | options)))


async def refusal(url: str, **options: Any) -> tuple[str, str]:
    with pytest.raises(InvalidInput) as refused:
        await downloader(**options).fetch(url)
    assert refused.value.field == "url"
    return refused.value.code, refused.value.detail


async def test_a_map_is_downloaded(server: MapServer):
    server.answers["/map.json?x=1"] = answer(MAP)
    assert await downloader().fetch(f"{server.url}/map.json?x=1") == MAP


async def test_a_compressed_answer_is_inflated(server: MapServer):
    server.answers["/"] = answer(gzip.compress(MAP), content_encoding="gzip")
    assert await downloader().fetch(f"{server.url}/") == MAP


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed(server: MapServer, status: int):
    server.answers["/old/map"] = answer(b"", status=status, location="../new?b=1")
    server.answers["/new?b=1"] = answer(MAP)
    assert await downloader().fetch(f"{server.url}/old/map") == MAP


async def test_a_circle_of_redirects_ends(server: MapServer):
    server.answers["/"] = answer(b"", status=302, location="/")
    assert await refusal(f"{server.url}/") == (
        "download_failed",
        "The cost map cannot be downloaded: more than 5 redirects.",
    )
    assert len(server.asked) == 6


@pytest.mark.parametrize(
    "location",
    ["file:///etc/passwd", "http://169.254.169.254/latest/meta-data/", "gopher://127.0.0.1/", "http://u:p@h/"],
)
async def test_a_redirect_is_judged_like_the_first_address(server: MapServer, location: str):
    server.answers["/"] = answer(b"", status=302, location=location)
    code, _ = await refusal(f"{server.url}/")
    assert code == "url_not_allowed"


@pytest.mark.parametrize("status", [204, 400, 404, 500, 304])
async def test_what_is_no_success_is_told_by_its_status(server: MapServer, status: int):
    server.answers["/"] = answer(b"" if status in (204, 304) else b"secret words", status=status)
    code, detail = await refusal(f"{server.url}/")
    assert code == "download_failed"
    assert str(status) in detail
    assert "secret" not in detail


async def test_an_answer_larger_than_a_map_is_cut_off(server: MapServer):
    server.answers["/"] = answer(bytes(3 << 20))
    server.answers["/packed"] = answer(gzip.compress(bytes(3 << 20)), content_encoding="gzip")
    for path in ("/", "/packed"):
        code, detail = await refusal(f"{server.url}{path}", max_map_mib=1)
        assert code == "download_failed"
        assert "larger than 1048576 bytes" in detail


async def test_an_answer_that_is_announced_as_gzip_and_is_not_is_refused(server: MapServer):
    server.answers["/"] = answer(MAP, content_encoding="gzip")
    server.answers["/br"] = answer(MAP, content_encoding="br")
    assert (await refusal(f"{server.url}/"))[0] == "download_failed"
    assert (await refusal(f"{server.url}/br"))[0] == "download_failed"


async def test_an_answer_that_never_ends_is_given_up(server: MapServer):
    server.answers["/"] = server.never()
    assert await refusal(f"{server.url}/", download_timeout_seconds=1) == (
        "download_failed",
        "The cost map cannot be downloaded: it took longer than 1 s.",
    )


async def test_a_connection_that_breaks_off_is_a_failed_download():
    async def break_off(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc")
        writer.close()

    async with await asyncio.start_server(break_off, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        code, detail = await refusal(f"http://127.0.0.1:{port}/")
    assert code == "download_failed"
    assert "127.0.0.1" in detail


async def test_where_nobody_listens_nothing_is_downloaded():
    async with await asyncio.start_server(lambda _, __: None, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
    assert (await refusal(f"http://127.0.0.1:{port}/"))[0] == "download_failed"


async def test_by_default_no_server_of_a_private_network_is_asked(server: MapServer):
    port = server.url.rpartition(":")[2]
    for host in (
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "10.0.0.1",
        "0.0.0.0",  # noqa: S104 - asked for, not listened on
    ):
        code, _ = await refusal(f"https://{host}:{port}/", allow_private_addresses=False)
        assert code == "url_not_allowed", host
    code, _ = await refusal(server.url, allow_private_addresses=False)
    assert code == "url_not_allowed"
    assert server.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "map.json",
        "ftp://example.com/map",
        "https://",
        "https://user:secret@example.com/",
        "https://example.com:0/",
        "https://[::1",
        "https://ex\u00e4mple.com/",
        "https://example.com/a\nb",
        f"https://example.com/{'x' * 2048}",
        "https://169.254.169.254/latest/",
        "https://[fe80::1]/",
        "https://0.0.0.0/",
        "https://224.0.0.1/",
    ],
)
async def test_what_is_no_public_web_address_is_never_asked(url: str):
    code, detail = await refusal(url)
    assert code == "url_not_allowed"
    assert "secret" not in detail


async def test_a_name_nobody_knows_is_a_failed_download():
    assert (await refusal("https://nobody.invalid/"))[0] == "download_failed"


def test_shown_addresses_hold_no_secret():
    assert shown_url("https://u:p@example.com:8443/map.json?token=x#y") == "https://example.com:8443/map.json"
