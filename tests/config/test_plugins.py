"""Plugins: which files are refused, and what the message names."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import yaml
from tiny_study import mapping

from three_regime.config import load, plugins
from three_regime.errors import UserError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, which is also searched for modules."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def unused_module() -> str:
    """An installed module that nothing has imported."""
    names = ("this", "antigravity", "turtledemo", "mailbox", "nntplib", "sndhdr", "cgitb", "chunk")
    return next(name for name in names if name not in sys.modules and importlib.util.find_spec(name))


def test_a_plugin_does_not_hide_an_installed_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = unused_module()
    Path(f"{name}.py").write_text("")
    with pytest.raises(
        UserError, match=rf"plugins: {name}\.py has the name of an installed module, {name} \(/.*rename"
    ):
        plugins.load([f"{name}.py"])
    assert name not in sys.modules


@pytest.mark.parametrize("beside", ["folder", "file", "nothing"])
def test_a_plugin_is_found_beside_what_is_not_installed(folder: Path, beside: str) -> None:
    """A folder of results, and another file of the working folder, are no installed modules."""
    name = f"own_plugin_beside_{beside}"
    (folder / "elsewhere").mkdir()
    plugin = folder / "elsewhere" / f"{name}.py"
    plugin.write_text("")
    if beside == "folder":
        (folder / name).mkdir()
    elif beside == "file":
        (folder / f"{name}.py").write_text("1/0")
    try:
        plugins.load([str(plugin)])
        plugins.load([str(plugin)])
        assert sys.modules[name].__file__ == str(plugin)
    finally:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "does not exist, neither here nor in "),
        ("import nosuch_module", "cannot be imported: ModuleNotFoundError: No module named 'nosuch_module'"),
        ("from three_regime.errors import UserError\nraise UserError('a bad knob')", ": a bad knob"),
    ],
)
def test_a_faulty_plugin_is_named_with_its_line(folder: Path, text: str | None, said: str) -> None:
    if text is not None:
        (folder / "faulty_plugin.py").write_text(text)
    (folder / "a.yaml").write_text(yaml.safe_dump(mapping(folder)))
    (folder / "b.yaml").write_text("threads: 1\nplugins: [json,\n  faulty_plugin.py]\n")
    with pytest.raises(UserError) as refused:
        load([folder / "a.yaml", folder / "b.yaml"])
    assert str(refused.value).startswith("plugins: faulty_plugin.py")
    assert said in str(refused.value)
    assert str(refused.value).endswith(f" ({folder / 'b.yaml'}, line 3)")
