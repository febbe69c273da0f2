"""Input that a person typed or a file of unknown origin holds: parsed within limits, and errors that help.

The packages `tasks`, `interventions` and `crosstime` may all import this one; it imports none of them, and nothing
outside the standard library. Add here what reads or words input and knows neither tasks, models nor checkpoints.
"""
