"""The dictionary that all checkpoints share: encode, decode, decompose, evaluate, exchange.

`crosscoder` is the PyTorch module and `crosscoder_file` its file, `decompose` applies it to the activations of a task
or of text, `evaluate` measures its quality, and `exchange` reads and writes the formats of other tools. Imports
`suites` and everything below it. Add an activation function in `activation_functions.py`, a file format as a module of
`exchange/`.
"""
