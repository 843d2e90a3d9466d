"""Download and verify one source (`three_regime.preparation.download`)."""

from pathlib import Path

from three_regime.config import resolve
from three_regime.datasets.sources import load_sources
from three_regime.logs import reporting
from three_regime.preparation.download import obtain

with reporting(f"download {snakemake.params.source}", Path(snakemake.log[0])):
    data = resolve(snakemake.config).data
    source = load_sources()[snakemake.params.source]
    obtain(
        source,
        Path(data.folder) / "raw" / source.dataset,
        offline=[Path(folder) for folder in data.offline],
        mirrors=data.mirrors.get(source.name, ()),
    )
