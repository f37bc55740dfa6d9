"""An emulated vLLM for tests and trials: real sockets, vLLM's wire forms, an engine in virtual time, faults on command.

It shares no code with the gateway, so that a mistake in one cannot hide in the other.
"""
