"""The HTML page of a run with its style sheet and scripts: one file that opens offline.

`write_report` writes the page, `sections` assembles it, `draw_charts` draws its charts, `browser` and `browser_data`
make the feature browser, and `markup` escapes every string that is not markup.

Imports `report.charts` and the modules of `report` itself. Add a section in `sections.py`.
"""
