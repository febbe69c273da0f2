"""Place labels so that they do not overlap; Vega-Lite draws labels but does not place them."""

from __future__ import annotations

from collections.abc import Sequence

from scipy.optimize import isotonic_regression

Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels."""

LETTER = 6.2
"""Mean width in pixels of a letter of an 11 px label."""


def spread(positions: Sequence[float | int], gap: float | int, low: float | int, high: float | int) -> list[float]:
    """Move labels along an axis as little as possible until they are `gap` apart within [low, high].

    The result y minimises sum (y_i - p_i)^2 subject to y_(i+1) - y_i >= gap in the order of the positions p. This is
    an isotonic regression of p_i - i gap. If the labels cannot all fit, the gap is reduced.

    Args:
        positions: preferred position of each label, in any order and any unit.
        gap: least distance between two labels, in that unit.
        low: lower bound of the positions.
        high: upper bound of the positions.

    Returns:
        The position of each label, in the order of `positions`.

    Examples:
        >>> spread([0.5, 0.5], gap=0.25, low=0.0, high=1.0)
        [0.375, 0.625]
    """
    if not positions:
        return []
    gap = min(gap, (high - low) / max(1, len(positions) - 1))
    order = sorted(range(len(positions)), key=lambda index: positions[index])

    # Shift each label by its rank, so that labels that may not overlap are values that must not decrease
    means = isotonic_regression([positions[index] - rank * gap for rank, index in enumerate(order)]).x.tolist()

    # Undo the shift by the gap, and clamp to the bounds
    last = high - (len(positions) - 1) * gap
    result = [0.0] * len(positions)
    for rank, index in enumerate(order):
        result[index] = min(max(means[rank], low), last) + rank * gap
    return result


def stagger(centres: Sequence[float | int], widths: Sequence[float | int], margin: float = 6.0) -> list[int]:
    """Distribute labels over rows: each goes to the lowest row (0, 1, ...) in which it overlaps no other.

    Args:
        centres: horizontal centre of each label, in pixels.
        widths: width of each label, in pixels.
        margin: least distance between two labels of a row, in pixels.

    Returns:
        The row of each label.

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


def place_beside(
    points: Sequence[tuple[float | int, float | int]],
    texts: Sequence[str],
    size: tuple[float | int, float | int],
    *,
    radius: float = 4.5,
    height: float = 12.0,
) -> list[tuple[float, float] | None]:
    """Place the labels of a scatter plot next to their points.

    A label goes to the right of, to the left of, above or below its point: to the first of these positions that lies
    inside the plot and overlaps no point and no earlier label. Earlier points take precedence.

    Args:
        points: x and y in pixels, with y pointing down.
        texts: label of the first point, of the second, ...; points without a label are obstacles only.
        size: width and height of the plot in pixels.
        radius: radius of the drawn points in pixels.
        height: height of a label in pixels.

    Returns:
        The centre of each label in pixels, or None for a label that has no free position.

    Examples:
        >>> place_beside([(50.0, 50.0)], ["f1"], (100.0, 100.0))
        [(62.2, 50.0)]
    """
    occupied: list[Box] = [(x - radius, y - radius, x + radius, y + radius) for x, y in points]
    centres: list[tuple[float, float] | None] = []
    for (x, y), text in zip(points, texts, strict=False):
        width = len(text) * LETTER
        across, down = radius + 1.5 + width / 2, radius + height / 2
        centre: tuple[float, float] | None = None

        # Take the first candidate that is inside the plot and free
        for candidate in ((x + across, y), (x - across, y), (x, y - down), (x, y + down)):
            box = _box(candidate, width, height)
            inside = box[0] >= 0 and box[1] >= 0 and box[2] <= size[0] and box[3] <= size[1]
            if inside and not any(_overlap(box, obstacle) for obstacle in occupied):
                centre = (round(candidate[0], 1), round(candidate[1], 1))
                occupied.append(box)
                break

        centres.append(centre)
    return centres


def _box(centre: tuple[float, float], width: float, height: float) -> Box:
    x, y = centre
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
