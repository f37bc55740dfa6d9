"""What the gateway costs, measured side by side with nginx as pass-through. By hand: `python -m loadtest.overhead`."""
