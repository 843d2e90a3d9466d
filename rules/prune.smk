# Pruning of each dense checkpoint to every density: one-shot and by magnitude unless the study sets a criterion or rounds.

for study in STUDIES:
    job = stage_rule(study, "prune")

    rule:
        name:
            job.name
        input:
            dense=rule_parts.checkpoints(study, "dense"),
            data=data_of(study) if study.config.prune.needs_data else [],
        output:
            **job.output,
        log:
            job.log,
        benchmark:
            job.benchmark
        conda:
            "../envs/analysis.yaml" if not study.config.prune.needs_data else "../envs/torch.yaml"
        threads: CONFIG.threads if study.config.prune.needs_data else 1
        resources:
            **job.resources,
        params:
            **job.params,
        message:
            "Prune, {wildcards}"
        script:
            "../scripts/prune.py"
