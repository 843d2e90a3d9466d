# Dense training; with the epochs knob, one run yields every early-stop checkpoint.

for study in STUDIES:
    job = stage_rule(study, "dense")

    rule:
        name:
            job.name
        input:
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
            "Dense training, {wildcards}"
        script:
            "../scripts/dense.py"
