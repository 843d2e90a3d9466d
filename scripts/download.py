"""Download and verify one source (`three_regime.preparation.download`)."""

from pathlib import Path

from three_regime.config import resolve
from three_regime.datasets.sources import load_sources
from three_regime.preparation.download import obtain
from three_regime.workflow.running import script

with script(snakemake, f"download {snakemake.params.source}"):
    data = resolve(snakemake.config).data
    source = load_sources()[snakemake.params.source]
    obtain(
        source,
        Path(data.folder) / "raw" / source.dataset,
        offline=[Path(folder) for folder in data.offline],
        mirrors=data.mirrors.get(source.name, ()),
    )
