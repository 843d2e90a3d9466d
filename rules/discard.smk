# Disk space: remove weights that a study does not keep, once everything at their temperature has been measured.

for study in STUDIES:
    if study.config.keep != "all":

        rule:
            name:
                rule_parts.rule_name("discard", study.name)
            input:
                rule_parts.result_patterns(study),
            output:
                f"{study.folder}/seed{{seed}}/{{temperature}}/discarded.json",
            log:
                f"{RESULTS}/logs/discard/{study.name}/seed{{seed}}-{{temperature}}.log",
            priority: 10
            localrule: True
            conda:
                "../envs/analysis.yaml"
            params:
                study=study.name,
                keep=study.config.keep,
                settings=settings_of(study),
            message:
                "Discard weights, {wildcards}"
            script:
                "../scripts/discard.py"
