"""Other tools' training steps beside ours: each runs in its own environment (``make bench-peers``), in turn with us."""
