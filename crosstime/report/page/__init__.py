"""The HTML page of a run, with its style and scripts: one file that opens offline.

Imports `report.charts`, `report.columns` and `report.numbers`. Add a section in `sections.py`.
"""
