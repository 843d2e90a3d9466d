"""Write all settings of a run, including defaults, beside its results."""

from pathlib import Path

import yaml

from three_regime.system.files import write_text
from three_regime.workflow.running import script

with script(snakemake, "settings"):
    write_text(Path(snakemake.output[0]), yaml.safe_dump(snakemake.params.config, sort_keys=False))
