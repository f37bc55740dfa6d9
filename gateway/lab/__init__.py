"""The policy lab: traces of requests, replicas in virtual time, and the gateway's own routing core between them.

No sockets and no clock: the same seed gives the same run. Take ratios from it, not milliseconds.
"""
