"""Generate pages of the site: configuration keys, command line, archived results, the executed notebook."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from three_regime.cli import main
from three_regime.config.loading import schema_text
from three_regime.exchange.redraw import read_settings
from three_regime.figures import explorer
from three_regime.study.grid import planned
from three_regime.study.load_grids import load_grids

ROOT = Path(__file__).resolve().parents[1]

ARCHIVES = [path.parent for path in ROOT.glob("reference/obtained/*/manifest.json")]
EXPLORED = {f"explorer-{archive.name}.html": archive for archive in ARCHIVES}
"""Page that is an explorer → the archive that it shows, beside the published figure."""

IMAGES = {
    "images/published.png": "reference/figure2/redrawn.png",
    "images/figure2-cells-lines.png": (
        "reference/obtained/figure2-cells/cifar10-preresnet20-epochs/figures/lmc_lines.png"
    ),
    "images/mask-or-weights-lines.png": (
        "reference/obtained/mask-or-weights/cifar10-preresnet20-reinitialised/figures/lmc_lines.png"
    ),
    "images/sixteen-seeds.png": "reference/obtained/cifar10-cpu-seeds/cifar10-cpu-seeds/figures/seeds.png",
    "images/cifar10-cpu.png": "reference/obtained/cifar10-cpu/cifar10-cpu/figures/phase_diagram.png",
    "images/cifar10-cpu-seeds.png": "reference/obtained/cifar10-cpu/cifar10-cpu/figures/seeds.png",
}
"""Page image → file of the checkout."""

NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
"""Notebook that is a page of the site, with the outputs stored in it."""

PICTURES = (
    "Test error after retraining against dense training epochs, at 3, 6 and 50 % density: "
    "a dot for each of three dense seeds, a line for their mean.",
)
"""What each picture of `NOTEBOOK` shows, for those who do not see it."""

INCLUDED = re.compile(r"^\{\{ (\S+)( deeper)? \}\}$", flags=re.MULTILINE)
"""A line that includes a file of the checkout: ``{{ path }}``; ``deeper`` demotes its headings."""

CONFIGURATION = """# Configuration

All keys with type, default and meaning, generated from `schemas/config.schema.json`. Files given with `--configfile`
are merged over `config.yaml`: mappings key by key, lists are replaced. Unknown keys are errors, reported with the
nearest known name. Sources: **R** is the paper's public record, **A** the authors' code at commit b38c972, **N** the
group's earlier translation code ([Sources](method.md#sources)); everything else is this project's choice.
"""

COMMANDS = """# Commands

`python -m three_regime COMMAND`, where `python` is `.venv/bin/python`. This page is generated from the commands' help.
`make help` lists the make targets.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, explorers and the images of the checkout (mkdocs calls this)."""
    pages = {"configuration.md": configuration(), "commands.md": commands(), "notebook.md": notebook()}
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    for name, archive in EXPLORED.items():
        files.append(File.generated(config, name, content=explored(archive)))
    for name, source in IMAGES.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replace include lines by the files they name (mkdocs calls this)."""
    return included(markdown)


def explored(archive: Path) -> str:
    """The explorer of an archive, as `redraw` writes it."""
    settings = read_settings(archive)
    folders = {archive / each.name: each.thresholds for each in (*planned(settings), *load_grids(settings))}
    return explorer.render(folders, settings.regimes.thresholds)


def included(markdown: str) -> str:
    """Replace every line ``{{ path }}`` by that file, without its title."""
    return INCLUDED.sub(lambda found: _body(ROOT / found.group(1), deeper=bool(found.group(2))), markdown)


def _body(path: Path, *, deeper: bool) -> str:
    text = path.read_text(encoding="utf-8").strip()
    text = text.partition("\n")[2].strip() if text.startswith("# ") else text
    return re.sub(r"^(#{2,4} )", r"##\1", text, flags=re.MULTILINE) if deeper else text


