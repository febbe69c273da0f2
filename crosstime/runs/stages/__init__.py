"""The stages of a run, one a file, named by their verbs.

A stage states what its result depends on, which files hold it, and what it costs, and does the work; see `stage`.
Imports everything but `cli`. Add a stage as a file like those here, and list it in `registry.py`.
"""
