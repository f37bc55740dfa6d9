"""The hot path: protocols on both sides, and between them one `Exchange` a request. No ASGI, no httpx."""
