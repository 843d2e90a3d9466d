# Retraining of the pruned networks: every density and replica of a dense checkpoint in one pack.

for study in STUDIES:

    rule:
        name:
            bridge.rule_name("retrain", study.name)
        input:
            **inputs_of(study, "retrain"),
        output:
            **{kind: update(paths) for kind, paths in bridge.patterns(study, "retrain").items()},
        log:
            job_path(study, "logs", "retrain", ".log"),
        benchmark:
            job_path(study, "benchmarks", "retrain", ".jsonl")
        conda:
            "../envs/torch.yaml"
        threads: CONFIG.threads
        resources:
            **resources_of(study, "retrain"),
        params:
            study=study.name,
            settings=settings(study, "retrain"),
        message:
            "Retrain, {wildcards}"
        script:
            "../scripts/retrain.py"
