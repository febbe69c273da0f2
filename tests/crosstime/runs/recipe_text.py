"""A recipe of two tasks without any option, whose keys tests change one at a time."""

RECIPE_TEXT = """
name = "mine"

[suite]
source = "models"

[compare]
revisions = ["step0", "main"]
site = "resid.1"

[corpus]
source = "text.txt"

[[tasks]]
name = "blimp/one"
path = "data"

[[tasks]]
name = "agreement/simple"
limit = 20
"""
