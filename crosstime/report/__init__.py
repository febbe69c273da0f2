"""Tables in, charts and one HTML page out.

`charts` holds one function a chart, from a table to an altair chart; `page` assembles the page of a run from a
`ReportInput`. Both read the columns that `columns` lists and know nothing of models, checkpoints or crosscoders.
Imports `machine` and `errors`. Add a chart in `charts/`, and its place on the page in `page/sections.py`.
"""
