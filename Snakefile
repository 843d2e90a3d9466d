"""A Three-regime Model of Network Pruning (Zhou, Yang, Chang, Mahoney; ICML 2023), reproduced.

download → prepare → dense → prune → retrain → lmc, cka → cells → regimes → figures → report

`snakemake` reproduces the whole paper; add `--configfile config/<preset>.yaml` for a smaller preset.
"""

from snakemake.utils import min_version

min_version("9.27")


if "frozen" not in config:  # jobs of a run use the configuration resolved at its start (three_regime.study.runs)

    configfile: f"{workflow.basedir}/config.yaml"


report: "rules/captions/workflow.rst"


include: "rules/common.smk"
include: "rules/targets.smk"
include: "rules/data.smk"
include: "rules/dense.smk"
include: "rules/prune.smk"
include: "rules/retrain.smk"
include: "rules/landscape.smk"
include: "rules/discard.smk"
include: "rules/analysis.smk"
include: "rules/figures.smk"


# These hooks run only in the main Snakemake process, not in jobs (`three_regime.jobs.kept_copies`).


onstart:
    snakemake_lock.note()  # again: another machine may have forgotten it before there was a lock
    check_writable()
    if not workflow.touch:
        running.freeze(workflow, CONFIG, CONFIG_FILES)
        running.before_jobs(STUDIES, workflow.dag)


onsuccess:
    running.after_jobs(RESULTS, workflow.dag, config)
    if told := recomputing.notice(workflow):
        logger.warning(told)
    if terminal.asked_for():
        terminal.tell(logger, CONFIG)


onerror:
    running.after_jobs(RESULTS, workflow.dag, config)


rule all:
    default_target: True
    input:
        rules.report.input,
        rules.tables.input,
        rules.figures.input,
        rules.explorer.input,
        rules.discarded.input,
    localrule: True


check_targets()
