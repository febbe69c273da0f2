"""What features cause at each checkpoint.

Indirect effects (`attribute`), ablation, transplanting, faithfulness, explanations of dips (`explain_dip`), and
relative effects between checkpoints (`relie`). Imports `crosscoders`, `activations` and everything below them;
`training` is its sibling. Add an experiment on features as a file that is named by its verb. Its function takes a
suite, a crosscoder and a task, and begins with `crosstime.crosscoders.decompose.prepare_task`.
"""
