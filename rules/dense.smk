# Dense training: with the epochs knob one run yields every early-stop checkpoint.

for study in STUDIES:

    rule:
        name:
            bridge.rule_name("dense", study.name)
        input:
            **inputs_of(study, "dense"),
        output:
            **{kind: update(paths) for kind, paths in bridge.patterns(study, "dense").items()},
        log:
            job_path(study, "logs", "dense", ".log"),
        benchmark:
            job_path(study, "benchmarks", "dense", ".jsonl")
        conda:
            "../envs/torch.yaml"
        threads: CONFIG.threads
        resources:
            **resources_of(study, "dense"),
        params:
            study=study.name,
            settings=settings(study, "dense"),
        message:
            "Dense training, {wildcards}"
        script:
            "../scripts/dense.py"
