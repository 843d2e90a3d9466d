# Linear mode connectivity: the barrier between each pair of replicas.

for study in STUDIES:
    job = stage_rule(study, "lmc")

    rule:
        name:
            job.name
        input:
            retrained=rule_parts.checkpoints(study, "retrain"),
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
            "LMC, {wildcards}"
        script:
            "../scripts/lmc.py"


# CKA: similarity of the outputs of each pair of replicas.

for study in STUDIES:
    job = stage_rule(study, "cka")

    rule:
        name:
            job.name
        input:
            retrained=rule_parts.checkpoints(study, "retrain"),
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
            "CKA, {wildcards}"
        script:
            "../scripts/cka.py"


# Additional measures of pairs and replicas in studies that name them (`measure.also`).

for study in [study for study in STUDIES if study.config.measure.also]:
    job = stage_rule(study, "measures")

    rule:
        name:
            job.name
        input:
            retrained=rule_parts.checkpoints(study, "retrain"),
            pruned=rule_parts.pruned_for_measures(study),
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
            "Additional measures, {wildcards}"
        script:
            "../scripts/measures.py"
