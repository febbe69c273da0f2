"""Descriptions of a run's features by a language model: what is asked, what is read, and the tables.

`describe` is the verb; it knows the steps. Each step has a file of its own. The form of requests, replies and scores,
and the client, are in `crosstime.features`.
"""
