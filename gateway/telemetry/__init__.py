"""Background readers: they ask replicas how they are, and only publish. Nothing reads a reader."""
