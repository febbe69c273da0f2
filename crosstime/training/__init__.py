"""Training steps on a crosscoder.

`train` is the verb; `loop` takes the steps, `data` feeds it, `resume` saves and restores its state. Each kind of
crosscoder has a file with its configuration and its trainer (`l1`, `topk`, `jumprelu`), listed in `kinds`; `planted`
makes problems whose answer is known. Imports `crosscoders`, `activations` and everything below them; `effects` is its
sibling. Add a kind as a file like `l1.py`, and list it in `kinds.py`.
"""
