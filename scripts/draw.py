"""All figures of one study from its tables (`three_regime.figures`)."""

from pathlib import Path

from three_regime import figures
from three_regime.config import resolve
from three_regime.logs import reporting
from three_regime.study import study

with reporting(f"draw {snakemake.params.study}", Path(snakemake.log[0])):
    owner = study(resolve(snakemake.config), snakemake.params.study)
    figures.draw_all(owner.folder)
