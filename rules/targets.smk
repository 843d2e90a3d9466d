# Collection targets: names without wildcards, each a part of the DAG for every planned study.


def of_stages(*stages):
    """Every file of these stages."""
    return [path for study in STUDIES for stage in stages for path in three_regime_workflow.products(study, stage)]


def of_studies(*names):
    """These files of every study."""
    return [f"{study.folder}/{name}" for study in STUDIES for name in names]


def of_tabled(*names):
    """These files of every study and of the published figure."""
    return [f"{folder}/{name}" for folder, _ in TABLED.values() for name in names]


def figure_files(*kinds):
    """Every figure in these formats."""
    return [f"{folder}/figures/{name}.{kind}" for folder, names in TABLED.values() for name in names for kind in kinds]


def over_all_studies():
    """Tables that compare studies with each other and with the published figure."""
    cases = [f"{RESULTS}/case_studies/{name}.csv" for name in CASE_TABLES] if STUDIES else []
    scores = [f"{RESULTS}/scorecard.md", f"{RESULTS}/scorecard.csv"] if CONFIG.published else []
    return cases + scores


localrules:
    data,
    dense,
    pruned,
    retrained,
    landscape,
    tables,
    figures,
    report,


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
        of_studies(*(f"{table}.csv" for table in CELL_TABLES)),
        of_tabled(*(f"{table}.csv" for table in REGIME_TABLES)),
        over_all_studies(),


rule figures:
    input:
        figure_files("pdf", "png", "csv"),


rule report:
    input:
        f"{RESULTS}/report.html",
