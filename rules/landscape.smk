# Linear mode connectivity: the barrier between each pair of replicas.

for study in STUDIES:

    rule:
        name:
            bridge.rule_name("lmc", study.name)
        input:
            **inputs_of(study, "lmc"),
        output:
            **{kind: update(paths) for kind, paths in bridge.patterns(study, "lmc").items()},
        log:
            job_path(study, "logs", "lmc", ".log"),
        benchmark:
            job_path(study, "benchmarks", "lmc", ".jsonl")
        conda:
            "../envs/torch.yaml"
        threads: CONFIG.threads
        resources:
            **resources_of(study, "lmc"),
        params:
            study=study.name,
            settings=settings(study, "lmc"),
        message:
            "LMC, {wildcards}"
        script:
            "../scripts/lmc.py"


# CKA: how similar the outputs of each pair of replicas are.

for study in STUDIES:

    rule:
        name:
            bridge.rule_name("cka", study.name)
        input:
            **inputs_of(study, "cka"),
        output:
            **{kind: update(paths) for kind, paths in bridge.patterns(study, "cka").items()},
        log:
            job_path(study, "logs", "cka", ".log"),
        benchmark:
            job_path(study, "benchmarks", "cka", ".jsonl")
        conda:
            "../envs/torch.yaml"
        threads: CONFIG.threads
        resources:
            **resources_of(study, "cka"),
        params:
            study=study.name,
            settings=settings(study, "cka"),
        message:
            "CKA, {wildcards}"
        script:
            "../scripts/cka.py"
