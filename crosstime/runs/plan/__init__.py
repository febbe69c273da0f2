"""What a run would cost before it starts: FLOPs, memory, disk, and a range of time from two measured rates.

`plan` adds up the costs that each stage states of itself (`Stage.cost`), from the `sizes` of the recipe and of its
model. Imports the recipe, and the stages in `plan.py` only.
"""
