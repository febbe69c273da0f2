"""Training steps of other tools, in an environment of their own (``make bench-peers``), interleaved with ours."""
