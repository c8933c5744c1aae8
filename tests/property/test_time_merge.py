from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from stream.merge import TimeMerge


@dataclass
class Record:
    offset: int
    timestamp: int


slices = st.lists(st.lists(st.integers(0, 50), max_size=6), min_size=1, max_size=5)


def filled(partitions: Sequence[Sequence[int]]) -> TimeMerge[int, Record]:
    merge: TimeMerge[int, Record] = TimeMerge()
    for number, times in enumerate(partitions):
        merge.add(number, [Record(offset, time) for offset, time in enumerate(times)])
    return merge


@given(slices, st.integers(1, 7))
def test_everything_comes_out_once_and_in_order_within_its_partition(
    partitions: list[list[int]], n_records: int
) -> None:
    merge = filled(partitions)
    seen: dict[int, int] = {}
    n_taken = 0
    while len(merge):
        records, positions = merge.take(n_records)
        assert 0 < len(records) <= n_records
        n_taken += len(records)
        for number, position in positions.items():
            assert position > seen.get(number, 0)
            seen[number] = position
    assert n_taken == sum(map(len, partitions))
    assert seen == {number: len(times) for number, times in enumerate(partitions) if times}


@given(slices)
def test_partitions_in_order_of_time_merge_into_one_order_of_time(partitions: list[list[int]]) -> None:
    merge = filled([sorted(times) for times in partitions])
    records, _ = merge.take(1000)
    assert [record.timestamp for record in records] == sorted(record.timestamp for record in records)


def test_the_rest_waits_for_a_partition_whose_next_records_are_on_their_way() -> None:
    merge = filled([[1, 2], [5, 6], [7]])
    records, positions = merge.take(100, incomplete={0})
    assert [record.timestamp for record in records] == [1, 2]
    assert positions == {0: 2}
    merge.add(0, [Record(2, 3)])
    assert merge.oldest() == 3
    assert [record.timestamp for record in merge.take(100)[0]] == [3, 5, 6, 7]
