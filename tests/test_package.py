from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import crosstime as ct

ROOT = Path(ct.__file__).resolve().parent.parent


def python(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter that stands in `folder` and finds the packages last."""
    path = f"import sys; sys.path.append({str(ROOT)!r}); "
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-c", path + code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", ct.__all__)
def test_every_public_name_can_be_had_from_the_package(name: str):
    value = getattr(ct, name)
    assert getattr(ct, name) is value
    assert name in dir(ct)
    if callable(value):
        assert value.__doc__


def test_type_checkers_see_the_names_that_load_lazily():
    tree = ast.parse((ROOT / "crosstime" / "__init__.pyi").read_text())
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert sorted(alias.asname for node in imports for alias in node.names) == ct.__all__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="No crosstime attribute atribute"):
        _ = ct.atribute


def test_importing_the_package_loads_nothing_heavy(tmp_path):
    code = "import crosstime; print(sorted({'torch', 'nnsight', 'transformers', 'pandas'} & set(sys.modules)))"
    done = python(tmp_path, code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["tasks", "interventions"])
def test_a_module_in_the_working_folder_that_hides_a_package_is_named(tmp_path, name: str):
    (tmp_path / f"{name}.py").write_text("")
    done = python(tmp_path, "import crosstime")
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ImportError: crosstime needs its own package {name!r}")
    assert str(tmp_path.resolve() / f"{name}.py") in last
    assert "rename that file, or run from another folder" in last


def test_a_package_in_the_working_folder_that_hides_ours_is_named(tmp_path):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "__init__.py").write_text("")
    done = python(tmp_path, "import crosstime")
    assert done.returncode != 0
    assert str(tmp_path.resolve() / "tasks" / "__init__.py") in done.stderr


def test_a_folder_of_that_name_that_is_no_package_hides_nothing(tmp_path):
    (tmp_path / "tasks").mkdir()
    done = python(tmp_path, "import crosstime; print(crosstime.tasks.__file__)")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == ROOT / "tasks" / "__init__.py"


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [("tasks", {"interventions", "crosstime"}), ("interventions", {"tasks", "crosstime"})],
)
def test_lower_packages_do_not_import_upper_ones(package: str, forbidden: set[str]):
    for path in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            named = []
            if isinstance(node, ast.Import):
                named = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                named = [node.module]
            assert not {name.partition(".")[0] for name in named} & forbidden, path


def test_only_interventions_enters_a_trace():
    for package in ("tasks", "crosstime"):
        for path in sorted((ROOT / package).rglob("*.py")):
            source = path.read_text()
            assert "import nnsight" not in source, path
            assert "from nnsight" not in source, path
            assert ".trace(" not in source, path
