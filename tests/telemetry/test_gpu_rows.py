"""Samples gathered by GPU."""

from gateway.engines.exposition import Sample
from gateway.telemetry.gpu_rows import hosts, index, rows


def test_instances_of_one_gpu() -> None:
    """The hottest, the slowest, all bits; one figure that cannot be makes all of them unknown."""
    samples = [Sample("t", {"gpu": "0", "i": str(i)}, value) for i, value in enumerate((50.0, 60.0))] + [
        Sample("bad", {"gpu": "0", "i": str(i)}, value) for i, value in enumerate((50.0, -1.0))
    ]
    samples += [Sample("m", {"gpu": "0", "i": str(i)}, value) for i, value in enumerate((4.0, 64.0))]
    samples += [Sample("e", {"gpu": "0", "i": str(i), "what": "x"}, value) for i, value in enumerate((1.0, 2.0))]
    samples += [Sample("e", {"gpu": "0"}, 9.0), Sample("e", {"gpu": "0", "what": "y"}, -1.0), Sample("t", {}, 99.0)]
    (row,) = rows(samples, lambda labels: labels.get("gpu"), 0.0)
    assert (row.most("none", "t"), row.least("t"), row.most("bad"), row.mask("m"), row.mask("none")) == (
        60,
        50,
        None,
        68,
        None,
    )
    assert row.by_label("e", "what") == {"x": 2.0}
    assert (row.label("none", "i"), row.label("none")) == ("0", None)


def test_hosts() -> None:
    """The config's, or all that the labels say."""
    (row,) = rows([Sample("t", {"gpu": "0", "instance": "a:1", "node": "b"}, 1.0)], lambda labels: labels["gpu"], 0.0)
    assert hosts(row, None) == {"a", "b"}
    assert hosts(row, "c") == {"c"}


def test_an_index() -> None:
    """A small whole number."""
    assert [index(text) for text in ("3", 3.0, None, "x", "-1", "99999999")] == [3, 3, None, None, None, None]
