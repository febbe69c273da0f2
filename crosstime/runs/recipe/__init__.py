"""The recipe of a run: TOML in, checked dataclasses out.

`recipe` is the whole file; its tables are dataclasses by subject (`suite`, `corpus`, `task`, `crosscoder`, `effects`,
`evolution`, `remote`), which `build` makes strictly from TOML. Imports what the keys configure, and no other part of
`runs`. Add a key as a field of its table's dataclass; parsing, checking and ``--set`` follow from it.
"""
