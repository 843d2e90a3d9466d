"""One data set as one array file (`three_regime.datasets.prepare`)."""

from pathlib import Path

from three_regime.config import resolve
from three_regime.datasets.prepare import prepare
from three_regime.logs import reporting

with reporting(f"prepare {snakemake.wildcards.dataset}", Path(snakemake.log[0])):
    prepare(snakemake.wildcards.dataset, Path(resolve(snakemake.config).data.folder))
