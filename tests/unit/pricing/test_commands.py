"""`tallygate prices`: making snapshots and showing prices."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from service.pricing.commands import prices
from service.pricing.cost_map import read_snapshot
from service.pricing.price_book import PriceBook
from service.pricing.shipped import shipped_snapshot


@pytest.fixture
def cost_map(tmp_path: Path) -> Path:
    path = tmp_path / "map.json"
    path.write_text(
        '{"m": {"input_cost_per_token": 1.4e-07, "input_cost_per_parcel": 2, "search_free_requests": {}},'
        ' "sample_spec": {}}'
    )
    return path


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    path = tmp_path / "shipped.gz"
    path.write_bytes(shipped_snapshot())
    return path


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(prices, [str(argument) for argument in arguments], env={"COLUMNS": "100"})
    return result.exit_code, result.output


def test_a_snapshot_is_written_with_origin_licence_and_report(cost_map: Path, tmp_path: Path):
    licence, target = tmp_path / "LICENCE", tmp_path / "out.gz"
    licence.write_text("Do what you like.")
    code, output = run("snapshot", cost_map, "-o", target, "--origin", "a test", "--licence-file", licence)
    assert code == 0
    assert "1 models, 1 priced by tokens" in output
    assert "input_cost_per_parcel: 1" in output
    assert "search_free_requests: 1. What a group of models used" in output
    snapshot = read_snapshot(target.read_bytes())
    assert (snapshot.origin, snapshot.licence) == ("a test", "Do what you like.")
    assert snapshot.version in output


def test_the_same_map_gives_the_same_file(cost_map: Path, tmp_path: Path):
    for name in ("one", "two"):
        run("snapshot", cost_map, "-o", tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert PriceBook.from_snapshot((tmp_path / "one").read_bytes()).origin == "map.json"


def test_a_map_without_anything_strange_has_nothing_to_report(tmp_path: Path):
    path = tmp_path / "map.json"
    path.write_text('{"m": {"input_cost_per_token": 1}}')
    code, output = run("snapshot", path, "-o", tmp_path / "out")
    assert code == 0
    assert "not understood" not in output


def test_a_bad_map_is_refused_with_the_reason(tmp_path: Path):
    path = tmp_path / "map.json"
    path.write_text('{"m": {"input_cost_per_token": -1}}')
    code, output = run("snapshot", path, "-o", tmp_path / "out")
    assert code == 1
    assert "m: input_cost_per_token = -1 is negative" in output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("gpt-5.4", ["from 272,001", "flex", "0.25", "1,000,000 tokens", "x 1.1 for data residency eu"]),
        ("xai/grok-4.20", ["from 200,000"]),
        ("dashscope/qwen-flash", ["to 256,000", "from 256,001"]),
        ("deepseek-v4-flash", ["off-peak", "UTC on weekdays"]),
        ("azure_ai/model_router", ["0.14"]),
        ("whisper-1", ["input_audio_seconds", "0.0001", "1 second"]),
        ("mistral/mistral-ocr-latest", ["pages", "1 page"]),
        ("GPT-4.1", ["gpt-4.1"]),
    ],
)
def test_show_prints_every_rate(key: str, told: list[str], shipped: Path):
    code, output = run("show", key, "--book", shipped)
    assert code == 0
    assert [text for text in told if text not in output] == []
    assert "litellm 1.106.2" in output


def test_show_as_json_is_what_the_interface_answers(shipped: Path):
    code, output = run("show", "dashscope/qwen-flash", "--json", "--book", shipped)
    assert code == 0
    rate = {"kind": "text_input", "unit": "token", "service_tier": None, "is_off_peak": False}
    assert json.loads(output)["rates"][:1] == [
        rate | {"usd": "0.00000005", "from_input_tokens": None, "to_input_tokens": 256_000}
    ]


def test_show_names_what_may_have_been_meant(shipped: Path):
    code, output = run("show", "gpt-5.44", "--book", shipped)
    assert code == 1
    assert "gpt-5.4" in output.partition("similar:")[2]


def test_show_of_another_book(cost_map: Path, tmp_path: Path):
    run("snapshot", cost_map, "-o", tmp_path / "book")
    assert run("show", "m", "--book", tmp_path / "book", "--json")[0] == 0
    code, output = run("show", "gpt-5.4", "--book", tmp_path / "book")
    assert code == 1
    assert "no price under 'gpt-5.4'" in output


def test_show_of_what_is_no_book(cost_map: Path):
    code, output = run("show", "m", "--book", cost_map)
    assert code == 1
    assert "not a price snapshot" in output


@pytest.mark.parametrize("option", [("--at", "2026-11-01"), ("--tenant", "acme")])
def test_a_named_book_is_not_chosen_by_time_or_tenant_too(shipped: Path, option: tuple[str, str]):
    code, output = run("show", "gpt-5.4", "--book", shipped, *option)
    assert code == 2
    assert "--book names the book" in output
