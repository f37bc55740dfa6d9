"""Hours of load, and what must not grow meanwhile. By hand: `make soak`. See loadtest/README.md."""
