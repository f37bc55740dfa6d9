"""Sources of replicas: each finds those that there are now, or says why it cannot tell."""
