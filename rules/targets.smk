# Collection targets: names without wildcards, each a part of the DAG for every planned study.


def of_stages(*stages):
    """Every file of these stages."""
    return [path for study in STUDIES for stage in stages for path in three_regime_workflow.products(study, stage)]


def of_studies(*names):
    """These files of every study."""
    return [f"{study.folder}/{name}" for study in STUDIES for name in names]


localrules:
    all,
    data,
    dense,
    pruned,
    retrained,
    landscape,
    tables,
    figures,
    report,


rule all:
    default_target: True
    input:
        f"{RESULTS}/report.html",


rule data:
    input:
        [str(study.prepared) for study in STUDIES],


rule dense:
    input:
        of_stages("dense"),


rule pruned:
    input:
        of_stages("prune"),


rule retrained:
    input:
        of_stages("retrain"),


rule landscape:
    input:
        of_stages("lmc", "cka"),


rule tables:
    input:
        of_studies(*(f"{table}.csv" for table in (*CELL_TABLES, *REGIME_TABLES))),


rule figures:
    input:
        of_studies(*(f"figures/{name}.{kind}" for name in FIGURES for kind in ("pdf", "png", "csv"))),


rule report:
    input:
        f"{RESULTS}/report.html",
