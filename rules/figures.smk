# Figures from the tables, the explorer and the HTML report. These jobs do not need torch and do not go through a cluster's queue.

for name, (folder, figures_of) in TABLED.items():

    rule:
        name:
            rule_parts.rule_name("draw", name)
        input:
            [f"{folder}/{table}.csv" for table in REGIME_TABLES],
            [f"{folder}/{table}.csv" for table in CELL_TABLES_OF[name]],
        output:
            pdf=[f"{folder}/figures/{figure}.pdf" for figure in figures_of],
            csv=[f"{folder}/figures/{figure}.csv" for figure in figures_of],
            png=[
                report(
                    f"{folder}/figures/{figure}.png",
                    category=name,
                    caption=f"captions/{'measure' if figure in measured_columns() else figure}.rst",
                    labels={"figure": figure.replace("_", " ")},
                )
                for figure in figures_of
            ],
        log:
            f"{RESULTS}/logs/draw/{name}.log",
        localrule: True
        conda:
            "../envs/analysis.yaml"
        params:
            folder=lambda wildcards, input: os.path.dirname(input[0]),
            figures=figures_of,
            thresholds=asdict(thresholds_of(CONFIG, name)),
            words=CAPTION_WORDS[name],
        message:
            f"Figures of {name}"
        script:
            "../scripts/draw.py"


rule build_explorer:
    input:
        of_studies("grid.csv", *(f"{table}.csv" for table in CELL_TABLES)),
        [f"{grid.folder}/grid.csv" for grid in LOAD_GRIDS],
        published_files() if CONFIG.published else [],
    output:
        f"{RESULTS}/{EXPLORER_FILE}",
    log:
        f"{RESULTS}/logs/explorer.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        thresholds={str(each.folder): asdict(each.thresholds) for each in (*STUDIES, *LOAD_GRIDS)},
        published=asdict(thresholds_of(CONFIG, PUBLISHED)) if CONFIG.published else None,
    message:
        "The explorer: one page to open in a browser"
    script:
        "../scripts/build_explorer.py"


rule settings:
    output:
        f"{RESULTS}/{SETTINGS_FILE}",
    log:
        f"{RESULTS}/logs/settings.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        config=CONFIG.model_dump(mode="json"),
    message:
        "Write all settings, including defaults"
    script:
        "../scripts/settings.py"


rule build_report:
    input:
        figure_files("png", "pdf", "csv"),
        cell_tables(),
        of_tabled(*(f"{table}.csv" for table in REGIME_TABLES)),
        claim_files(),
        over_all_studies(),
        config=f"{RESULTS}/{SETTINGS_FILE}",
    output:
        f"{RESULTS}/report.html",
    log:
        f"{RESULTS}/logs/report.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    message:
        "Build the HTML report"
    script:
        "../scripts/build_report.py"
