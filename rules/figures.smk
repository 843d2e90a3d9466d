# Figures from the tables, and the HTML report. Nothing here needs torch.

for study in STUDIES:

    rule:
        name:
            three_regime_workflow.rule_name("draw", study)
        input:
            [f"{study.folder}/{table}.csv" for table in (*CELL_TABLES, *REGIME_TABLES)],
        output:
            pdf=[f"{study.folder}/figures/{name}.pdf" for name in FIGURES],
            csv=[f"{study.folder}/figures/{name}.csv" for name in FIGURES],
            png=[
                report(
                    f"{study.folder}/figures/{name}.png",
                    category=study.name,
                    caption=f"captions/{name}.rst",
                    labels={"figure": name.replace("_", " ")},
                )
                for name in FIGURES
            ],
        log:
            f"{RESULTS}/logs/draw/{study.name}.log",
        conda:
            "../envs/analysis.yaml"
        params:
            study=study.name,
        message:
            f"Figures of {study.name}"
        script:
            "../scripts/draw.py"


rule settings:
    output:
        f"{RESULTS}/config.yaml",
    log:
        f"{RESULTS}/logs/settings.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        config=CONFIG.model_dump(mode="json"),
    message:
        "Write down every setting, defaults filled in"
    script:
        "../scripts/settings.py"


rule build_report:
    input:
        of_studies(*(f"figures/{name}.png" for name in FIGURES)),
        of_studies("cells.csv", "selection_summary.csv"),
        config=f"{RESULTS}/config.yaml",
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
