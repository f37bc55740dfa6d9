"""The sequences that decode. All advance by one token a step, so none is touched until something happens to it.

Their progress is the step count minus a base; who finishes next is on a heap; who needs a block in step s is in the
bucket `s mod block_tokens`, because each needs one every `block_tokens` steps.
"""

from collections.abc import Collection, Iterator
from heapq import heappop, heappush

from gateway.emulator.sequence import Sequence


class Decoders:
    """Counts completed steps, and knows what each step to come will need."""

    __slots__ = ("_block_tokens", "_due", "_finishing", "context", "count", "steps")

    def __init__(self, block_tokens: int) -> None:
        self.steps = 0
        self.count = 0
        self.context = 0
        """KV tokens of all of them, each counted by itself even where blocks are shared: attention reads them so."""
        self._block_tokens = block_tokens
        self._due: list[dict[str, Sequence]] = [{} for _ in range(block_tokens)]
        self._finishing: list[tuple[int, int, Sequence]] = []

    def start(self, sequence: Sequence) -> None:
        """Its prompt is computed and a token sampled; it decodes from the next step on."""
        sequence.decoding = True
        sequence.base = self.steps - sequence.generated
        sequence.finish_step = sequence.base + sequence.request.max_tokens
        # Step `steps + 1 + j` computes position `computed + j`; a block is due where that is a multiple of its size.
        sequence.phase = (self.steps + 1 - sequence.computed) % self._block_tokens
        self._due[sequence.phase][sequence.request.id] = sequence
        heappush(self._finishing, (sequence.finish_step, sequence.order, sequence))
        self.count += 1
        self.context += sequence.computed

    def stop(self, sequence: Sequence) -> None:
        """It decodes no more; its own counts are up to date from here on."""
        sequence.generated = self.steps - sequence.base
        # The token sampled last has not been through the model: its KV is not there.
        sequence.computed = sequence.tokens - 1
        sequence.decoding = False
        sequence.finish_step = -1
        del self._due[sequence.phase][sequence.request.id]
        self.count -= 1
        self.context -= sequence.computed

    def advance(self, steps: int) -> list[Sequence]:
        """`steps` more steps have ended. Those that have all their tokens now; the caller stops them."""
        self.steps += steps
        self.context += self.count * steps
        finished = []
        while (step := self._next_finish()) is not None and step <= self.steps:
            finished.append(heappop(self._finishing)[2])
        return finished

    def due(self, ahead: int) -> Collection[Sequence]:
        """Who needs a block for the step `ahead` steps after the last completed one; 1 is the next."""
        return self._due[(self.steps + ahead) % self._block_tokens].values()

    def due_in_turn(self, ahead: int, steps: int) -> Iterator[Sequence]:
        """Who needs a block in each of `steps` steps, the first of them `ahead`, in that order."""
        size = self._block_tokens
        first = self.steps + ahead
        offsets = sorted((phase - first) % size for phase, due in enumerate(self._due) if due)
        for lap in range(0, steps, size):
            for offset in offsets:
                if lap + offset >= steps:
                    return
                yield from self._due[(first + offset) % size].values()

    def steps_alike(self, free: int) -> int:
        """How many steps, the next included, until one finishes or `free` blocks may not last. At least 1.

        The next step has its blocks already.
        """
        finish = self._next_finish()
        if finish is None:
            return 1
        steps = finish - self.steps
        laps = min(free // self.count, steps // self._block_tokens)
        free -= laps * self.count
        count = 1 + laps * self._block_tokens
        while count < steps:
            free -= len(self.due(1 + count))
            if free < 0:
                break
            count += 1
        return min(count, steps)

    def _next_finish(self) -> int | None:
        heap = self._finishing
        # Stopped early (preempted, aborted), perhaps started anew since: then its step is another one.
        while heap and heap[0][2].finish_step != heap[0][0]:
            heappop(heap)
        return heap[0][0] if heap else None
