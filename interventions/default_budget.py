"""The default batch budget, which other modules may know without PyTorch."""

MAX_TOKENS = 512
"""Default batch budget: slots, padding included, in one forward pass. Measured on CPUs, where larger batches cost
memory and are no faster; on a GPU set it to 16,384 or more."""
