"""Charts: one family per file, each chart a function from a table to an altair chart.

A chart never shows a value that does not exist: NaN interrupts a line and omits a point. Each chart carries a
``usermeta`` (see `panels.fit`), which tells `charts.js` how to fit it to a screen. In a notebook, `notebook` draws it.

Imports `report.columns`, `report.check_table`, `report.rows` and `report.numbers`. Add a chart as a function in a file
of its name.
"""
