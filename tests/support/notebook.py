"""Execute the code cells of a notebook in order in one namespace, without Jupyter.

``python tests/support/notebook.py docs/notebook.ipynb`` stores their outputs in the file.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

FIGURE_METADATA = {"Software": None}
"""Of PNG files: equal figures are equal files."""


def source(cell: dict[str, Any]) -> str:
    """Text of a cell."""
    return "".join(cell["source"])


def execute(notebook: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Outputs of each code cell: what it prints, its last expression, and the figures that it draws."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    return [_run(source(cell), namespace) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def _run(text: str, namespace: dict[str, Any]) -> list[dict[str, Any]]:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    tree = ast.parse(text)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "cell", "exec"), namespace)
        value = eval(compile(ast.Expression(last.value), "cell", "eval"), namespace) if last else None
    outputs = []
    if printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": _lines(printed.getvalue())})
    if pyplot.get_fignums():
        outputs += [_display(_picture(pyplot.figure(number))) for number in pyplot.get_fignums()]
        pyplot.close("all")
    elif value is not None:
        outputs.append({**_display(_shown(value)), "output_type": "execute_result", "execution_count": None})
    return outputs


def _display(data: dict[str, Any]) -> dict[str, Any]:
    return {"output_type": "display_data", "data": data, "metadata": {}}


def _shown(value: Any) -> dict[str, Any]:
    html = getattr(value, "_repr_html_", lambda: None)()
    return {**({"text/html": _lines(html)} if html else {}), "text/plain": _lines(repr(value))}


def _picture(figure: Any) -> dict[str, Any]:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100, metadata=FIGURE_METADATA)
    return {"image/png": base64.b64encode(file.getvalue()).decode() + "\n", "text/plain": ["<Figure>"]}


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def main(path: Path) -> None:
    """Execute a notebook and store the outputs in it."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, (cell, outputs) in enumerate(zip(cells, execute(notebook), strict=True), start=1):
        numbered = [{**each, **({"execution_count": number} if "execution_count" in each else {})} for each in outputs]
        cell.update(execution_count=number, outputs=numbered)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
