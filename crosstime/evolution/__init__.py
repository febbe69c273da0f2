"""How features change over training, and how certain that is.

`evolve` makes all temporal tables. `life_cycles` and `decoder_evolution` say when a feature is present, `rotation` and
`dimensionality` how its direction changes, `presence_test` whether it is there however weak, `latent_scaling` and
`specificity_test` whether a difference between checkpoints is real. Imports `features` and everything below it. Add a
temporal statistic as a file of its own, and its table in `evolve.py`.
"""
