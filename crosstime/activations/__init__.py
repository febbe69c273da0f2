"""Activations of all checkpoints of a suite, aligned token by token.

`buffer` computes them on the fly and shuffles them for training. `harvest` writes them to an `ActivationStore`
(`store`, with its `manifest`), which any number of training runs can read. `data_config` says how both are batched.
`estimate_scales` measures the scales of a crosscoder whose file does not keep them.
This package imports `suites` and everything below it; `crosscoders` is its sibling, and neither imports the other. Add
another source of activations as a subclass of `ShuffledBuffer`.
"""
