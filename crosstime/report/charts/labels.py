"""Where labels go, so that they do not lie on each other. Vega-Lite draws labels but places none."""

from __future__ import annotations

from collections.abc import Sequence

Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels."""

LETTER = 6.2
"""Mean width in pixels of a letter of an 11 px label."""


def spread(positions: Sequence[float | int], gap: float | int, low: float | int, high: float | int) -> list[float]:
    """Move labels on one axis as little as possible until they stand `gap` apart within [low, high].

    Minimises sum (y_i - p_i)^2 subject to y_(i+1) - y_i >= gap in the order of the positions: an isotonic
    regression of p_i - i gap, by pooling neighbours. When they cannot all fit, the gap shrinks.

    Args:
        positions: where each label would like to be, in any order and any unit.
        gap: the least distance, in that unit.
        low: the least position allowed.
        high: the greatest position allowed.

    Examples:
        >>> spread([0.5, 0.5], gap=0.25, low=0.0, high=1.0)
        [0.375, 0.625]
    """
    if not positions:
        return []
    gap = min(gap, (high - low) / max(1, len(positions) - 1))
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    pools: list[list[float]] = []  # mean, size
    for rank, index in enumerate(order):
        pools.append([positions[index] - rank * gap, 1.0])
        while len(pools) > 1 and pools[-2][0] >= pools[-1][0]:
            mean, size = pools.pop()
            before, weight = pools.pop()
            pools.append([(mean * size + before * weight) / (size + weight), size + weight])
    fitted = [mean for mean, size in pools for _ in range(int(size))]
    placed = [0.0] * len(positions)
    last = high - (len(positions) - 1) * gap
    for rank, index in enumerate(order):
        placed[index] = min(max(fitted[rank], low), last) + rank * gap
    return placed


def stagger(centres: Sequence[float | int], widths: Sequence[float | int], margin: float = 6.0) -> list[int]:
    """Give each label of one line the lowest row (0, 1, ...) in which it touches no other.

    Args:
        centres: horizontal centre of each label, in pixels.
        widths: width of each label, in pixels.
        margin: least distance between two labels of a row, in pixels.

    Examples:
        >>> stagger([10, 20, 100], [30, 30, 30])
        [0, 1, 0]
    """
    ends: list[float] = []
    rows = [0] * len(centres)
    for index in sorted(range(len(centres)), key=lambda index: centres[index]):
        left = centres[index] - widths[index] / 2
        row = next((row for row, end in enumerate(ends) if end + margin <= left), len(ends))
        if row == len(ends):
            ends.append(0.0)
        ends[row] = centres[index] + widths[index] / 2
        rows[index] = row
    return rows


def beside(
    points: Sequence[tuple[float | int, float | int]],
    texts: Sequence[str],
    size: tuple[float | int, float | int],
    *,
    radius: float = 4.5,
    height: float = 12.0,
) -> list[tuple[float, float] | None]:
    """Find for each point of a scatter a place for its label, or None where there is no free one.

    A label goes right of, left of, above or below its point, whichever is first to lie inside the picture
    and on no point and no earlier label. Earlier points have precedence.

    Args:
        points: x and y in pixels, y downwards.
        texts: the labels, of the first point, the second, ...; points beyond them are only kept clear.
        size: width and height of the picture in pixels.
        radius: of the drawn points.
        height: of a label.

    Returns:
        The centre of each label in pixels, or None.

    Examples:
        >>> beside([(50.0, 50.0)], ["f1"], (100.0, 100.0))
        [(62.2, 50.0)]
    """
    taken: list[Box] = [(x - radius, y - radius, x + radius, y + radius) for x, y in points]
    placed: list[tuple[float, float] | None] = []
    for (x, y), text in zip(points, texts, strict=False):
        wide = len(text) * LETTER
        aside, above = radius + 1.5 + wide / 2, radius + height / 2
        options = ((x + aside, y), (x - aside, y), (x, y - above), (x, y + above))
        chosen: tuple[float, float] | None = None
        for centre in options:
            box = _box(centre, wide, height)
            inside = box[0] >= 0 and box[1] >= 0 and box[2] <= size[0] and box[3] <= size[1]
            if inside and not any(_overlap(box, other) for other in taken):
                chosen = (round(centre[0], 1), round(centre[1], 1))
                taken.append(box)
                break
        placed.append(chosen)
    return placed


def _box(centre: tuple[float, float], width: float, height: float) -> Box:
    x, y = centre
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