def notebook() -> str:
    """The cells of `NOTEBOOK` and their outputs, after a link to the file."""
    title, *parts = _cells(json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"])
    heading, _, rest = title.partition("\n")
    return "\n\n".join([heading, f"[This notebook as a file]({NOTEBOOK.name})", rest.strip(), *parts]) + "\n"


def _cells(cells: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    pictures = iter(PICTURES)
    for cell in cells:
        text = "".join(cell["source"])
        yield f"```python\n{text}\n```" if cell["cell_type"] == "code" else text
        for output in cell.get("outputs", ()):
            yield _output(output.get("data") or {"text/plain": output["text"]}, pictures)


def _output(data: Mapping[str, Any], pictures: Iterator[str]) -> str:
    """An output in the richest of its forms; tables as the theme styles them, without pandas' own style."""
    if "image/png" in data:
        return f'<img alt="{next(pictures)}" src="data:image/png;base64,{data["image/png"].strip()}">'
    if "text/html" in data:
        table = re.sub(r"<style.*?</style>", "", "".join(data["text/html"]), flags=re.DOTALL)
        return re.sub(r' (border="1"|class="dataframe"|style="[^"]*")', "", table.replace("\n", ""))
    return f"```text\n{''.join(data['text/plain'])}\n```"


def configuration() -> str:
    """A table for each mapping of the configuration, the top level first."""
    schema = json.loads(schema_text())
    parts = [CONFIGURATION, "## Top level\n", _table(schema, schema)]
    for name, section in sorted(schema["$defs"].items()):
        if "properties" in section:
            about = section.get("description", "").split("\n\n")[0]
            parts += [f"## {_title(name)} {{ #{name.lower()} }}\n", f"{about}\n", _table(section, schema)]
    return "\n".join(parts)


def _title(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)


def _table(section: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    required = section.get("required", ())
    for key, value in section.get("properties", {}).items():
        default = "required" if key in required else _code(value["default"]) if "default" in value else ""
        rows.append(f"| `{key}` | {_type(value, schema)} | {default} | {_cell(value.get('description', ''))} |")
    return "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _code(value: Any) -> str:
    return f"`{json.dumps(value, ensure_ascii=False)}`" if value is not None else ""


def _type(value: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    if "$ref" in value:
        name = value["$ref"].rsplit("/", 1)[-1]
        return f"[{_title(name)}](#{name.lower()})" if "properties" in schema["$defs"][name] else _title(name)
    if "enum" in value:
        return ", ".join(_code(each) for each in value["enum"])
    if "const" in value:
        return _code(value["const"])
    for union in ("anyOf", "oneOf"):
        if union in value:
            kinds = (_type(each, schema) for each in value[union] if each.get("type") != "null")
            return " or ".join(dict.fromkeys(kinds))
    if value.get("type") == "array":
        return f"list of {_type(value.get('items', {}), schema)}" if value.get("items") else "list"
    if value.get("type") == "object":
        inner = value.get("additionalProperties") or next(iter(value.get("patternProperties", {}).values()), None)
        return f"name → {_type(inner, schema)}" if isinstance(inner, Mapping) else "mapping"
    return str(value.get("type", "value")) + _range(value)


def _range(value: Mapping[str, Any]) -> str:
    bounds = {"exclusiveMinimum": "&gt; ", "minimum": "≥ ", "exclusiveMaximum": "&lt; ", "maximum": "≤ "}
    said = [f"{sign}{value[key]:g}" for key, sign in bounds.items() if key in value]
    return f" ({', '.join(said)})" if said else ""


def commands() -> str:
    """The help of every command."""
    return "\n".join([COMMANDS, *_sections(main, ["python -m three_regime"], click.Context(main))])


def _sections(command: click.Command, names: list[str], context: click.Context) -> Iterator[str]:
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _sections(inner, [*names, name], click.Context(inner, info_name=name, parent=context))
        return
    context.info_name = " ".join(names)
    context.parent = None
    text = command.get_help(context)
    yield f"## {names[-1]}\n\n```text\n{text}\n```\n"
