"""What all exchanges share: the limits of the contract, and the parts that a request needs on its way."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.clock import Clock
from gateway.core.affinity import Match, PrefixIndex
from gateway.core.books import Books
from gateway.core.budget import Budget
from gateway.core.endpoints import Endpoint
from gateway.core.explain import Explanation, explain
from gateway.core.fleet import Board
from gateway.core.hedging import Hedging
from gateway.core.hot import HotPrompts
from gateway.core.policies import Policy
from gateway.core.request import RequestFacts, parse
from gateway.core.slowdown import Slowness
from gateway.core.tokens import TokenRatios
from gateway.observability.ledger import Ledger
from gateway.serving.lookout import Stream
from gateway.serving.upstream import Pool


@dataclass(frozen=True, slots=True)
class Limits:
    """The contract's limits, in seconds, bytes and attempts."""

    connect_timeout_s: float = 2.0
    first_token_timeout_s: float = 120.0
    idle_timeout_s: float = 60.0
    request_read_timeout_s: float = 30.0
    max_attempts: int = 3
    max_body_bytes: int = 64 * 1024 * 1024
    resume: str = "exact"
    """How a stream goes on whose replica died: `exact`, `text` or `off`."""
    classes: frozenset[str] = frozenset(("interactive", "standard", "batch"))


@dataclass(slots=True)
class Desk:
    """What all exchanges share."""

    clock: Clock
    board: Board
    books: Books
    index: PrefixIndex
    policy: Policy
    pool: Pool
    ledger: Ledger
    limits: Limits
    draining: bool = False
    ratios: TokenRatios = field(default_factory=TokenRatios)
    hot: HotPrompts = field(default_factory=HotPrompts)
    slowness: Slowness = field(default_factory=Slowness)
    retries: Budget = field(default_factory=Budget.of_retries)
    hedges: Budget = field(default_factory=Budget.of_hedges)
    hedging: Hedging = field(default_factory=Hedging)
    streams: set[Stream] = field(default_factory=set)
    """Every request that is at a replica: the lookout's."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Public name of a model -> name that replicas serve."""

    def parse(self, endpoint: Endpoint, content_type: bytes, body: bytes, session: str | None) -> RequestFacts:
        """The facts of a request, by what was learned of its model and by the aliases. Raises `BadRequest`."""
        learned = self.ratios.bytes_per_token
        return parse(endpoint, content_type, body, session=session, bytes_per_token=learned, aliases=self.aliases)

    def explain(self, facts: RequestFacts, match: Match) -> Explanation:
        """What is decided of a request now, with every term. Nothing is recorded. Raises as `decide` does."""
        return explain(facts, self.board.current, self.books, match, self.policy)
