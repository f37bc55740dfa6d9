"""Small traces and fleets for the lab's tests."""

from gateway.lab.gateways import facts_of
from gateway.lab.text import Text
from gateway.lab.traces import TraceItem

__all__ = ["facts_of", "item"]


def item(at: float = 0.0, prompt: int = 1280, output: int = 8, *, topic: int = 1, own: int = 0) -> TraceItem:
    """A request whose prompt is 1,024 tokens of its topic, then tokens of its own."""
    text = Text()
    text.add(topic, min(1024, prompt))
    if prompt > 1024:
        text.add(1000 + own, prompt - 1024)
    blocks, index = text.engine_blocks(), text.index_blocks()
    text.add(2000 + own, output)
    return TraceItem(
        at,
        prompt,
        output,
        blocks,
        text.engine_blocks(len(blocks)),
        index,
        text.index_blocks(len(index)),
        f"s{own}",
        f"p{topic}",
    )
