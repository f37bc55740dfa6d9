"""`gateway explain`: why would this request go where? Nothing is sent to a replica, nothing is recorded."""

import argparse
import sys
from pathlib import Path

import httpx
import msgspec

from gateway.cli.loading import add_config_option, load_or_report
from gateway.cli.table import table
from gateway.config import Admin
from gateway.core.explain import Explanation, ReplicaExplanation, figure

TIMEOUT_S = 30.0
FINE, NOT_FINE, USAGE = 0, 1, 2


class _Error(msgspec.Struct):
    message: str
    code: str | None = None


class _Body(msgspec.Struct):
    """OpenAI's error object, as far as it is shown."""

    error: _Error


class Failed(Exception):
    """There is no explanation; the text says why, `code` is the command's exit code."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser("explain", help="ask a gateway where a request would go", description=__doc__)
    parser.add_argument("request", metavar="REQUEST.json", help="the body that a client would send; - for stdin")
    add_config_option(parser)
    parser.add_argument("--admin", metavar="URL", help="the gateway's admin port; default: the config's")
    parser.add_argument("--token", help="the admin token; default: the config's, or GATEWAY_ADMIN__TOKEN")
    parser.add_argument("--path", help="what the request is for, as /v1/completions; default: guessed from the body")
    parser.add_argument("--session", help="the x-session-id that the client would send")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="what to print (default table)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """0: explained. 1: the gateway cannot be reached, or no replica could be asked. 2: the request or config is wrong.

    The reason is on stderr.
    """
    config = load_or_report(args.config)
    if config is None:
        return USAGE
    try:
        url = args.admin.rstrip("/") if args.admin else _url(config.admin)
        answer = _ask(url, args.token or config.admin.token, _body(args.request), args.path, args.session)
    except Failed as failed:
        print(failed, file=sys.stderr)
        return failed.code
    if args.format == "json":
        print(answer.decode())
    else:
        print(text(msgspec.json.decode(answer, type=Explanation)))
    return FINE


def _url(admin: Admin) -> str:
    """Where a gateway of this config has its admin port, for one on the same machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(admin.host, admin.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{admin.port}"


def _body(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise Failed(f"{name}: cannot be read: {error.strerror}", USAGE) from None


def _ask(url: str, token: str | None, body: bytes, path: str | None, session: str | None) -> bytes:
    """The gateway's answer, which is an explanation. Raises `Failed`."""
    headers = {"content-type": "application/json"}
    headers |= {"authorization": f"Bearer {token}"} if token else {}
    headers |= {"x-session-id": session} if session else {}
    try:
        # As in `check`: directly, and not by way of a proxy that the environment names.
        with httpx.Client(trust_env=False, timeout=TIMEOUT_S) as http:
            answer = http.post(
                f"{url}/admin/explain", params={"path": path} if path else {}, content=body, headers=headers
            )
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeEncodeError) as error:
        raise Failed(f"{url}: no URL of an admin port: {error}", USAGE) from None
    except httpx.HTTPError as error:
        raise Failed(f"no gateway answers at {url}: {error or type(error).__name__}", NOT_FINE) from None
    if answer.status_code == 200:
        return answer.content
    raise _refused(url, answer)


def _refused(url: str, answer: httpx.Response) -> Failed:
    try:
        error = msgspec.json.decode(answer.content, type=_Body).error
    except msgspec.DecodeError:
        error = _Error(f"it answers {answer.status_code}")
    if error.code in (None, "not_found") and answer.status_code == 404:
        return Failed(f"{url}: {error.message}: is it a gateway's admin port?", USAGE)
    fleet = answer.status_code >= 500 or error.code == "model_not_found"
    return Failed(error.message, NOT_FINE if fleet else USAGE)


def text(told: Explanation) -> str:
    """For people: the request, the decision, one row for each replica, and what the columns mean."""
    model = f"model {told.model}" if told.model else "no model named"
    lines = [
        f"request   {told.path}, {model}, about {told.prompt_tokens} prompt tokens, {told.blocks} whole prefix blocks",
        f"policy    {told.policy}: the lowest score wins, in {told.unit}",
        f"decision  {told.summary}",
        "",
        _rows(told),
        "",
        f"for {told.replicas[0].replica}, the columns that add up to its score:",
        *_words(told.replicas[0]),
    ]
    if told.avoidable_tokens:
        lines.append(f"{told.avoidable_tokens} tokens of prefill are given away: another replica has more of it cached")
    return "\n".join([*lines, *(f"not asked: {who.replica}: {who.why}" for who in told.passed_over)])


def _rows(told: Explanation) -> str:
    names = [term.name for term in told.replicas[0].terms]
    heads = ["#", "REPLICA", "STATE", "CACHED", "UNCACHED", *map(str.upper, names), "SCORE"]
    return table(heads, [_row(replica) for replica in told.replicas])


def _row(replica: ReplicaExplanation) -> list[str]:
    numbers = [replica.cached_tokens, replica.uncached_tokens, *(term.value for term in replica.terms), replica.score]
    return [str(replica.rank), replica.replica, replica.state.value, *map(figure, numbers)]


def _words(replica: ReplicaExplanation) -> list[str]:
    width = max(len(term.name) for term in replica.terms)
    return [f"  {term.name.ljust(width)}  {figure(term.value)}: {term.words}" for term in replica.terms]
