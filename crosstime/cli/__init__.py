"""The command line, one file a verb; `main` puts them together.

Imports everything, but inside the functions: a verb loads only what it needs. Add a verb as a file of its name, and
list it in `main.py`.
"""
