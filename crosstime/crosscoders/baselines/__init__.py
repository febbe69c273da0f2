"""Dictionaries that a crosscoder is compared with: neurons, principal components, random directions, autoencoders.

Each is a `crosstime.crosscoders.dictionary.Dictionary`, so that effects, ablations and faithfulness take it in place of
the crosscoder. To add one: a class or function here, its name in `names.py`, and its line in
`baseline_dictionaries.py`.
"""
