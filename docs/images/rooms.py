"""Draw the figure of docs/design.md: the rooms of crosstime and the data that flow between them.

``python docs/images/rooms.py > docs/images/rooms.svg``
"""

from __future__ import annotations

from html import escape

WIDTH, HEIGHT = 1200, 630
FONT = "Helvetica Neue, Helvetica, Arial, Liberation Sans, sans-serif"
INK, MUTED, ARROW = "#1b1f24", "#57606a", "#1b56d6"
TOP, ROOM, TABLES, BASE = "#f4f5f7", "#e9effc", "#fdf0e6", "#e8f3ee"
"""Fill of the top rooms, of the rooms of the experiment, of the report, and of what all of them build on."""

COLUMN, BOX = 202, 150
"""Distance between two rooms of the experiment, and the width of their boxes, in pixels."""


def box(x: int, y: int, width: int, height: int, name: str, lines: list[str], fill: str) -> str:
    """Return a rounded box with a name in bold and lines of text below it."""
    parts = [
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{fill}" stroke="{MUTED}"/>',
        f'<text x="{x + 12}" y="{y + 22}" font-size="15" font-weight="bold" fill="{INK}">{escape(name)}</text>',
    ]
    parts += [
        f'<text x="{x + 12}" y="{y + 42 + 16 * i}" font-size="12" fill="{INK}">{escape(line)}</text>'
        for i, line in enumerate(lines)
    ]
    return "\n".join(parts)


def label(x: int, y: int, lines: list[str], anchor: str = "middle") -> str:
    """Return the lines of a label of an arrow."""
    return "\n".join(
        f'<text x="{x}" y="{y + 13 * i}" font-size="11" fill="{ARROW}" text-anchor="{anchor}">{escape(line)}</text>'
        for i, line in enumerate(lines)
    )


def arrow(*points: tuple[int, int]) -> str:
    """Return an arrow along straight lines through the points."""
    path = " ".join(f"{'L' if i else 'M'}{x} {y}" for i, (x, y) in enumerate(points))
    return f'<path d="{path}" fill="none" stroke="{ARROW}" stroke-width="1.6" marker-end="url(#head)"/>'


def figure() -> str:
    """Return the figure as SVG."""
    left, middle, below = 20, 190, 320
    x = [left + COLUMN * i for i in range(6)]
    right = x[5] + BOX
    across = right - left

    # The rooms that put an experiment together
    parts = [
        box(left, 20, across, 54, "cli", ["one file per verb: crosstime run, train, evolve, ..."], TOP),
        box(left, 92, across, 54, "runs", ["recipe (TOML) → stages that resume → run folder"], TOP),
    ]

    # The rooms of the experiment
    rooms = [
        ("suites", ["checkpoints, text,", "accuracy, similarity,", "selection, dips"]),
        ("activations", ["all checkpoints,", "token for token:", "buffer or store"]),
        ("training", ["L1, TopK, BatchTopK,", "JumpReLU trainers,", "checkpointing"]),
        ("crosscoders", ["encode, decode,", "decompose, evaluate,", "file formats"]),
        ("effects", ["attribute, ablate,", "faithfulness, RelIE,", "explain dips"]),
        ("evolution", ["life cycles, onsets,", "rotation, specificity"]),
    ]
    parts += [box(x[i], middle, BOX, 92, name, lines, ROOM) for i, (name, lines) in enumerate(rooms)]
    inner = (x[4] + x[5]) // 2 - 4
    parts.append(box(inner, below, BOX, 76, "features", ["contexts, logit lens,", "kinds, annotation"], ROOM))

    # What flows from room to room
    flows = [["text,", "models"], ["C B D"], ["weights"], ["codes", "T F"], ["IE", "C F"]]
    for i, lines in enumerate(flows):
        parts.append(arrow((x[i] + BOX, middle + 46), (x[i + 1] - 2, middle + 46)))
        parts.append(label(x[i] + BOX + 25, middle + 40 - 13 * (len(lines) - 1), lines))
    parts.append(arrow((x[4] + 120, middle + 92), (x[4] + 120, below - 2)))
    parts.append(label(x[4] + 114, middle + 112, ["IE"], "end"))
    parts.append(arrow((x[5] + 30, below), (x[5] + 30, middle + 94)))
    parts.append(label(x[5] + 38, middle + 112, ["kinds"], "start"))

    # Tables of all rooms meet in the report
    report = 440
    parts.append(box(left, report, across, 54, "report", ["tables → charts and one HTML page"], TABLES))
    tables = {
        0: (75, ["accuracy,", "similarity"]),
        2: (75, ["training curves"]),
        3: (75, ["evaluation"]),
        4: (30, ["IE, RelIE,", "ablation"]),
        5: (110, ["life", "cycles"]),
    }
    for i, (shift, lines) in tables.items():
        parts.append(arrow((x[i] + shift, middle + 92), (x[i] + shift, report - 2)))
        parts.append(label(x[i] + shift + 7, report - 58, lines, "start"))
    parts.append(arrow((inner + 75, below + 76), (inner + 75, report - 2)))
    parts.append(label(inner + 82, report - 16, ["contexts"], "start"))

    # What everything builds on
    base, third = 522, (across - 40) // 3
    foundations = [
        ("tasks", ["minimal pairs → prompts and answer tokens;", "knows tokenizers, but no models"]),
        ("interventions", ["models through nnsight: fetch, patch,", "indirect effects, ablation"]),
        (
            "machine, errors, display; user_input",
            ["atomic files, processes, progress bars;", "parsing within limits, nearest names"],
        ),
    ]
    parts += [
        box(left + i * (third + 20), base, third, 76, name, lines, BASE) for i, (name, lines) in enumerate(foundations)
    ]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="{FONT}" role="img">\n'
        "<title>Rooms of crosstime and the data that flow between them</title>\n"
        '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0L10 5L0 10z" fill="{ARROW}"/></marker></defs>\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    )
    return "\n".join([head, *parts, "</svg>"])


if __name__ == "__main__":
    print(figure())
