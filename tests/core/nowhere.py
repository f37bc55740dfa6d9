"""A match of a prompt that no replica knows."""

from gateway.core.affinity import PrefixIndex

NOWHERE = PrefixIndex().match(())
