import pytest

from service.access.guards import bearer_digest
from service.access.tokens import token_digest
from service.errors import Unauthenticated

TOKEN = "tg_" + "a" * 43


@pytest.mark.parametrize("value", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"BEARER   {TOKEN} "])
def test_the_scheme_is_read_as_rfc_6750_says(value: str) -> None:
    assert bearer_digest([(b"host", b"x"), (b"authorization", value.encode())]) == token_digest(TOKEN)


@pytest.mark.parametrize(
    "values",
    [
        [],
        [""],
        ["Bearer"],
        ["Bearer "],
        [TOKEN],
        [f"Basic {TOKEN}"],
        [f"Bearer{TOKEN}"],
        [f"Bearer {TOKEN} {TOKEN}"],
        ["Bearer short"],
        ["Bearer " + "a" * 513],
        [f"Bearer {TOKEN}", f"Bearer {TOKEN}"],
    ],
)
def test_anything_but_one_bearer_token_is_refused_without_repeating_it(values: list[str]) -> None:
    with pytest.raises(Unauthenticated) as refused:
        bearer_digest([(b"authorization", value.encode()) for value in values])
    assert TOKEN not in refused.value.detail
    assert refused.value.code == "unauthenticated"


def test_bytes_that_are_no_text_are_just_another_unknown_token() -> None:
    assert len(bearer_digest([(b"authorization", b"Bearer " + b"\xff\x00" * 20)])) == 64
