# Collection targets: names without wildcards, each a part of the DAG for every planned study.


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
