"""From a recipe to a report: stages that resume, in one folder.

`run` executes the stages of a `recipe/` one after another; the `ledger` records what each was made of, so that a
finished stage is not repeated; `plan/` says what a run would cost. Imports everything but `cli`.
"""
