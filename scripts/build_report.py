"""Build Snakemake's HTML report of the figures, with the settings of this run."""

import subprocess
import sys
from pathlib import Path

from three_regime.errors import UserError
from three_regime.system.files import replacing
from three_regime.workflow.html_report import arranged, without_early_ends
from three_regime.workflow.running import script

with script(snakemake, "report"), replacing(Path(snakemake.output[0])) as temporary:
    # The run's frozen file replaces config.yaml; any other file is merged over config.yaml, which may have been edited.
    settings = snakemake.config["frozen"]["file"] if "frozen" in snakemake.config else snakemake.input.config
    html = temporary.with_suffix(".html")  # Snakemake chooses the format by the suffix
    command = [sys.executable, "-m", "snakemake", "figures", "tables", "--configfile", settings]
    command += [
        "--snakefile",
        str(Path(snakemake.scriptdir).parent / "Snakefile"),
    ]  # not relative to the working folder
    command += ["--report", str(html), "--nolock", "--quiet"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace")
        if ended.returncode or not html.exists():
            raise UserError(f"snakemake --report failed: {' '.join(ended.stderr.split()[-60:])}")
        temporary.write_text(arranged(without_early_ends(html.read_text(encoding="utf-8"))), encoding="utf-8")
    finally:
        html.unlink(missing_ok=True)
