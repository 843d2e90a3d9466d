# Data: verified downloads, and preparation into one array file per image data set or one folder per corpus.

from three_regime.config import DatasetChoice
from three_regime.preparation.prepare import recipe as prepare_recipe

for source in SOURCES.values():

    rule:
        name:
            f"download_{source.name}"
        output:
            update([f"{DATA}/raw/{source.dataset}/{path}" for path in source.files]),
        log:
            f"{RESULTS}/logs/download/{source.name}.log",
        localrule: True
        conda:
            "../envs/analysis.yaml"
        params:
            source=source.name,
        message:
            f"Download {source.name}"
        script:
            "../scripts/download.py"


rule prepare:
    input:
        lambda wildcards: raw_files(wildcards.dataset),
    output:
        f"{DATA}/{{dataset}}.safetensors",
    log:
        f"{RESULTS}/logs/prepare/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/prepare/{{dataset}}.jsonl"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: min(30 * attempt, CONFIG.max_runtime),
    params:
        recipe=lambda wildcards: prepare_recipe(DatasetChoice(name=wildcards.dataset)),
    message:
        "Prepare {wildcards.dataset}"
    script:
        "../scripts/prepare.py"


# Studies with equal settings of text preparation share one prepared corpus.
for study in rule_parts.prepared_as_chosen(STUDIES):

    rule:
        name:
            rule_parts.rule_name("prepare", study.config.dataset.folder)
        input:
            raw_files(study.config.dataset.name),
        output:
            str(study.prepared),
        log:
            f"{RESULTS}/logs/prepare/{study.config.dataset.folder}.log",
        benchmark:
            f"{RESULTS}/benchmarks/prepare/{study.config.dataset.folder}.jsonl"
        conda:
            "../envs/torch.yaml"
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 8000 * attempt,
            runtime=lambda wildcards, attempt: min(240 * attempt, CONFIG.max_runtime),
        params:
            recipe=prepare_recipe(study.config.dataset),
        message:
            f"Prepare {study.config.dataset.folder}"
        script:
            "../scripts/prepare.py"
