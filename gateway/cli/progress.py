"""How far long work has come: a bar on a terminal, plain lines elsewhere."""

from typing import TextIO

_CELLS = 30


class Progress:
    """Steps of one long piece of work, told on `stream`; standard output stays free for the result."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bar = stream.isatty()
        self._shown = ""

    def update(self, label: str, done: int, of: int) -> None:
        """`done` steps of the work called `label`. Without a terminal nothing is said before its end."""
        cells = _CELLS * done // max(1, of)
        line = f"[{'#' * cells}{'.' * (_CELLS - cells)}] {100 * done // max(1, of):3d} %  {label}"
        if self._bar and line != self._shown:
            self._write(line)

    def finish(self, label: str) -> None:
        """This piece is done."""
        if self._bar:
            self.clear()
        else:
            self._stream.write(f"{label}\n")
            self._stream.flush()

    def clear(self) -> None:
        """Take the bar away."""
        if self._shown:
            self._write("")

    def _write(self, line: str) -> None:
        self._stream.write(f"\r{line.ljust(len(self._shown))}{'' if line else chr(13)}")
        self._stream.flush()
        self._shown = line
