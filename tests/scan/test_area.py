"""Areas of tokens and times: how they are cut, and whether they tile a whole."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfx_cassandra.components.scan.area import ALL_TIMES, WHOLE, Area, Position, Slice, cut, faults
from tfx_cassandra.components.scan.ring import MAX_TOKEN, MIN_TOKEN, TokenRange

SIDE = 6  # the small plane of the oracle: tokens 1 to 6, times 0 to 5


def area(start: int, end: int, first: int = 0, last: int = SIDE) -> Area:
    return Area(TokenRange(start, end), Slice(first, last))


SMALL = area(0, SIDE)


def points(area: Area) -> set[tuple[int, int]]:
    tokens, times = area.tokens, area.times
    return set(itertools.product(range(tokens.start + 1, tokens.end + 1), range(times.start, times.end)))


bounds = st.sampled_from(list(itertools.combinations(range(SIDE + 1), 2)))
areas_of_small = st.builds(lambda tokens, times: area(*tokens, *times), bounds, bounds)


@given(st.lists(areas_of_small, max_size=6), areas_of_small)
def test_faults_are_what_counting_every_point_finds(read: list[Area], wanted: Area) -> None:
    count = Counter(point for area in read for point in points(area))
    due = points(wanted)
    found = faults(read, [wanted])
    for got, expected in (
        (found.missing, due - set(count)),
        (found.outside, set(count) - due),
        (found.doubled, {point for point, times in count.items() if times > 1}),
    ):
        named = [point for area in got for point in points(area)]
        assert len(named) == len(set(named)), 'no point is named twice'
        assert set(named) == expected


def test_a_whole_scan_tiles_and_a_part_that_is_left_out_is_named_whole() -> None:
    parts = [Area(TokenRange(MIN_TOKEN, 0)), *(Area(TokenRange(0, 5), s) for s in ALL_TIMES.cut([7, 9]))]
    rest = Area(TokenRange(5, MAX_TOKEN))
    assert faults([*parts, rest]) == ([], [], [])
    assert faults(parts) == ([rest], [], [])
    assert faults([*parts[1:], rest]).missing == [parts[0]]
    assert faults([]).missing == [WHOLE]


def test_areas_in_words() -> None:
    assert str(Area(TokenRange(0, 5))) == '(0, 5]'
    assert str(area(0, 5, 7, 9)) == '(0, 5] x [7, 9) ms'


@pytest.mark.parametrize('pair', [(3, 3), (4, 3), (-(2**63) - 1, 0), (0, 2**63 + 1)])
def test_a_slice_has_a_start_before_its_end(pair: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match='slice: got'):
        Slice(*pair)


@pytest.mark.parametrize(
    ('area', 'position', 'descending', 'expected'),
    [
        # nothing read yet: halves by token; then by time, the half that comes first going on
        (area(0, 4), None, False, (None, area(0, 2), (area(2, 4),))),
        (area(3, 4), None, False, (None, area(3, 4, 0, 3), (area(3, 4, 3, 6),))),
        (area(3, 4), None, True, (None, area(3, 4, 3, 6), (area(3, 4, 0, 3),))),
        (area(3, 4, 2, 3), None, True, None),
        # come to token 3: what is before is done, 3 goes on, what is after is read anew
        (area(0, 6), (3, 2), False, (area(0, 2), area(2, 3), (area(3, 4), area(4, 6)))),
        (area(2, 4), (3, 2), False, (None, area(2, 3), (area(3, 4),))),
        (area(0, 3), (3, 2), False, (area(0, 2), area(2, 3), ())),
        # inside one partition, at time 2: ascending leaves 2 to 5, descending 0 to 2
        (area(2, 3), (3, 2), False, (None, area(2, 3, 0, 4), (area(2, 3, 4, 6),))),
        (area(2, 3), (3, 2), True, (None, area(2, 3, 1, 6), (area(2, 3, 0, 1),))),
        (area(2, 3), (3, 5), False, None),
        (area(2, 3), (3, 0), True, None),
    ],
)
def test_cut(area: Area, position: tuple | None, descending: bool, expected: tuple | None) -> None:
    at = None if position is None else Position(*position)
    assert cut(area, at, True, descending) == expected


def test_only_tokens_are_cut_where_times_cannot_be() -> None:
    assert cut(area(3, 4), None, sliceable=False) is None
    assert cut(area(2, 3), Position(3, 2), sliceable=False) is None
    assert cut(area(2, 3), Position(3, None), sliceable=True) is None
    assert cut(area(2, 4), None, sliceable=False) is not None


@given(areas_of_small, st.booleans(), st.data())
def test_the_pieces_of_a_cut_tile_the_area_and_the_rest_holds_its_unread_rows(
    area: Area, descending: bool, data: st.DataObject
) -> None:
    position = data.draw(st.none() | st.sampled_from(sorted(points(area))).map(lambda point: Position(*point)))
    pieces = cut(area, position, True, descending)
    if pieces is None:
        return
    done = [] if pieces.done is None else [pieces.done]
    assert faults([*done, pieces.rest, *pieces.fresh], [area]) == ([], [], [])
    if position is not None:
        # A read at its position has returned rows of no fresh piece, and every row of what is done.
        token, time = position
        before = {
            (t, m) for t, m in points(area) if t < token or (t == token and (m > time if descending else m < time))
        }
        assert all(not before & points(piece) for piece in pieces.fresh)
        assert all(points(piece) <= before for piece in done)
        assert (token, time) in points(pieces.rest)


def test_an_unbounded_slice_is_cut_where_times_are_likely() -> None:
    years, area = 365 * 86_400_000, Area(TokenRange(0, 1))
    for _ in range(9):
        pieces = cut(area, None, True)
        assert pieces is not None
        later = max(pieces.rest, *pieces.fresh)
        area = min(pieces.rest, *pieces.fresh) if later.times.start > 50 * years else later
    assert area.times.end - area.times.start < years


@pytest.mark.parametrize(
    ('before', 'after', 'descending', 'expected'),
    [
        (Position(7, 50), Position(7, 20), False, Position(7, 50)),  # a second partition of the token
        (Position(7, 50), Position(7, 20), True, Position(7, 20)),
        (Position(7, 50), Position(7, 80), True, Position(7, 50)),
        (Position(7, 50), Position(8, 20), False, Position(8, 20)),
        (Position(7, None), Position(7, 20), False, Position(7, 20)),
        (Position(7, None), Position(7, None), False, Position(7, None)),
    ],
)
def test_the_position_of_a_read(before: Position, after: Position, descending: bool, expected: Position) -> None:
    assert before.then(after, descending) == expected


@given(areas_of_small, bounds)
def test_the_part_within_a_range_is_what_both_hold(whole: Area, tokens: tuple[int, int]) -> None:
    part = whole.within(TokenRange(*tokens))
    assert (points(part) if part else set()) == points(whole) & points(area(*tokens))


def test_areas_are_ordered_as_rows_are_stored() -> None:
    parts = [area(3, 4), area(0, 3, 0, 2), area(0, 3, 2, 6)]
    assert sorted(parts, key=Area.order) == [parts[1], parts[2], parts[0]]
    assert sorted(parts, key=lambda part: part.order(descending=True)) == [parts[2], parts[1], parts[0]]
