# One-shot magnitude pruning of a dense checkpoint to every density.

for study in STUDIES:

    rule:
        name:
            three_regime_workflow.rule_name("prune", study.name)
        input:
            **inputs_of(study, "prune"),
        output:
            **{kind: update(paths) for kind, paths in three_regime_workflow.patterns(study, "prune").items()},
        log:
            three_regime_workflow.job_path(study, "logs", "prune", ".log"),
        benchmark:
            three_regime_workflow.job_path(study, "benchmarks", "prune", ".jsonl")
        conda:
            "../envs/analysis.yaml"
        threads: 1
        resources:
            **resources_of(study, "prune"),
        params:
            study=study.name,
            settings=settings(study, "prune"),
        message:
            "Prune, {wildcards}"
        script:
            "../scripts/prune.py"
