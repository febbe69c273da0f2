"""The recipe of a run: TOML in, checked dataclasses out.

`recipe` holds the tables of the file, `tables` builds them strictly from TOML, `crosscoder` and `evolution` hold the
larger tables. Imports what the keys configure, and no other part of `runs`. Add a key as a field of its table's
dataclass; parsing, checking and ``--set`` follow from it.
"""
