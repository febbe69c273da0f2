"""Suites of checkpoints, the text they read, and what is measured of a checkpoint without a crosscoder.

Opening checkpoints (`suite`, `compute`), packing text into sequences (`corpus`), training a small suite (`tiny`),
accuracy, similarity, n-gram divergence, the selection of checkpoints, and dips in accuracy. Imports `shown`, `report`,
`machine` and `errors`. Add a way to name or order revisions in `revisions.py`, a measure of similarity in
`similarity.py`.
"""
