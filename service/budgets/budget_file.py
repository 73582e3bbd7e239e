"""Reads a file of budgets, in YAML or JSON, and keeps numbers as they are written: no amount passes through a float.

A name given twice, unknown fields, NaN, a second document are refused; `no`, `on` and dates are texts. Whatever is
wrong with a file is told at once, and then no budget of it is taken. Beside `budgets` there may be names that begin
with `x-`, for parts of the file that are used more than once.
"""

import json
import re
from typing import Any, Final

import msgspec

from service.amount_bodies import read_amount
from service.budgets.budget import BudgetDraft
from service.budgets.schemas import BudgetTermsRequest
from service.errors import InvalidInput
from service.kit.yaml_text import MAX_BYTES, YamlError, load_yaml

MAX_BUDGETS: Final = 200_000
_MOST_PROBLEMS_SHOWN: Final = 50
_WHOLE_NUMBER: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")


class BudgetFileEntry(BudgetTermsRequest, kw_only=True, forbid_unknown_fields=True):
    """A budget of a file: what PUT takes, with the slug beside it."""

    slug: str


class BudgetFileError(Exception):
    """What is wrong with a file, one line each."""

    def __init__(self, problems: list[str]) -> None:
        shown = problems[:_MOST_PROBLEMS_SHOWN]
        if len(problems) > len(shown):
            shown.append(f"… and {len(problems) - len(shown)} more")
        super().__init__("\n".join(shown))


def read_budget_file(content: bytes, *, is_json: bool | None = None) -> list[BudgetDraft]:
    """Return the budgets of a file, in its order; None: JSON when it begins like it. Raises BudgetFileError."""
    if len(content) > MAX_BYTES:
        raise BudgetFileError([f"A file has at most {MAX_BYTES // 1024 // 1024} MiB."])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BudgetFileError([f"This is no UTF-8: {error.reason}, byte {error.start}."]) from error
    if is_json is None:
        is_json = text.lstrip().startswith("{")
    document = _read_json(text) if is_json else _read_yaml(text)
    entries = _entries(document)
    if len(entries) > MAX_BUDGETS:
        raise BudgetFileError([f"A file holds at most {MAX_BUDGETS} budgets; this one has {len(entries)}."])
    drafts: dict[str, BudgetDraft] = {}
    problems: list[str] = []
    for index, entry in enumerate(entries):
        try:
            draft = _read_entry(entry)
        except InvalidInput as error:
            problems.append(_located(index, entry, error))
            continue
        if draft.slug in drafts:
            problems.append(f"budgets[{index}].slug: {draft.slug} is in the file already.")
        drafts[draft.slug] = draft
    if problems:
        raise BudgetFileError(problems)
    return list(drafts.values())


def _entries(document: Any) -> list[Any]:
    if isinstance(document, dict):
        entries = document.get("budgets")
        if isinstance(entries, list) and all(str(name).startswith("x-") for name in document if name != "budgets"):
            return entries
    raise BudgetFileError(["A file of budgets is `budgets:` with a list of them; other names begin with `x-`."])


def _read_entry(entry: Any) -> BudgetDraft:
    try:
        msgspec.json.encode(entry)  # JSON can spell halves of characters that no database takes
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{error.object[:100]!a} is no text: half a character stands alone in it.") from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput("This cannot be read as a budget.") from error
    try:
        read = msgspec.convert(entry, BudgetFileEntry, dec_hook=read_amount)
    except msgspec.ValidationError as error:
        detail, _, path = str(error).partition(" - at `$")
        raise InvalidInput(detail, field=path.strip("`.") or None) from error
    return read.to_draft(read.slug)


def _located(index: int, entry: Any, error: InvalidInput) -> str:
    slug = entry.get("slug") if isinstance(entry, dict) else None
    name = f" ({_printable(slug[:60])})" if isinstance(slug, str) else ""
    path = f".{error.field}" if error.field else ""
    return f"budgets[{index}]{path}{name}: {error.detail}"


def _printable(text: str) -> str:
    return text if text.isprintable() else ascii(text)


def _read_json(text: str) -> Any:
    try:
        return json.loads(
            text,
            parse_float=str,
            parse_int=_whole_number,
            parse_constant=_refuse_constant,
            object_pairs_hook=_refuse_repeated,
        )
    except (ValueError, RecursionError) as error:
        raise BudgetFileError([f"This is no JSON: {error}."]) from error


def _whole_number(text: str) -> int | str:
    return int(text) if _WHOLE_NUMBER.fullmatch(text) else text


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        repeated = next(name for name in members if sum(name == other for other, _ in pairs) > 1)
        raise ValueError(f"{repeated[:100]!r} is given twice")
    return members


def _read_yaml(text: str) -> Any:
    try:
        return load_yaml(text)
    except YamlError as error:
        raise BudgetFileError([f"This is no YAML: {error}."]) from error
