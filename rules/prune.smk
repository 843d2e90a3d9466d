# One-shot magnitude pruning of a dense checkpoint to every density.

for study in STUDIES:

    rule:
        name:
            bridge.rule_name("prune", study.name)
        input:
            **inputs_of(study, "prune"),
        output:
            **{kind: update(paths) for kind, paths in bridge.patterns(study, "prune").items()},
        log:
            job_path(study, "logs", "prune", ".log"),
        benchmark:
            job_path(study, "benchmarks", "prune", ".jsonl")
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
