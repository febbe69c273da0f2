"""Text that a user typed or that a file of unknown origin contains: parse it within limits, and word helpful errors.

The packages `tasks`, `interventions` and `crosstime` may all import this one. It imports none of them, and nothing
outside the standard library. Add here what parses or describes input and knows neither tasks nor models nor
checkpoints.
"""
