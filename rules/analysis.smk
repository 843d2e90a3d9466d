# From result files to tables: cells, grid, regimes, algorithms. Nothing here needs torch.

for study in STUDIES:

    rule:
        name:
            three_regime_workflow.rule_name("cells", study)
        input:
            [
                path
                for stage in STAGES
                for path in three_regime_workflow.products(study, stage)
                if path.endswith(".json")
            ],
        output:
            [f"{study.folder}/{table}.csv" for table in CELL_TABLES],
        log:
            f"{RESULTS}/logs/cells/{study.name}.log",
        conda:
            "../envs/analysis.yaml"
        params:
            study=study.name,
        message:
            f"Tables of {study.name}"
        script:
            "../scripts/cells.py"

    rule:
        name:
            three_regime_workflow.rule_name("regimes", study)
        input:
            cells=f"{study.folder}/cells.csv",
        output:
            [f"{study.folder}/{table}.csv" for table in REGIME_TABLES],
        log:
            f"{RESULTS}/logs/regimes/{study.name}.log",
        conda:
            "../envs/analysis.yaml"
        params:
            study=study.name,
            thresholds=CONFIG.regimes.model_dump(),
        message:
            f"Regimes and algorithms of {study.name}"
        script:
            "../scripts/regimes.py"
