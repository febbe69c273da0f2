"""How many prompts two halves need, so that it can be checked without PyTorch."""

LEAST_PROMPTS = 4
"""Prompts of two halves of at least two prompts each, without which there is no interval over prompts."""
