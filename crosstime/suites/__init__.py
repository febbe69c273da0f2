"""Suites of checkpoints, the text they read, and what is measured of checkpoints without a crosscoder.

- Checkpoints: `suite`, `checkpoints`, `revisions` and `hub` find them, `pretrained` and `fingerprint` read and identify
  them, `compute` runs them. `train_tiny_suite` makes a small suite.
- Text: `read_lines` reads documents, `corpus` packs them into token sequences.
- Measurements: `accuracy`, `similarity`, `ngram_divergence`; on these, `select` and `find_dips`.

Imports `shown`, `report`, `machine` and `errors`. Add a naming scheme of revisions to `revisions.py`, a kind of text
source to `read_lines.py`, and a measure of similarity to `similarity.py`.
"""
