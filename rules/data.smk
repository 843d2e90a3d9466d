# Data: verified downloads, and one array file a data set that training maps.

from three_regime.datasets.sources import load_sources

SOURCES = load_sources()


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
        lambda wildcards: [
            f"{DATA}/raw/{wildcards.dataset}/{path}"
            for name in DATASETS[wildcards.dataset].sources
            for path in SOURCES[name].files
        ],
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
        runtime=lambda wildcards, attempt: 30 * attempt,
    message:
        "Prepare {wildcards.dataset}"
    script:
        "../scripts/prepare.py"
