# Collection targets: names without wildcards, each a part of the DAG for every planned study. Long lists of files are
# functions, so that a job on a cluster, which reads this again, does not build them.


localrules:
    data,
    dense,
    pruned,
    retrained,
    landscape,
    tables,
    figures,
    report,
    discarded,


rule data:
    input:
        [str(study.prepared) for study in STUDIES],


rule dense:
    input:
        lambda wildcards: of_stages("dense"),


rule pruned:
    input:
        lambda wildcards: of_stages("prune"),


rule retrained:
    input:
        lambda wildcards: of_stages("retrain"),


rule landscape:
    input:
        lambda wildcards: of_stages("lmc", "cka", "measures"),


rule tables:
    input:
        of_studies(*(f"{table}.csv" for table in CELL_TABLES)),
        of_tabled(*(f"{table}.csv" for table in REGIME_TABLES)),
        claim_files(),
        over_all_studies(),


rule figures:
    input:
        figure_files(*FIGURE_FORMATS),


rule report:
    input:
        f"{RESULTS}/report.html",


rule discarded:
    input:
        [path for study in STUDIES for path in discard_records(study)],


# The same for one study, `<study>_<target>`, and all of one study, `<study>`; with underscores for hyphens.

for study in STUDIES:
    for target in ["", *COLLECTIONS, "tables", "figures"]:

        rule:
            name:
                "_".join(filter(None, [study.identifier, target]))
            input:
                part_of(study, target),
            localrule: True
