"""The documentation says what the code does."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer

import crosstime
import interventions
import tasks
from crosstime.cli.main import app
from crosstime.cli.reference import reference
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.recipe.shipped_recipes import shipped_recipes
from crosstime.runs.stages.names import NAMES

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


def test_the_reference_of_the_command_line_is_that_of_the_commands():
    assert (DOCS / "cli.md").read_text() == reference(app), "run: python -m crosstime.cli.reference > docs/cli.md"


def test_the_reference_has_every_verb_and_option():
    text = reference(app)
    for name, command in typer.main.get_command(app).commands.items():
        assert f"## crosstime {name}\n" in text
        for parameter in command.params:
            for option in parameter.opts:
                assert option in text or parameter.param_type_name == "argument"


@pytest.mark.parametrize("name", re.findall(r"^::: (\S+)$", (DOCS / "api.md").read_text(), re.M))
def test_what_the_python_reference_names_exists_and_says_what_it_does(name: str):
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[cut:]:
            value = getattr(value, attribute)
        break
    assert value.__doc__


ENTRIES = re.findall(r"^::: (\S+)\n(?: .*\n)*?      heading: (\S+)$", (DOCS / "api.md").read_text(), re.M)
PUBLIC = {
    "ct": sorted(crosstime.__all__),
    "ct.tasks": sorted(tasks.__all__),
    "ct.exchange": sorted(crosstime.exchange.__all__),
    "interventions": sorted(interventions.__all__),
}


def the_object(name: str) -> object:
    """What one gets by typing the name, after `import crosstime as ct` and `import interventions`."""
    root, *attributes = name.split(".")
    value: object = {"ct": crosstime, "interventions": interventions}[root]
    for attribute in attributes:
        value = getattr(value, attribute)
    return value


@pytest.mark.parametrize("namespace", PUBLIC)
def test_every_public_name_has_an_entry_under_the_heading_that_one_types(namespace: str):
    headings = {heading for _, heading in ENTRIES}
    # What a namespace takes from another one has its entry there: interventions.Site is ct.Site
    missing = [
        name
        for name in PUBLIC[namespace]
        if f"{namespace}.{name}" not in headings and not (f"ct.{name}" in headings and name in crosstime.__all__)
    ]
    assert not missing, f"docs/api.md has no entry with the heading {namespace}.{missing[0]}"


@pytest.mark.parametrize(("target", "heading"), ENTRIES)
def test_the_heading_of_an_entry_is_a_name_of_what_it_describes(target: str, heading: str):
    module, _, name = target.rpartition(".")
    described = importlib.import_module(module) if module else None
    described = getattr(described, name) if described and hasattr(described, name) else importlib.import_module(target)
    if heading.startswith(("ct.", "interventions.")):
        assert the_object(heading) is described
    else:
        assert heading == target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_links_between_pages_lead_somewhere(page: Path):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text()
    for page in PAGES:
        assert f" {page.relative_to(DOCS)}\n" in text, f"{page.relative_to(DOCS)} is not in mkdocs.yml"


def texts_of_code() -> str:
    """Every text in the code, a line each, with braces where something is filled in."""
    value = []
    for package in ("crosstime", "interventions", "tasks"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    value.append(node.value)
                elif isinstance(node, ast.JoinedStr):
                    parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
                    value.append("".join(map(str, parts)))
    return "\n".join(value).lower()


def test_the_messages_of_troubleshooting_are_those_of_the_code():
    rows = re.findall(r"^\| `([^`]+)`", (DOCS / "troubleshooting.md").read_text(), re.M)
    assert len(rows) > 10
    code = texts_of_code()
    for message in rows:
        varies = r"(?:stage )?'[^']*'|\([^)]*\)|\.\.\.|runs/\w+|manifest\.json|global_step\w+|JSON|\b[NM]\b"
        fixed = re.split(varies, message)
        longest = max((part.strip(" :;,") for part in fixed), key=len)
        assert len(longest) >= 7, message
        assert longest.lower() in code, message


def test_stages_and_recipes_are_named_as_they_are():
    recipes = (DOCS / "guides" / "recipes.md").read_text()
    assert ", ".join(f"`{name}`" for name in NAMES[1:]) in recipes
    guides = "".join(
        (DOCS / "guides" / f"{name}.md").read_text() for name in ("ctt", "eoc", "diffing", "parameter-rows")
    )
    for name in shipped_recipes():
        assert name == "demo" or name in guides


def test_the_recipe_of_the_guide_is_one():
    (text,) = re.findall(r"^```toml\n(.*?)^```", (DOCS / "guides" / "recipes.md").read_text(), re.M | re.S)
    assert Recipe.of(tomllib.loads(text)).crosscoder.kind == "batchtopk"


def test_the_documentation_is_built_with_an_extra():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {re.split(r"[>\[]", requirement)[0] for requirement in extras["docs"]} == {"mkdocs-material", "mkdocstrings"}


def test_help_does_not_wait_for_torch():
    code = "import sys; from crosstime.cli.main import app; app(['--help'], standalone_mode=False)"
    code += "; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("False")
    assert "status" in done.stdout
