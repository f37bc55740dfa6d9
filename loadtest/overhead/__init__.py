"""What the gateway costs, measured side by side with nginx as a pass-through. By hand: `python -m loadtest.overhead`."""
