# Collection targets: rules without wildcards, each for a part of the DAG of every planned study. Long lists of files
# are functions, so cluster jobs, which parse this again, do not build them.


localrules:
    data,
    dense,
    pruned,
    retrained,
    landscape,
    tables,
    figures,
    explorer,
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
        cell_tables(),
        of_tabled(*(f"{table}.csv" for table in REGIME_TABLES)),
        claim_files(),
        over_all_studies(),


rule figures:
    input:
        figure_files(*FIGURE_FORMATS),


rule explorer:
    input:
        f"{RESULTS}/{EXPLORER_FILE}",


rule report:
    input:
        f"{RESULTS}/report.html",


rule discarded:
    input:
        [path for study in STUDIES for path in discard_records(study)],


# Targets of one study: `<study>_<target>`, and `<study>` for all of it; hyphens in the name become underscores.

for study in STUDIES:
    for target in ["", *COLLECTIONS, "tables", "figures"]:

        rule:
            name:
                "_".join(filter(None, [study.identifier, target]))
            input:
                part_of(study, target),
            localrule: True
