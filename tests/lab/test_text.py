"""Equal beginnings, equal blocks; and nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.lab.text import Text

segments = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 60)), max_size=8)


def tokens(row: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    return [(index, segment, offset) for index, (segment, size) in enumerate(row) for offset in range(size)]


@given(segments, segments)
def test_blocks_are_equal_exactly_as_far_as_the_text_is(one: list[tuple[int, int]], two: list[tuple[int, int]]) -> None:
    texts = []
    for row in (one, two):
        text = Text()
        for segment, size in row:
            text.add(segment, size)
        texts.append(text)
    same = 0
    for left, right in zip(tokens(one), tokens(two), strict=False):
        if left != right:
            break
        same += 1
    for blocks, size in ((Text.engine_blocks, 16), (Text.index_blocks, 128)):
        left_blocks, right_blocks = blocks(texts[0]), blocks(texts[1])
        assert len(left_blocks) == texts[0].tokens // size
        equal = [a == b for a, b in zip(left_blocks, right_blocks, strict=False)]
        assert equal == [True] * (same // size) + [False] * (len(equal) - same // size)
