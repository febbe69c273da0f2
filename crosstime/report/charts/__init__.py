"""The charts, each a function from a table to an altair chart, named by what it shows.

Imports `report.columns` and `report.numbers`. Charts can be used alone; ``altair.theme.enable("crosstime")`` gives them
the look that they have on the page.
"""
