"""What is told of a request when it is over."""

from gateway.core.events import Usage
from gateway.core.request import RequestFacts
from gateway.core.timeline import Timeline
from gateway.observability.records import RequestRecord
from gateway.serving.attempt import Attempt
from gateway.serving.reply import Reply
from gateway.serving.route import Route

_UNKNOWN = Usage()


def account(
    timeline: Timeline,
    facts: RequestFacts | None,
    route: Route | None,
    attempt: Attempt | None,
    reply: Reply,
    *,
    time: float,
    path: str,
    class_: str,
    status: int,
    error: str | None,
    disconnected: str | None,
) -> RequestRecord:
    """The record of a request; without `facts` it could not be read, without `route` nobody was asked.

    `attempt`: the one that answered, or the last one.
    """
    usage = _usage(attempt)
    tried = route.tried if route is not None else ()
    return RequestRecord(
        time=time,
        request_id=reply.request_id,
        path=path,
        class_=class_,
        # A name that no replica serves never becomes a label.
        model=facts.model if facts is not None and tried else None,
        replica=attempt.replica.id if attempt is not None else None,
        replicas=tuple([replica.id for replica in tried]),
        reason=attempt.reason if attempt is not None else None,
        attempts=len(tried),
        resumed=route.resumed if route is not None else 0,
        status=status,
        error=error,
        stream=facts is not None and facts.stream,
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        completion_tokens=usage.completion_tokens,
        queue_s=timeline.queue_s,
        ttft_s=timeline.ttft_s,
        tpot_s=timeline.tpot_s(usage.completion_tokens),
        duration_s=timeline.duration_s,
        bytes=reply.bytes,
        disconnected=disconnected,
    )


def _usage(attempt: Attempt | None) -> Usage:
    answer = attempt.answer if attempt is not None else None
    return (answer.usage() if answer is not None else None) or _UNKNOWN
