"""Figures on disk: PDF and PNG with the numbers behind them, written atomically and the same every time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure

from three_regime.figures import style
from three_regime.study.outputs import FIGURE_FORMATS
from three_regime.system.files import replacing, write_csv

_PDF_METADATA = {"Creator": "three_regime", "Producer": None, "CreationDate": None}
"""No date and no library version: a figure drawn twice from the same table is the same file."""


def save(figure: Figure, stem: Path, data: pd.DataFrame) -> list[Path]:
    """Write ``<stem>.pdf``, ``<stem>.png`` (300 dpi) and ``<stem>.csv``.

    Parameters
    ----------
    figure
        What one of this package's functions returned.
    stem
        Path without an extension; dots in its last part are kept. The folder is made where it is missing.
    data
        The table behind the figure.

    Returns
    -------
    list of Path
        The three files, in the order above.

    Raises
    ------
    UserError
        When the disk is full or the folder cannot be written.
    """
    pdf, png, csv = (Path(stem).parent / f"{Path(stem).name}.{extension}" for extension in FIGURE_FORMATS)
    with style.context(), _laid_out(figure):
        with replacing(png) as temporary:
            FigureCanvasAgg(figure).print_png(temporary, metadata={"Software": None})
        with replacing(pdf) as temporary:  # last: it changes the figure's resolution
            FigureCanvasPdf(figure).print_pdf(temporary, metadata=_PDF_METADATA)
    write_csv(csv, data)
    return [pdf, png, csv]


@contextmanager
def _laid_out(figure: Figure) -> Iterator[None]:
    """Lay the figure out once for all files; ``Figure.savefig`` lays it out, and draws it, twice for each."""
    engine, dpi = figure.get_layout_engine(), figure.dpi
    figure.dpi = mpl.rcParams["savefig.dpi"]
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    try:
        yield
    finally:
        figure.set_layout_engine(engine)
        figure.dpi = dpi
