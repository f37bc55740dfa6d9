"""How vLLM says no: its status codes and its several JSON shapes. Source: observed on vLLM 0.32."""

from dataclasses import dataclass

import msgspec


@dataclass(frozen=True, slots=True)
class Refusal(Exception):
    """Answered with `status` and `body()`."""

    status: int
    type: str
    message: str
    param: str | None = None

    def body(self) -> bytes:
        """vLLM's OpenAI-like error object; its `code` repeats the status as a number."""
        return msgspec.json.encode({"error": self.fields()})

    def fields(self) -> dict[str, str | int | None]:
        return {"message": self.message, "type": self.type, "param": self.param, "code": self.status}


ENGINE_DEAD = Refusal(500, "InternalServerError", "EngineCore encountered an issue. See stack trace (above).")
DRAINING = Refusal(500, "InternalServerError", "cannot schedule new futures after shutdown")
NOT_FOUND = b'{"detail":"Not Found"}'
METHOD_NOT_ALLOWED = b'{"detail":"Method Not Allowed"}'
UNAUTHORIZED = b'{"error":"Unauthorized"}'


def invalid(message: str, param: str | None) -> Refusal:
    """The body cannot be read: bad JSON, a missing field, a wrong type."""
    return Refusal(400, "Bad Request", f"1 validation error:\n  {message}", f"body.{param}" if param else "body")


def bad_value(message: str, param: str | None) -> Refusal:
    """The body can be read, and one value is out of range."""
    return Refusal(400, "BadRequestError", message, param)


def unknown_model(model: str, known: tuple[str, ...]) -> Refusal:
    names = ", ".join(known)
    return Refusal(404, "NotFoundError", f"The model `{model}` does not exist. Valid aliases: {names}.", "model")


def too_long(limit: int, got: int) -> Refusal:
    message = f"This model's maximum context length is {limit} tokens. However, your request has {got} input tokens."
    return Refusal(400, "BadRequestError", message, "input_tokens")
