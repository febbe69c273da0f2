"""``crosstime recipes``"""

from __future__ import annotations


def recipes() -> None:
    """List the recipes that come with crosstime; `crosstime run NAME --dry-run` shows what one costs."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from crosstime.runs.recipe.recipe import Recipe
    from crosstime.runs.recipe.shipped_recipes import shipped_recipes

    table = Table.grid(padding=(0, 2))
    for name in shipped_recipes():
        table.add_row(Text(name, style="bold"), Text(Recipe.named(name).description))
    Console().print(table)
