"""Tables in, charts and one HTML page out. This room knows nothing of models, checkpoints or crosscoders.

- `charts` holds the charts, each a function from a table to an altair chart.
- `page` assembles the page of a run from a `ReportInput`.
- `columns` lists the tables and their columns, `check_table` validates them, `numbers` formats numbers.

Imports `machine` and `errors`. To add a chart, write its function in a file of `charts/` and give it a place in
`page/draw_charts.py` and `page/sections.py`; a new table also needs its columns in `columns.py`.
"""
