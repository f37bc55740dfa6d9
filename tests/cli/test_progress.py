"""A bar on a terminal, lines elsewhere."""

from io import StringIO

from gateway.cli.progress import Progress


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_on_a_terminal() -> None:
    """It is drawn over itself, a shorter one over all of a longer one, and is gone when the piece is done."""
    stream = Terminal()
    progress = Progress(stream)
    progress.update("a long name", 50, 100)
    progress.update("a long name", 50, 100)
    progress.update("short", 100, 100)
    progress.finish("short")
    first, second, last = stream.getvalue().split("\r")[1:4]
    assert first == f"[{'#' * 15}{'.' * 15}]  50 %  a long name"
    assert second.rstrip() == f"[{'#' * 30}] 100 %  short"
    assert len(second) == len(first)
    assert last == " " * len(second.rstrip())
    assert stream.getvalue().endswith("\r")


def test_nothing_to_clear() -> None:
    stream = Terminal()
    Progress(stream).finish("x")
    assert stream.getvalue() == ""


def test_lines_elsewhere() -> None:
    """One for each piece, when it is done: a log is no film."""
    stream = StringIO()
    progress = Progress(stream)
    progress.update("one", 1, 2)
    progress.finish("one: 2 requests")
    progress.finish("two: 0 requests")
    assert stream.getvalue() == "one: 2 requests\ntwo: 0 requests\n"


def test_an_empty_piece_is_no_error() -> None:
    stream = Terminal()
    Progress(stream).update("none", 0, 0)
    assert "0 %  none" in stream.getvalue()
