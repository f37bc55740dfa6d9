"""What all exchanges share: the limits of the contract, and the parts that a request needs on its way."""

from dataclasses import dataclass, field

from gateway.clock import Clock
from gateway.core.affinity import PrefixIndex
from gateway.core.books import Books
from gateway.core.fleet import Board
from gateway.core.policies import Policy
from gateway.core.slowdown import Slowness
from gateway.core.tokens import TokenRatios
from gateway.observability.ledger import Ledger
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
    slowness: Slowness = field(default_factory=Slowness)
