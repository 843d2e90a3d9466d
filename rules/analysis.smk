# Tables from result files: cells, grid, regimes, algorithms. These jobs do not need torch and take seconds; on a
# cluster they run on the node that runs Snakemake.

for study in STUDIES:

    rule:
        name:
            rule_parts.rule_name("cells", study.name)
        input:
            results_of(study),
        output:
            [f"{study.folder}/{table}.csv" for table in study.cell_tables],
        log:
            f"{RESULTS}/logs/cells/{study.name}.log",
        localrule: True
        conda:
            "../envs/analysis.yaml"
        params:
            study=study.name,
            settings=settings_of(study),
            tables=TABLES_VERSION,
        message:
            f"Tables of {study.name}"
        script:
            "../scripts/cells.py"


rule published:
    input:
        published_files(),
    output:
        f"{RESULTS}/{PUBLISHED}/cells.csv",
    log:
        f"{RESULTS}/logs/published.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    message:
        "The published Figure 2 as cells"
    script:
        "../scripts/published.py"


for grid in LOAD_GRIDS:

    rule:
        name:
            rule_parts.rule_name("load_grid", grid.name)
        input:
            [str(study.table("cells")) for study in grid.studies.values()],
        output:
            f"{grid.folder}/cells.csv",
        log:
            f"{RESULTS}/logs/load_grid/{grid.name}.log",
        localrule: True
        conda:
            "../envs/analysis.yaml"
        params:
            grid=grid.name,
            load=grid.load.name,
            density=grid.density,
            loads=list(grid.studies),
        message:
            f"{grid.name}: cells of {', '.join(study.name for study in grid.studies.values())}"
        script:
            "../scripts/load_grid.py"


for each in TABLED:

    rule:
        name:
            rule_parts.rule_name("regimes", each.name)
        input:
            cells=f"{each.folder}/cells.csv",
        output:
            [f"{each.folder}/{table}.csv" for table in REGIME_TABLES if table not in REPORTED_TABLES],
            [
                report(
                    f"{each.folder}/{table}.csv",
                    category=each.name,
                    caption=f"captions/{table}.rst",
                    labels={"figure": f"table: {table.replace('_', ' ')}"},
                )
                for table in REPORTED_TABLES
            ],
        log:
            f"{RESULTS}/logs/regimes/{each.name}.log",
        localrule: True
        conda:
            "../envs/analysis.yaml"
        params:
            study=each.name,
            tables=TABLES_VERSION,
            thresholds=asdict(thresholds_of(CONFIG, each.name)),
        message:
            f"Regimes and algorithms of {each.name}"
        script:
            "../scripts/regimes.py"


for study in [study for study in STUDIES if study.config.claims]:

    rule:
        name:
            rule_parts.rule_name("claims", study.name)
        input:
            [f"{study.folder}/{table}.csv" for table in ("cells", "replicas", "pairs")],
        output:
            report(
                f"{study.folder}/claims.csv",
                category=study.name,
                caption="captions/claims.rst",
                labels={"figure": "claims stated beforehand"},
            ),
            f"{study.folder}/claims.md",
        log:
            f"{RESULTS}/logs/claims/{study.name}.log",
        localrule: True
        conda:
            "../envs/analysis.yaml"
        params:
            study=study.name,
            tables=TABLES_VERSION,
            claims=[claim.model_dump(mode="json") for claim in study.config.claims],
            thresholds=asdict(thresholds_of(CONFIG, study.name)),
        message:
            f"Claims of {study.name}"
        script:
            "../scripts/claims.py"


rule case_studies:
    input:
        of_studies("grid.csv"),
    output:
        [f"{RESULTS}/{CASE_FOLDER}/{name}.csv" for name in CASE_TABLES],
    log:
        f"{RESULTS}/logs/case_studies.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        tables=TABLES_VERSION,
        thresholds={study.name: asdict(study.thresholds) for study in STUDIES},
        families=family_names(STUDIES),
        plain=without_sam(STUDIES),
    message:
        "Case studies 2 and 3 over all studies"
    script:
        "../scripts/case_studies.py"


rule scorecard:
    input:
        grids=of_studies("grid.csv"),
        published=f"{RESULTS}/{PUBLISHED}/cells.csv",
    output:
        markdown=f"{RESULTS}/scorecard.md",
        headline=report(
            f"{RESULTS}/scorecard.csv",
            category="scorecard",
            caption="captions/scorecard.rst",
            labels={"table": "headline numbers"},
        ),
        cells=f"{RESULTS}/scorecard_cells.csv",
    log:
        f"{RESULTS}/logs/scorecard.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        tables=TABLES_VERSION,
        thresholds=asdict(thresholds_of(CONFIG, FIGURE2_STUDY)),
        settings={study.name: study.config.model_dump(mode="json") for study in STUDIES}.get(FIGURE2_STUDY),
    message:
        "Score the obtained cells against the published Figure 2"
    script:
        "../scripts/scorecard.py"
