"""What features cause at each checkpoint.

Indirect effects (`attribute`), ablation, transplanting, faithfulness, the explanation of dips, and relative effects
between checkpoints (`relie`). Imports `crosscoders`, `activations` and everything below them; `training` is its
sibling. Add an experiment on features as a file named by its verb, whose function takes a suite, a crosscoder and a
task, or a `DecomposedTask` in the place of the last.
"""
