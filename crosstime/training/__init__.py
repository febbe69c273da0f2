"""Training of crosscoders.

`train` is the public function. `loop` contains the algorithm, `data` provides batches of activations, `held_out` the
validation batch, `resume` saves and restores the state of a run, and `loggers` write its metrics. Each kind of
crosscoder has a file with its configuration and its trainer (`l1`, `topk`, `jumprelu`,
`jumprelu_per_checkpoint`), derived from those in `trainer`
and listed in `kinds`. `planted` makes problems whose solution is known. This package imports `crosscoders`,
`activations` and everything below them; `effects` is its sibling, and neither imports the other. To add a kind, write a
file like `l1.py` and list it in `kinds.py`.
"""
