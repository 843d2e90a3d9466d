"""Snakemake's own HTML report of the figures, from the settings that this run resolved."""

import subprocess
import sys
from pathlib import Path

from three_regime.errors import UserError
from three_regime.logs import reporting
from three_regime.system.files import replacing
from three_regime.workflow.html_report import arranged, without_early_ends

with reporting("report", Path(snakemake.log[0])), replacing(Path(snakemake.output[0])) as temporary:
    # Only the run's own file stands for itself: another is laid over config.yaml, which may have been edited since.
    settings = snakemake.config["frozen"]["file"] if "frozen" in snakemake.config else snakemake.input.config
    html = temporary.with_suffix(".html")  # Snakemake chooses the format by the ending
    command = [sys.executable, "-m", "snakemake", "figures", "tables", "--configfile", settings]
    command += ["--snakefile", str(Path(snakemake.scriptdir).parent / "Snakefile")]  # the working folder may be another
    command += ["--report", str(html), "--nolock", "--quiet"]
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode or not html.exists():
        html.unlink(missing_ok=True)
        raise UserError(f"snakemake --report failed: {' '.join(ended.stderr.split()[-60:])}")
    temporary.write_text(arranged(without_early_ends(html.read_text(encoding="utf-8"))), encoding="utf-8")
    html.unlink()
