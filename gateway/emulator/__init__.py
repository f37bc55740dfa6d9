"""A vLLM replica that needs no GPU: the engine as a pure model in virtual time, and its HTTP face."""
