"""Figures on disk: PDF and PNG with the numbers behind them, written atomically and the same every time."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
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
    with style.context():
        with replacing(pdf) as temporary:
            figure.savefig(temporary, format="pdf", metadata=_PDF_METADATA)
        with replacing(png) as temporary:
            figure.savefig(temporary, format="png", metadata={"Software": None})
    write_csv(csv, data)
    return [pdf, png, csv]
