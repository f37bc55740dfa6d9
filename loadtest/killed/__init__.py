"""Replicas are killed, silenced, frozen and restarted under load. By hand: `make killed`. See loadtest/README.md."""
