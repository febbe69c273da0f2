"""What a run would cost before it starts: FLOPs, memory, disk, and time from measured rates.

`plan` adds up the costs that each stage states of itself. Imports the recipe, the stages and what they run.
"""
