"""The dashboard's page, put together from its three files, and the policy that lets a browser run just these."""

import base64
import hashlib
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Page:
    """HTML with its style and script inside: one request, and no further path that needs the token."""

    html: str
    headers: dict[str, str]


def load_page() -> Page:
    """The page as packaged. Its Content-Security-Policy names style and script by their hashes, and nothing else."""
    style, script = _static("dashboard.css"), _static("dashboard.js")
    html = _static("dashboard.html").replace("/*style*/", style).replace("/*script*/", script)
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {
        "content-security-policy": policy,
        "referrer-policy": "no-referrer",  # the address may hold the token
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
    }
    return Page(html, headers)


def _static(name: str) -> str:
    return (files("gateway.api") / "static" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
