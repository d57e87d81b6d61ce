"""The house's own rules: public surface, import cost, documentation, size budgets, plugins."""

from __future__ import annotations

import ast
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

import plankter
from plankter import _plugins
from plankter._errors import NotFound
from plankter._settings import SETTINGS

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src" / "plankter").rglob("*.py"))
HEAVY = ("openvino", "matplotlib", "pyarrow", "sqlalchemy", "openpyxl", "torch", "typer", "cv2", "pymongo")


def test_public_names_are_few_and_exist() -> None:
    assert len(plankter.__all__) <= 20
    assert plankter.__all__ == sorted(plankter.__all__, key=str.casefold)
    for name in plankter.__all__:
        assert getattr(plankter, name).__module__ in ("plankter.types", "plankter._errors")


def test_importing_plankter_imports_nothing_heavy() -> None:
    code = f"import sys, plankter; print([m for m in {HEAVY!r} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_help_imports_no_runtime() -> None:
    code = "import sys\nfrom plankter.cli import main\nsys.argv=['plankter','--help']\ntry: main()\nexcept SystemExit: pass\n"
    code += f"print([m for m in {HEAVY[:6]!r} if m in sys.modules], file=sys.stderr)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stderr.strip() == "[]"


def test_files_and_functions_stay_small() -> None:
    lengths, long = [], []
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        lengths.append(text.count("\n"))
        assert lengths[-1] <= 400, f"{path} has {lengths[-1]} lines"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (node.end_lineno or 0) - node.lineno >= 60:
                long.append(f"{path.parent.name}/{path.name}: {node.name}")
    assert sorted(lengths)[len(lengths) // 2] <= 250
    assert long == ["cli/train.py: train"]  # its options alone take as many lines


def test_no_print_outside_the_command_line_and_no_pickle() -> None:
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {
            node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        imports = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert "print" not in names or "cli" in path.parts, path
        assert not imports & {"pickle", "shelve", "marshal"}, path


def undocumented(body: list[ast.stmt], prefix: str = "") -> Iterator[str]:
    """Public functions and classes of a module, and methods of the classes, that have no docstring."""
    for node in body:
        if isinstance(node, ast.If | ast.Try):
            yield from undocumented(
                [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)], prefix
            )
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        if not (ast.get_docstring(node) or "").strip():
            yield f"{prefix}{node.name}, line {node.lineno}"
        if isinstance(node, ast.ClassDef):
            yield from undocumented(node.body, f"{prefix}{node.name}.")


def test_every_public_name_says_what_it_does() -> None:
    bare = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in SOURCES
        for name in undocumented(ast.parse(path.read_text(encoding="utf-8")).body)
    ]
    assert bare == []


def test_a_public_name_without_docstring_is_found() -> None:
    code = (
        "def _own(): ...\ndef bare(): ...\nasync def told():\n  'Says.'\n  def inner(): ...\n"
        "class _Own:\n  def f(self): ...\nclass Shown:\n  ' '\n  def f(self): ...\n  def __len__(self): ...\n"
        "if True:\n  def on(): ...\nelse:\n  def off(): ...\n"
    )
    found = [name.split(",")[0] for name in undocumented(ast.parse(code).body)]
    assert found == ["bare", "Shown", "Shown.f", "on", "off"]


def test_every_setting_is_documented() -> None:
    page = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    for setting in SETTINGS:
        assert f"`{setting.name}`" in page and setting.variable in page, setting.name


def test_every_command_and_option_is_documented() -> None:
    import typer

    from plankter.cli import app

    page = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    group = typer.main.get_command(app)
    for name, command in group.commands.items():
        assert f"## `plankter {name}" in page, name
        for parameter in command.params:
            for option in parameter.opts:
                if option.startswith("--"):
                    assert option in page, f"{name} {option}"


def test_an_unknown_plugin_is_named_with_those_there_are() -> None:
    with pytest.raises(NotFound, match="there are: csv, parquet"):
        _plugins.load("plankter.exporters", "xlsx")


def test_a_broken_plugin_warns_by_name_and_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[plankter.readers]\nbroken = no_such_module:Reader\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    _plugins.plugins.cache_clear()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = {plugin.name: plugin for plugin in _plugins.plugins("plankter.readers")}
        assert any("'broken'" in str(w.message) for w in caught)
        assert found["broken"].target is None and "no_such_module" in str(found["broken"].problem)
        assert found["flowcam"].target is not None
    finally:
        _plugins.plugins.cache_clear()


def test_all_built_in_plugins_load() -> None:
    for group in _plugins.GROUPS:
        for plugin in _plugins.plugins(group):
            assert plugin.problem is None, plugin
