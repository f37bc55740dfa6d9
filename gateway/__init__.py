"""An OpenAI-compatible gateway in front of vLLM replicas; `docs/architecture.md` is the map."""

__version__ = "0.1.0"
