"""What an attempt sees of the request on whose behalf it asks a replica."""

from typing import TYPE_CHECKING, Protocol

from gateway.core.request import RequestFacts
from gateway.core.timeline import Timeline
from gateway.errors import GatewayError
from gateway.serving.desk import Desk
from gateway.serving.http import RequestHead
from gateway.serving.reply import Client, Reply
from gateway.serving.witness import Witness

if TYPE_CHECKING:
    from gateway.serving.attempt import Attempt


class Asking(Protocol):
    """The request on whose behalf a replica is asked: what its attempts share, and what they tell it."""

    desk: Desk
    client: Client
    head: RequestHead
    facts: RequestFacts
    timeline: Timeline
    witness: Witness
    reply: Reply
    class_: str

    @property
    def deadline_line(self) -> bytes:
        """The header that tells a replica how long the client still waits; none if it did not say."""

    @property
    def may_retry(self) -> bool:
        """Whether another replica may be asked, or is."""

    def waits(self) -> None:
        """The `deadline` of an attempt has changed."""

    def chosen(self, attempt: "Attempt") -> None:
        """The first bytes for the client are here: this attempt answers."""

    def failed(self, attempt: "Attempt", error: GatewayError, reason: str) -> None:
        """The attempt is over; `reason` is one of `gateway_retries_total`."""

    def went_on(self, tokens: int) -> None:
        """The first output of an attempt that goes on with an answer; so many tokens of it were carried over."""

    def answered(self, attempt: "Attempt", status: int) -> None:
        """The answer is complete, and handed to the client."""
