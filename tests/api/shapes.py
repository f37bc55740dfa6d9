"""What every answer of its kind has to be."""

import httpx


def assert_openai_error(response: httpx.Response, status: int, code: str | None) -> None:
    """OpenAI's error object, and nothing beside it."""
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["code"] == code
    assert body["error"]["message"]
