"""Names of the measures of similarity between activations, so that they can be checked without PyTorch."""

MEASURES = ("cosine", "pearson", "cka")
