"""Activations of all checkpoints of a suite, token for token: shuffled in memory, or stored on disk.

`buffer` makes them on the fly for a training; `harvest` writes an `ActivationStore`, from which any number of trainings
read. Imports `suites` and everything below it; `crosscoders` is its sibling, and neither imports the other.
"""
