"""Ways to cut a stream of bytes, since a read may end anywhere."""

from itertools import pairwise

from hypothesis import strategies as st


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """`data` cut at these offsets; two equal ones give an empty piece."""
    edges = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@st.composite
def chunkings(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """The same bytes in random pieces, or one by one."""
    if draw(st.booleans()):
        return cut(data, draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[i : i + 1] for i in range(len(data))]
