from datetime import UTC, datetime

import pytest

from service.spend.sources import choose_plan
from service.spend.spend_query import parse_spend_query

_NOW = datetime(2026, 11, 20, 10, 7, tzinfo=UTC)


def _source(scope: dict[str, list[str]] | None = None, **parameters: list[str]) -> str:
    return choose_plan(parse_spend_query(parameters, scope or {}, _NOW)).source


@pytest.mark.parametrize(
    ("parameters", "source"),
    [
        ({}, "core"),
        ({"group_by": ["team,served_model,status"], "user": ["u1", "!u2"]}, "core"),
        ({"group_by": ["end_user"]}, "label"),
        ({"group_by": ["agent"], "agent": ["!planner", "!"]}, "label"),
        ({"agent": ["planner"]}, "label"),
        ({"group_by": ["tag"]}, "label"),
        ({"group_by": ["tag"], "tag": ["blue"]}, "label"),
        ({"tag": ["blue"]}, "label"),
        ({"tag": ["blue", "red"]}, "charges"),  # a charge with both would count twice
        ({"tag": ["!blue"]}, "charges"),
        ({"tag": [""]}, "charges"),
        ({"group_by": ["tag,team"]}, "charges"),
        ({"group_by": ["tag"], "agent": ["planner"]}, "charges"),
        ({"session": ["s1"]}, "charges"),
        ({"kind": ["usage"]}, "charges"),
        ({"request_id": ["r"]}, "charges"),
    ],
)
def test_the_cheapest_source_that_knows_all_fields_is_read(parameters: dict[str, list[str]], source: str) -> None:
    assert _source(**parameters) == source


def test_a_scope_counts_as_a_field() -> None:
    assert _source({"team": ["core"]}, group_by=["user"]) == "core"
    assert _source({"team": ["core"]}, group_by=["end_user"]) == "charges"
    assert _source({"tag": ["blue"]}, group_by=["tag"]) == "charges"


def test_a_range_cut_at_quarters_of_an_hour_needs_no_charges() -> None:
    parameters = {"from": ["2026-11-01T05:45:00Z"], "to": ["2026-11-02T05:45:00Z"]}
    plan = choose_plan(parse_spend_query(parameters, {}, _NOW))
    assert plan.edges == ()
    assert choose_plan(parse_spend_query({}, {}, _NOW)).edges == ()


def test_the_edges_of_a_range_are_read_from_charges_and_tile_it() -> None:
    parameters = {"from": ["2026-11-01T05:44:59Z"], "to": ["2026-11-01T06:15:00.000001Z"]}
    query = parse_spend_query(parameters, {}, _NOW)
    plan = choose_plan(query)
    before, after = plan.edges
    assert plan.whole is not None
    pieces = [before.start, before.end, plan.whole.start, plan.whole.end, after.start, after.end]
    assert pieces[0] == query.time_range.start
    assert pieces[-1] == query.time_range.end
    assert pieces[1] == pieces[2]
    assert pieces[3] == pieces[4]
    assert plan.whole.end == datetime(2026, 11, 1, 6, 15, tzinfo=UTC)


def test_a_range_within_a_quarter_of_an_hour_is_read_from_charges_alone() -> None:
    parameters = {"from": ["2026-11-01T05:46:00Z"], "to": ["2026-11-01T05:59:00Z"]}
    assert choose_plan(parse_spend_query(parameters, {}, _NOW)).whole is None
