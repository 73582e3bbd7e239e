import json
from typing import Any

import pytest

from service.alerts.template import JSON_TYPE, TEXT_TYPE, BodyTooLarge, check_template, plain_numbers, render
from service.amount_bodies import WrittenNumber
from service.errors import InvalidInput

HOSTILE = 'a"b\\c\n}{${budget.slug}$$<&>\u2028\x1f'


def a_document(**data: Any) -> dict[str, Any]:
    filled = {
        "text": "Budget 'b' has reached 80 % of its limit.",
        "budget": {"id": "1", "slug": "b", "name": HOSTILE},
        "subject": {"user": "ann"},
        "threshold": 0.8,
        "threshold_percent": 80,
        "projected_spend_usd": None,
    }
    return {"type": "budget.threshold_reached", "timestamp": "2026-11-21T00:00:00Z", "data": filled | data}


def rendered(template: Any, *, escapes_markup: bool = False) -> Any:
    check_template(template)
    body = render(template, a_document(), escapes_markup=escapes_markup)
    assert body.content_type == JSON_TYPE
    return json.loads(body.content)


def test_without_a_template_the_document_is_sent():
    assert rendered(None) == a_document()


def test_slacks_form():
    assert rendered({"text": "${text}"}) == {"text": "Budget 'b' has reached 80 % of its limit."}


def test_no_value_breaks_out_of_its_string_and_none_is_filled_in_again():
    template = {"a": ["<${budget.name}>", {"b": "${budget.name}"}], "n": 1.5, "t": True, "z": None}
    assert rendered(template) == {"a": [f"<{HOSTILE}>", {"b": HOSTILE}], "n": 1.5, "t": True, "z": None}


def test_names_of_members_are_left_as_they_are():
    assert rendered({"${budget.name}": 1}) == {"${budget.name}": 1}


def test_a_placeholder_alone_is_the_value_itself():
    template = ["${subject}", "${threshold}", "${projected_spend_usd}", "${data}", "${type}"]
    data = a_document()["data"]
    assert rendered(template) == [{"user": "ann"}, 0.8, None, data, "budget.threshold_reached"]


def test_a_placeholder_in_a_text_is_written_out():
    template = ["${threshold_percent} %", "=${projected_spend_usd}=", "${subject}!", "${subject.user}/${subject.team}."]
    assert rendered(template) == ["80 %", "==", '{"user":"ann"}!', "ann/."]


def test_dollars_stand_for_themselves():
    assert rendered(["$$5", "$5", "$${text}", "$$", "${"]) == ["$5", "$5", "${text}", "$", "${"]


def test_marks_are_escaped_on_request_in_values_only():
    assert rendered(["<b>${budget.name}</b>", "${budget}"], escapes_markup=True) == [
        "<b>" + HOSTILE.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") + "</b>",
        {"id": "1", "slug": "b", "name": HOSTILE.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")},
    ]


def test_a_text_makes_a_text():
    check_template("${budget.name}")
    body = render("${budget.name}", a_document(), escapes_markup=False)
    assert (body.content, body.content_type) == (HOSTILE.encode(), TEXT_TYPE)


@pytest.mark.parametrize(
    ("template", "field"),
    [
        ({"a": ["${budget.secret}"]}, "template.a[0]"),
        ("${}", "template"),
        ("${ text }", "template"),
        ("${__class__}", "template"),
        ({"a": "\x00"}, "template.a"),
        ({"\x00": "a"}, "template"),
        ("x" * 16_385, "template"),
        (["${data}"] * 101, "template"),
        ("${data}" * 101, "template"),
    ],
)
def test_what_cannot_be_filled_in_is_refused(template: Any, field: str):
    with pytest.raises(InvalidInput) as refused:
        check_template(template)
    assert refused.value.field == field


def test_a_template_without_end_is_refused():
    deep: Any = "a"
    for _ in range(500):
        deep = [deep]
    for check in (check_template, plain_numbers):
        with pytest.raises(InvalidInput, match="levels"):
            check(deep)


def test_a_body_has_an_end_whatever_is_filled_in():
    check_template("${data}" * 100)
    long = a_document(text="x" * 3_000)
    with pytest.raises(BodyTooLarge, match="262144"):
        render("${data}" * 100, long, escapes_markup=False)
    with pytest.raises(BodyTooLarge):
        render(["${data}"] * 100, long, escapes_markup=False)


@pytest.mark.parametrize("text", ["1.5", "0.1", "-0.0", "1e3", "1.50", "12345678.9", "0e5"])
def test_numbers_that_stay_the_same_are_taken(text: str):
    [number] = plain_numbers([WrittenNumber(text)])
    assert (type(number), number) == (float, float(text))
    assert plain_numbers({"a": [1, True, None, "1e-400", 2**62]}) == {"a": [1, True, None, "1e-400", 2**62]}


@pytest.mark.parametrize(
    "text",
    ["1e-400", "1e400", "0.1234567890123456789", "12345678901234567.5", "1e999999999", "1e-9999999999999999999999"],
)
def test_numbers_that_would_be_sent_as_others_are_refused(text: str):
    with pytest.raises(InvalidInput) as refused:
        plain_numbers({"a": [0, WrittenNumber(text)]})
    assert (refused.value.code, refused.value.field) == ("inexact_number", "template.a[1]")


def test_whole_numbers_nobody_can_send_are_refused():
    with pytest.raises(InvalidInput):
        plain_numbers([2**64])
