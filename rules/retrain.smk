# Retraining of the pruned networks; one pack holds every density and replica of a dense checkpoint.

for study in STUDIES:
    job = stage_rule(study, "retrain")

    rule:
        name:
            job.name
        input:
            pruned=rule_parts.checkpoints(study, "prune"),
            rewound=rule_parts.rewound(study),
            data=data_of(study),
        output:
            **job.output,
        log:
            job.log,
        benchmark:
            job.benchmark
        conda:
            "../envs/torch.yaml"
        threads: CONFIG.threads
        resources:
            **job.resources,
        params:
            **job.params,
        message:
            "Retrain, {wildcards}"
        script:
            "../scripts/retrain.py"
