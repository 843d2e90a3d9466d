# Figures from the tables, the explorer and the HTML report. These jobs do not need torch and do not go through a cluster's queue.

for each in TABLED:

    rule:
        name:
            rule_parts.rule_name("draw", each.name)
        input:
            [f"{each.folder}/{table}.csv" for table in REGIME_TABLES],
            [f"{each.folder}/{table}.csv" for table in each.cell_tables],
        output:
            pdf=[f"{each.folder}/figures/{figure}.pdf" for figure in each.figures],
            csv=[f"{each.folder}/figures/{figure}.csv" for figure in each.figures],
            png=[
                report(
                    f"{each.folder}/figures/{figure}.png",
                    category=each.name,
                    caption=f"captions/{'measure' if figure in measured_columns() else figure}.rst",
                    labels={"figure": figure.replace("_", " ")},
                )
                for figure in each.figures
            ],
        log:
            f"{RESULTS}/logs/draw/{each.name}.log",
        localrule: True
        conda:
            "../envs/analysis.yaml"
        params:
            folder=lambda wildcards, input: os.path.dirname(input[0]),
            figures=each.figures,
            thresholds=asdict(thresholds_of(CONFIG, each.name)),
            words=each.words,
        message:
            f"Figures of {each.name}"
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
