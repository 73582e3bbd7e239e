from datetime import UTC, datetime, timedelta

from service.identity.aliases import NO_ALIASES, Alias, AliasBook

NOW = datetime(2026, 11, 6, tzinfo=UTC)
DAY = timedelta(days=1)


def test_names_are_found_whatever_their_case() -> None:
    era = AliasBook([Alias(alias="Fast", model="openai/GPT-4.1-nano")]).in_force(NOW)
    assert era.find("FAST") == "openai/GPT-4.1-nano"
    assert era.find("slow") is None


def test_a_chain_is_followed_to_its_end() -> None:
    book = AliasBook([Alias(alias="a", model="B"), Alias(alias="b", model="c"), Alias(alias="c", model="gpt-4.1")])
    assert book.in_force(NOW).find("a") == "gpt-4.1"


def test_a_chain_is_followed_only_through_aliases_in_force() -> None:
    book = AliasBook([Alias(alias="a", model="b"), Alias(alias="b", model="c", effective_from=NOW)])
    assert book.in_force(NOW - DAY).find("a") == "b"
    assert book.in_force(NOW).find("a") == "c"


def test_names_that_go_round_in_a_circle_are_no_aliases() -> None:
    book = AliasBook([Alias(alias="a", model="b"), Alias(alias="b", model="a"), Alias(alias="c", model="a")])
    era = book.in_force(NOW)
    assert [era.find(name) for name in "abc"] == [None, None, None]


def test_a_book_without_aliases_costs_nothing() -> None:
    assert AliasBook().in_force(NOW) is NO_ALIASES
    assert AliasBook([Alias(alias="a", model="b", effective_to=NOW)]).in_force(NOW) is NO_ALIASES


def test_the_same_era_is_the_same_object() -> None:
    book = AliasBook([Alias(alias="a", model="b", effective_from=NOW)])
    assert book.in_force(NOW) is book.in_force(NOW + DAY)
    assert book.in_force(NOW) is not book.in_force(NOW - DAY)


def test_an_alias_that_would_lead_back_to_itself_is_recognised_over_all_times() -> None:
    book = AliasBook(
        [Alias(alias="a", model="b"), Alias(alias="b", model="c", effective_from=NOW, effective_to=NOW + DAY)]
    )
    assert book.closes_circle(Alias(alias="c", model="A"))
    assert book.closes_circle(Alias(alias="x", model="X"))
    assert not book.closes_circle(Alias(alias="c", model="a", effective_from=NOW + DAY))
    assert not book.closes_circle(Alias(alias="x", model="a"))


def test_aliases_that_meet_without_overlapping_follow_each_other() -> None:
    first = Alias(alias="a", model="b", effective_from=NOW, effective_to=NOW + DAY)
    second = Alias(alias="a", model="c", effective_from=NOW + DAY)
    assert not first.overlaps(second)
    assert not second.overlaps(first)
    assert second.overlaps(Alias(alias="a", model="d"))


def test_a_book_of_many_dates_keeps_few_of_its_eras() -> None:
    book = AliasBook(
        [
            Alias(alias=f"a{n}", model="m", effective_from=NOW + n * DAY, effective_to=NOW + (n + 1) * DAY)
            for n in range(99)
        ]
    )
    for n in range(99):
        assert book.in_force(NOW + n * DAY).find(f"a{n}") == "m"
    assert len(book._eras) <= 16
