"""Which path is answered how, in vLLM's order: key, route, method, body."""

import time
import uuid
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.emulator import tokens
from gateway.emulator.anthropic import Messages
from gateway.emulator.audio import speech, transcript
from gateway.emulator.bodies import DetokenizeBody, Message, MessagesBody, TokenizeBody, read
from gateway.emulator.chat import Chat
from gateway.emulator.completions import Completions
from gateway.emulator.faults import Fault, read_fault
from gateway.emulator.metrics import CONTENT_TYPE
from gateway.emulator.pooled import pooled
from gateway.emulator.prompts import ASKS, template
from gateway.emulator.refusals import METHOD_NOT_ALLOWED, NOT_FOUND, UNAUTHORIZED, Refusal, bad_value, invalid
from gateway.emulator.responses import Responses
from gateway.emulator.shapes import Shape
from gateway.emulator.wire import Connection, Request

if TYPE_CHECKING:
    from gateway.emulator.replica import Replica

_GENERATED = {
    "/v1/chat/completions": Chat,
    "/v1/completions": Completions,
    "/v1/responses": Responses,
    "/v1/messages": Messages,
}
_POOLED = ("/v1/embeddings", "/pooling", "/classify", "/score", "/v1/score", "/rerank", "/v1/rerank", "/v2/rerank")
_SOUND = ("/v1/audio/transcriptions", "/v1/audio/translations")
INFERENCE = frozenset((*_GENERATED, *_POOLED, *_SOUND, "/v1/audio/speech"))
"""POST paths that the engine works for."""
_AT_ONCE = frozenset(("/tokenize", "/detokenize", "/v1/messages/count_tokens"))
_GETS = frozenset(("/health", "/ping", "/load", "/version", "/metrics", "/metrics/", "/v1/models"))
_VERSION = "0.32.0"


def answer(replica: "Replica", connection: Connection, request: Request, fault: Fault | None) -> bool:
    """Answer now, or hand the request to the engine; whether it was handed over."""
    path = request.path
    key = replica.settings.api_key
    if key is not None and path.startswith("/v1/") and request.header("authorization") != f"Bearer {key}":
        connection.respond(401, UNAUTHORIZED)
    elif path not in INFERENCE and path not in _AT_ONCE and path not in _GETS:
        connection.respond(404, NOT_FOUND)
    elif request.method not in _methods(path):
        connection.respond(405, METHOD_NOT_ALLOWED, headers={"allow": _methods(path)[0]})
    elif path in _GETS:
        _get(replica, connection, path)
    else:
        return _post(replica, connection, request, fault)
    return False


def _methods(path: str) -> tuple[str, ...]:
    if path == "/ping":
        return ("GET", "POST")
    return ("GET",) if path in _GETS else ("POST",)


def _get(replica: "Replica", connection: Connection, path: str) -> None:
    if path in ("/health", "/ping"):
        connection.respond(200, b"", "")
    elif path.startswith("/metrics"):
        connection.respond(200, replica.metrics.render(replica.driver.engine), CONTENT_TYPE)
    elif path == "/load":
        connection.respond(200, _json({"server_load": 0}))
    elif path == "/version":
        connection.respond(200, _json({"version": _VERSION}))
    else:
        connection.respond(200, _json(_models(replica)))


def _models(replica: "Replica") -> dict[str, Any]:
    """As on a real one, `created` and the permission ids change at every call."""
    served = replica.settings.served
    now = int(time.time())
    parents = dict.fromkeys(served.models) | dict.fromkeys(served.adapters, served.models[0])
    entries = [
        {
            "id": model,
            "object": "model",
            "created": now,
            "owned_by": "vllm",
            "root": f"/{'adapters' if parent else 'models'}/{model}",
            "parent": parent,
            "max_model_len": served.max_model_len,
            "permission": [{"id": f"modelperm-{uuid.uuid4().hex[:16]}", "object": "model_permission", "created": now}],
        }
        for model, parent in parents.items()
    ]
    return {"object": "list", "data": entries}


def _post(replica: "Replica", connection: Connection, request: Request, fault: Fault | None) -> bool:
    ident = request.header("x-request-id") or uuid.uuid4().hex
    try:
        if request.path in _AT_ONCE:
            connection.respond(200, _json(_at_once(replica, request)), headers={"x-request-id": ident})
            return False
        shape = _shape(replica, request, ident)
    except Refusal as refusal:
        connection.respond(refusal.status, _refused(request.path, refusal), headers={"x-request-id": ident})
        return False
    replica.run(connection, shape, fault)
    return True


def _refused(path: str, refusal: Refusal) -> bytes:
    """An unknown model has Anthropic's shape on /v1/messages; its other errors have OpenAI's."""
    if path == "/v1/messages" and refusal.status == 404:
        return _json({"type": "error", "error": {"type": refusal.type, "message": refusal.message}})
    return refusal.body()


def _shape(replica: "Replica", request: Request, ident: str) -> Shape:
    served, created, path = replica.settings.served, int(time.time()), request.path
    content_type = request.header("content-type") or ""
    if path in _SOUND:
        return transcript(path, request.body, content_type, served, ident, created)
    if not content_type.lower().startswith("application/json"):
        raise invalid("Unsupported Media Type: Only 'application/json' is allowed", None)
    if path in _POOLED:
        return pooled(path, request.body, served, ident, created)
    if path == "/v1/audio/speech":
        return speech(request.body, served, ident, created)
    ask = ASKS[path](request.body, served)
    if request.header("x-request-id") is None and ask.request_id:
        ident = ask.request_id
    return _GENERATED[path](ask, ident, created)


def _at_once(replica: "Replica", request: Request) -> dict[str, Any]:
    served = replica.settings.served
    if request.path == "/v1/messages/count_tokens":
        count = read(request.body, MessagesBody)
        served.check(count.model)
        system = [Message("system", count.system)] if count.system else []
        return {"input_tokens": len(template([*system, *count.messages]))}
    if request.path == "/detokenize":
        given = read(request.body, DetokenizeBody)
        served.check(given.model)
        if any(not 0 <= token < tokens.VOCABULARY for token in given.tokens):
            raise bad_value("Token id is out of vocabulary", "tokens")
        return {"prompt": tokens.decode(given.tokens)}
    body = read(request.body, TokenizeBody)
    served.check(body.model)
    if body.prompt is None and body.messages is None:
        raise invalid("Object missing required field `prompt`", "prompt")
    ids = tokens.encode(body.prompt) if body.prompt is not None else template(body.messages or [])
    strings = [tokens.decode([token]) for token in ids] if body.return_token_strs else None
    return {"count": len(ids), "max_model_len": served.max_model_len, "tokens": ids, "token_strs": strings}


def control(replica: "Replica", connection: Connection, request: Request) -> None:
    """GET /emulator/state and POST /emulator/faults of one replica; no fault ever strikes these."""
    if (request.method, request.path) == ("GET", "/emulator/state"):
        connection.respond(200, _json(replica.state()))
    elif (request.method, request.path) == ("POST", "/emulator/faults"):
        try:
            fault = read_fault(request.body)
        except msgspec.MsgspecError as error:
            connection.respond(400, _json({"error": str(error)}))
            return
        connection.respond(200, _json({"fault": fault.fault}))
        replica.command(fault)
    else:
        connection.respond(404, NOT_FOUND)


def _json(value: dict[str, Any]) -> bytes:
    return msgspec.json.encode(value)
