"""How the effects of a feature at single tokens become one number for the feature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from interventions.errors import InterventionError
from interventions.option_names import AGGREGATIONS
from user_input.nearest import nearest

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

CTT_THRESHOLD = 0.1
"""Effects of one feature at one position that are not larger than this count as zero in CTT."""
CTT_BATCH_SIZE = 4
"""Prompts of a batch in CTT's scripts."""
CTT_COLUMNS = 18
"""Columns of the data table that CTT's code makes of the original files of BLiMP; of CLAMS it has 6."""


@dataclass(frozen=True)
class Aggregation:
    """From effects per prompt, position and feature to one indirect effect of each feature.

    With e the effects, P prompts of L_p tokens, and [.] the entries with |e| > `threshold` only::

        sum          : 1/P  sum_p sum_t e
        ctt          : 1/(sum_p L_p)  sum_p sum_t [e]
        ctt-released : 1/P  sum_b (sum_{p in b} sum_t [e]) / (rows_b * max_{p in b} L_p) * columns

    where b are batches of `batch_size` consecutive prompts. The first is the default. The second is the formula of CTT
    (section 4). The third is what its released code computes: the mean over rows and padded positions of each batch,
    multiplied by the number of columns of the data table in place of the number of rows. The factor does not change
    RelIE or ranks, but the padding changes the weights of prompts.

    Attributes:
        name: one of `AGGREGATIONS`.
        threshold: effects of one feature at one position with an absolute value up to this count as zero; not used by
            ``sum``.
        batch_size: prompts of a batch, for ``ctt-released``.
        columns: columns of the data table, for ``ctt-released``: those of the source and those that CTT's code adds.

    Raises:
        InterventionError: an unknown name, a negative threshold, or a batch size or number of columns below 1.

    Examples:
        >>> import torch
        >>> Aggregation("ctt-released", columns=6).prompt_weights(torch.tensor([4, 2, 2])).tolist()
        [0.5, 0.5, 0.5]

    Source: Bayazit, Mueller & Bosselut (arXiv 2509.05291), section 4, and ``get_nodes`` in the code published with it.
    """

    name: str = "sum"
    threshold: float = CTT_THRESHOLD
    batch_size: int = CTT_BATCH_SIZE
    columns: int = CTT_COLUMNS

    def __post_init__(self) -> None:
        if self.name not in AGGREGATIONS:
            raise InterventionError(f"There is no aggregation named {self.name!r}: {nearest(self.name, AGGREGATIONS)}")
        if not self.threshold >= 0:
            raise InterventionError(f"threshold must not be negative; got {self.threshold}.")
        for option, value in (("batch_size", self.batch_size), ("columns", self.columns)):
            if value < 1:
                raise InterventionError(f"{option} of an aggregation must be at least 1, not {value}.")

    @classmethod
    def of(cls, aggregation: str | Aggregation) -> Aggregation:
        """An aggregation itself, or the one of a name with its defaults."""
        return cls(aggregation) if isinstance(aggregation, str) else aggregation

    @property
    def thresholded(self) -> bool:
        """Whether small effects of single positions count as zero."""
        return self.name != "sum"

    def prompt_weights(self, lengths: Int[Tensor, " P"]) -> Float[Tensor, " P"]:
        """The factor of each prompt, so that the mean over prompts of factor times sum of effects is the result.

        Args:
            lengths: number of tokens of each prompt.
        """
        import torch

        n_prompts = len(lengths)
        if self.name == "sum":
            return torch.ones(n_prompts, dtype=torch.float64)
        if self.name == "ctt":
            return torch.full((n_prompts,), n_prompts / int(lengths.sum()), dtype=torch.float64)
        sizes = [len(batch) * int(batch.max()) for batch in lengths.split(self.batch_size) for _ in batch]
        return self.columns / torch.tensor(sizes, dtype=torch.float64)

    def summary(self) -> str:
        """The aggregation in words."""
        if self.name == "sum":
            return "summed over positions, mean over prompts"
        if self.name == "ctt":
            return f"effects up to {self.threshold:g} set to zero, mean over tokens"
        return (
            f"effects up to {self.threshold:g} set to zero, mean over padded batches of {self.batch_size}, "
            f"times {self.columns} columns"
        )
