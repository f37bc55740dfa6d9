"""A rendered page, taken apart: the texts that a person reads."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "br", "input", "img", "hr"}


@dataclass
class Element:
    """An element with its attributes, children and own text."""

    tag: str
    attributes: dict[str, str]
    children: "list[Element]" = field(default_factory=list)
    parts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All text inside, single-spaced."""
        return " ".join("".join(self.parts).split())

    def all(self, tag: str) -> "list[Element]":
        found = [child for child in self.children if child.tag == tag]
        return found + [inner for child in self.children for inner in child.all(tag)]

    def by_id(self, name: str) -> "Element":
        return next(found for found in self._every() if found.attributes.get("id") == name)

    def _every(self) -> "list[Element]":
        return [self, *(inner for child in self.children for inner in child._every())]


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        if len(self.open) > 1 and self.open[-1].tag == tag:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.parts.append(data)


def parse(html: str) -> Element:
    builder = _Builder()
    builder.feed(html)
    return builder.open[0]


def cells(page: Element) -> list[dict[str, str]]:
    """The table's rows as people read them: column's title -> text."""
    titles = [th.text for th in page.by_id("columns").all("th")]
    return [
        dict(zip(titles, (cell.text for cell in row.children), strict=True)) for row in page.by_id("replicas").all("tr")
    ]
