# One-shot magnitude pruning of each dense checkpoint to every density.

for study in STUDIES:
    job = stage_rule(study, "prune")

    rule:
        name:
            job.name
        input:
            dense=rule_parts.checkpoints(study, "dense"),
        output:
            **job.output,
        log:
            job.log,
        benchmark:
            job.benchmark
        conda:
            "../envs/analysis.yaml"
        threads: 1
        resources:
            **job.resources,
        params:
            **job.params,
        message:
            "Prune, {wildcards}"
        script:
            "../scripts/prune.py"
