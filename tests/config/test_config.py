"""Configuration: errors name the key and the nearest valid one; valid settings reproduce the paper."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_study import ROOT, STUDY, mapping

from three_regime.config import Config, load, merge, resolve, schema_text
from three_regime.errors import UserError

PRESETS = sorted((ROOT / "config").glob("*.yaml"))


def changed(place: str, value: Any) -> dict[str, Any]:
    """The smallest configuration with one value replaced; ``study.`` stands for ``studies.tiny.``."""
    whole = copy.deepcopy(mapping(Path("anywhere")))
    *sections, last = place.replace("study.", "studies.tiny.", 1).split(".")
    section = whole
    for name in sections:
        section = section.setdefault(name, {})
    if value is ...:
        del section[last]
    else:
        section[last] = value
    return whole


MISSPELT = [
    ("reslts", "x", "results"),
    ("thread", 2, "threads"),
    ("data.foldr", "data", "folder"),
    ("regimes.cks", 0.9, "cka"),
    ("study.regimes.cks", 0.9, "cka"),
    ("study.temperature", [1], "temperatures"),
    ("study.replica", [1], "replicas"),
    ("study.dense_seed", [1], "dense_seeds"),
    ("study.dataset.train_image", 10, "train_images"),
    ("study.dense.learning_rat", 0.1, "learning_rate"),
    ("study.retrain.milestone", [1], "milestones"),
    ("study.prune.alocation", "global", "allocation"),
    ("study.measure.point", 11, "points"),
    ("study.resources.retrian", {}, "retrain"),
    ("study.resources.lmc.runtim", 5, "runtime"),
]

MALFORMED = [
    # the whole
    ("run", ["tinny"], "run"),
    ("run", ["tiny", "tiny"], "run"),
    ("run", "tiny", "run"),
    ("run", ..., "run"),
    ("results", "", "results"),
    ("results", None, "results"),
    ("device", "gpu", "device"),
    ("threads", 0, "threads"),
    ("threads", "many", "threads"),
    ("state_every_s", 0, "state_every_s"),
    ("state_every_s", float("inf"), "state_every_s"),
    ("data.folder", "", "folder"),
    ("data.offline", "folder", "offline"),
    ("regimes.lmc", 0.1, "lmc"),
    ("regimes.cka", 1.5, "cka"),
    ("regimes.cka", 1, "cka"),
    ("regimes.lmc", -1.1, "lmc"),
    ("study.regimes.lmc", 0.1, "regimes.lmc"),
    ("study.regimes.cka", 1.5, "regimes.cka"),
    ("studies", ..., "studies"),
    ("studies", [], "studies"),
    ("studies.Not A Name", STUDY, "Not A Name"),
    ("studies.tiny", None, "tiny"),
    # what
    ("study.dataset", "cifar11", "dataset.*did you mean 'cifar10'"),
    ("study.dataset", ..., "dataset"),
    ("study.dataset.train_images", 5000, "train_images is 5000, but digits has 1437"),
    ("study.dataset.test_images", 0, "test_images"),
    ("study.model", "resnet-20", "model.*preresnet-20"),
    ("study.model", "preresnet-21", "model.*preresnet-20"),
    ("study.model", "vgg-19", "vgg-19 needs images"),
    ("study.knob", "epoch", "knob.*did you mean 'epochs'"),
    # the grid
    ("study.temperatures", [], "temperatures"),
    ("study.temperatures", [1, 3], "temperatures: 3 is beyond the dense run of 2 epochs"),
    ("study.temperatures", [0], "temperatures: 0.* out of range"),
    ("study.temperatures", [1.5], "temperatures: 1.5 must be a whole number"),
    ("study.temperatures", [1, 1], "temperatures.*twice"),
    ("study.temperatures", [float("nan")], "temperatures"),
    ("study.densities", [], "densities"),
    ("study.densities", [0], "densities"),
    ("study.densities", [0.1, 1.01], "densities.1"),
    ("study.densities", [5], "densities"),
    ("study.densities", [float("nan")], "densities"),
    ("study.densities", [0.1, 0.1 + 1e-12], "densities.*differ by less than 0.0001 %"),
    ("study.densities", [0.1, 0.1000001, 0.1000002], "densities.*differ by less than 0.0001 %"),
    ("study.densities", [4e-7], "densities"),
    ("study.resources.dense.gpu", 2, "resources.dense.gpu"),
    ("study.dense_seeds", [], "dense_seeds"),
    ("study.dense_seeds", [-1], "dense_seeds"),
    ("study.dense_seeds", [1, 1], "dense_seeds.*twice"),
    ("study.replicas", [], "replicas"),
    ("study.replicas", [1, 1], "replicas.*twice"),
    ("study.replicas", ["a"], "replicas"),
    ("study.pack", ["density"], "pack"),
    ("study.pack", ["seed"], "pack"),
    # training
    ("study.dense.epochs", ..., "dense.*epochs.*iterations"),
    ("study.dense.iterations", 10, "dense.*not both"),
    ("study.dense", {"iterations": 100}, "dense.*epochs"),
    ("study.dense.milestones", [2, 1], "dense.*milestones"),
    ("study.dense.milestones", [3], "dense.*milestone 3 is beyond"),
    ("study.dense.milestones", [1, 3], "dense.*milestone 3 is beyond"),
    ("study.dense.milestones", [1, 1], "dense.*milestones"),
    ("study.dense.learning_rate", 0, "dense.learning_rate"),
    ("study.dense.learning_rate", float("inf"), "dense.learning_rate"),
    ("study.dense.learning_rate", "fast", "dense.learning_rate"),
    ("study.dense.momentum", 1, "dense.momentum"),
    ("study.dense.weight_decay", -1e-4, "dense.weight_decay"),
    ("study.dense.gamma", 0, "dense.gamma"),
    ("study.dense.batch_size", 0, "dense.batch_size"),
    ("study.dense.sam_rho", -0.1, "dense.sam_rho"),
    ("study.dense.optimiser", "sdg", "dense.optimiser.*did you mean 'sgd'"),
    ("study.dense.betas", [0.9, 1.0], "dense.*betas"),
    ("study.dense.betas", [0.9], "dense.betas"),
    ("study.dense.precision", "bf17", "dense.precision"),
    ("study.dense.precision", "bf16", "dense.precision: bf16 is for translation only"),
    ("study.dense.dropout", 0.1, "dense.dropout 0.1 is for translation only"),
    ("study.retrain.accumulate", 2, "retrain.accumulate 2 is for translation only"),
    ("study.knob", "dropout", "knob dropout is for translation only"),
    ("study.dense.schedule", "inverse_sqrt", "inverse_sqrt needs `warmup`"),
    ("study.dense.clip_norm", 0, "dense.clip_norm"),
    ("study.dense.evaluate_every", 0, "dense.evaluate_every"),
    ("study.retrain", ..., "retrain"),
    ("study.retrain.batch_size", 2.5, "retrain.batch_size"),
    ("study.prune.allocation", "other", "prune.allocation"),
    # measuring
    ("study.measure.points", 2, "measure.points"),
    ("study.measure.cka_images", 1, "measure.cka_images"),
    ("study.measure.cka_images", 201, "measure.cka_images 201 exceeds the 200"),
    ("study.measure.train_images", 201, "measure.train_images"),
    ("study.measure.last_epochs", 3, "measure.last_epochs 3 exceeds the 2 epochs"),
    ("study.resources.dense.mem_mb", 0, "resources.dense.mem_mb"),
    ("study.resources.dense.gpu", -1, "resources.dense.gpu"),
]


WHOLE_NUMBERS = [
    "threads",
    "max_runtime",
    "study.dense.epochs",
    "study.dense.batch_size",
    "study.retrain.milestones",
    "study.dense_seeds",
    "study.replicas",
    "study.measure.points",
    "study.measure.train_images",
    "study.dataset.train_images",
    "study.resources.dense.mem_mb",
]
NUMBERS = ["state_every_s", "regimes.lmc", "study.temperatures", "study.densities", "study.dense.gamma",
           "study.dense.clip_norm", "study.dense.learning_rate", "study.dense.betas"]  # fmt: skip
LISTS = ("milestones", "dense_seeds", "replicas", "temperatures", "densities", "betas")


@pytest.mark.parametrize(("place", "value", "nearest"), MISSPELT)
def test_a_misspelt_key_is_named_with_the_nearest_valid_one(place, value, nearest):
    with pytest.raises(UserError) as refused:
        resolve(changed(place, value))
    where = place.replace("study.", "studies.tiny.", 1)
    assert f"config.{where}: unknown key; did you mean '{nearest}'?" in str(refused.value)


@pytest.mark.parametrize(("place", "value", "said"), MALFORMED)
def test_a_malformed_value_is_refused_by_its_key(place, value, said):
    with pytest.raises(UserError, match=said) as refused:
        resolve(changed(place, value))
    lines = str(refused.value).splitlines()
    assert all(line.startswith("config") for line in lines), "one sentence a problem, from the key on"


@pytest.mark.parametrize("place", WHOLE_NUMBERS)
@pytest.mark.parametrize("value", [True, False, 1.0, 2.5, "1", "010", "yes", [1]])
def test_only_a_whole_number_is_a_whole_number(place, value):
    with pytest.raises(
        UserError, match=rf"config\.{place.replace('study', 'studies.tiny')}[.0]*: must be a whole number"
    ):
        resolve(changed(place, [value] if place.split(".")[-1] in LISTS else value))


@pytest.mark.parametrize("place", NUMBERS)
@pytest.mark.parametrize("value", [True, False, "1", "1e-3", "1:30", "yes"])
def test_only_a_number_is_a_number(place, value):
    with pytest.raises(UserError, match=rf"config\.{place.replace('study', 'studies.tiny')}[.0]*: must be a number"):
        resolve(changed(place, [value] if place.split(".")[-1] in LISTS else value))


@pytest.mark.parametrize(
    ("value", "meant"), [(True, True), ("yes", True), ("ON", True), ("no", False), ("off", False), (False, False)]
)
def test_a_boolean_may_be_written_as_a_word(value, meant):
    assert resolve(changed("study.dense.drop_last", value)).studies["tiny"].dense.drop_last is meant


@pytest.mark.parametrize("value", [0, 1, 1.0, "1", "y", "true-ish", None])
def test_nothing_else_is_a_boolean(value):
    with pytest.raises(UserError, match=r"config\.published: must be true or false"):
        resolve(changed("published", value))


def test_messages_speak_of_keys_and_not_of_the_library():
    for place, value, _ in [*MALFORMED, ("study.lockstep", "on", ""), ("study.lockstep", 0, "")]:
        with pytest.raises(UserError) as refused:
            resolve(changed(place, value))
        for foreign in ("Input should", "constrained-int", "literal[", "tuple", "pydantic", "instance of", "dict"):
            if foreign != "Input should" or "out of range" not in str(refused.value):
                assert foreign not in str(refused.value)


def test_mirrors_are_of_known_sources_and_are_addresses():
    for mirrors, said in (
        ({"cifra10": ["https://m.example/"]}, "unknown source 'cifra10'; did you mean 'cifar10'"),
        ({"cifar10": ["javascript:x"]}, "'javascript:x' is not a valid address"),
        ({"cifar10": ["m.example/cifar"]}, "'m.example/cifar' is not a valid address"),
        ({"cifar10": ["http://m.example:port/"]}, "is not a valid address"),
        ({"cifar10": ["https://m.example/a b"]}, "is not a valid address"),
        ({"cifar10": "https://m.example/"}, "must be a list"),
    ):
        with pytest.raises(UserError, match=rf"config\.data\.mirrors.*{said}"):
            resolve(changed("data.mirrors", mirrors))
    good = {"cifar10": ["https://m.example/", "http://127.0.0.1:8000/a/b.tar.gz"]}
    assert resolve(changed("data.mirrors", good)).data.mirrors["cifar10"] == tuple(good["cifar10"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"retrain": {"epochs": None, "iterations": 4, "milestones": []}}, "last_epochs 2 exceeds the 1 epochs"),
        ({"retrain": {"drop_last": True, "batch_size": 201}}, "retrain.batch_size 201 exceeds the 200"),
        ({"knob": "batch_size", "temperatures": [300], "dense": {"drop_last": True}}, "dense.batch_size 300"),
        (
            {"dense": {"schedule": "cosine", "milestones": [], "warmup": 1000}},
            r"dense\.warmup 1000 must be less than the \d+ iterations of the run: schedule cosine would never anneal",
        ),
        ({"knob": "batch_size", "temperatures": [0]}, "temperatures: 0.* out of range"),
        ({"knob": "learning_rate", "temperatures": [0]}, "temperatures: 0.* out of range"),
        ({"knob": "sam_rho", "temperatures": [-0.1]}, "temperatures: -0.1 is out of range"),
        ({"knob": "sam_rho", "temperatures": [0.12345678]}, "temperatures: .*six decimals"),
        ({"densities": [0.1, 2], "replicas": []}, "densities.1: .*\n.*replicas: "),  # both are said
    ],
)
def test_settings_that_do_not_fit_together_are_refused(changes, said):
    with pytest.raises(UserError, match=said):
        resolve(mapping(Path("anywhere"), **changes))


def test_the_smallest_configuration_is_right():
    config = resolve(mapping(Path("anywhere")))
    assert config.studies["tiny"].dataset.name == "digits"
    with pytest.raises(Exception, match="frozen"):
        config.threads = 3


# -- files


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("studies: {a: [}", "is not valid YAML"),
        ("- a\n- b\n", "must hold a mapping"),
        ("a: \t- b", "is not valid YAML: line 1: a tab"),
        ("just text", "must hold a mapping"),
    ],
)
def test_a_file_that_is_no_configuration_is_named(tmp_path, content, said):
    (tmp_path / "c.yaml").write_text(content)
    with pytest.raises(UserError, match=rf"c\.yaml {said}") as refused:
        load([tmp_path / "c.yaml"])
    assert "\n" not in str(refused.value)


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "c.yaml").write_bytes(b"results: \xff\xfe\x81")
    with pytest.raises(UserError, match=r"c\.yaml is not valid YAML"):
        load([tmp_path / "c.yaml"])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"absent\.yaml does not exist"):
        load([tmp_path / "absent.yaml"])


def test_later_files_are_laid_over_earlier_ones(tmp_path):
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(mapping(Path("anywhere"))))
    (tmp_path / "b.yaml").write_text("threads: 3\nstudies: {tiny: {densities: [0.25], dense: {momentum: 0.5}}}")
    (tmp_path / "c.yaml").write_text("")
    study = load([tmp_path / name for name in ("a.yaml", "b.yaml", "c.yaml")]).studies["tiny"]
    assert study.densities == (0.25,)
    assert (study.dense.momentum, study.dense.epochs) == (0.5, 2)


def test_a_fault_names_file_line_and_words(tmp_path):
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(mapping(Path("anywhere"))))
    (tmp_path / "b.yaml").write_text(
        "studies:\n  tiny:\n    temperatures: [1,\n      0o10, 1_0]\n    dense: {gama: 1}\n"
    )
    with pytest.raises(UserError) as refused:
        load([tmp_path / "a.yaml", tmp_path / "b.yaml"])
    assert str(refused.value).splitlines() == [
        "config.studies.tiny.temperatures.1: must be a number: write it as a decimal number (it is '0o10';"
        f" {tmp_path}/b.yaml, line 4), and 1 more in the list",
        f"config.studies.tiny.dense.gama: unknown key; did you mean 'gamma'? ({tmp_path}/b.yaml, line 5)",
    ]


def test_leading_zeros_are_those_of_folders(tmp_path):
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(mapping(Path("anywhere"))))
    (tmp_path / "b.yaml").write_text("studies: {tiny: {temperatures: [010, 020], dense: {epochs: 020}}}")
    study = load([tmp_path / "a.yaml", tmp_path / "b.yaml"]).studies["tiny"]
    assert (study.temperatures, study.dense.epochs) == ((10.0, 20.0), 20)


def test_lockstep_may_be_off(tmp_path):
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(mapping(Path("anywhere"))))
    (tmp_path / "b.yaml").write_text("studies: {tiny: {lockstep: off}}\npublished: no\n")
    config = load([tmp_path / "a.yaml", tmp_path / "b.yaml"])
    assert (config.studies["tiny"].lockstep, config.published) == ("off", False)


def test_merging_equals_snakemakes():
    """The command line and the Snakefile must see the same configuration."""
    update_config = pytest.importorskip("snakemake.utils").update_config
    generator = random.Random(0)

    def tree(depth: int) -> Any:
        if depth == 0 or generator.random() < 0.3:
            return generator.choice([0, 1, "x", None, [], [1, 2], {}, [{"a": 1}], 0.5, False])
        return {generator.choice("abcd"): tree(depth - 1) for _ in range(generator.randint(0, 3))}

    differed = 0
    for _ in range(500):
        base, overlay = ({key: tree(3) for key in generator.sample("abcd", 3)} for _ in range(2))
        expected = copy.deepcopy(base)
        update_config(expected, copy.deepcopy(overlay))
        before = copy.deepcopy((base, overlay))
        assert merge(base, overlay) == expected
        assert (base, overlay) == before, "the arguments must not change"
        differed += expected != {**base, **overlay}
    assert differed > 50, "nested cases must occur"


# -- the project's own


def test_the_schema_file_is_up_to_date():
    assert (ROOT / "schemas" / "config.schema.json").read_text(encoding="utf-8") == schema_text(), (
        "run `python -m three_regime schema > schemas/config.schema.json`"
    )


def test_every_key_has_a_description():
    schema = json.loads(schema_text())
    assert undescribed(schema) == []
    schema["$defs"]["Data"].pop("description")
    schema["$defs"]["Hessian"]["properties"]["seed"]["description"] = ""
    assert undescribed(schema) == ["Config.data", "Hessian.seed"], "a section without words is noticed"


def undescribed(schema: dict[str, Any]) -> list[str]:
    """Keys that neither have a description nor hold a section that has one."""
    sections = schema["$defs"]

    def described(entry: dict[str, Any]) -> bool:
        section = sections.get(entry.get("$ref", "").removeprefix("#/$defs/"), {})
        return bool(entry.get("description") or section.get("description"))

    keys = [(each["title"], *key) for each in (schema, *sections.values()) for key in each["properties"].items()]
    return [f"{title}.{name}" for title, name, entry in keys if not described(entry)]


def test_the_configuration_of_the_paper_resolves():
    config = load([ROOT / "config.yaml"])
    assert set(config.run) <= set(config.studies) and config.run


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_every_preset_resolves_over_it(preset):
    load([ROOT / "config.yaml", preset])
    overlay = yaml.safe_load(preset.read_text())
    assert "run" in overlay, "lists are replaced, so a preset must say what it runs"


def test_figure_two_is_the_papers():
    study = load([ROOT / "config.yaml"]).studies["cifar10-preresnet20-epochs"]
    assert (study.dataset.name, study.dataset.train_images, study.model) == ("cifar10", None, "preresnet-20")
    assert (study.knob, study.temperatures) == ("epochs", tuple(range(10, 161, 10)))
    assert study.densities == (0.05, 0.06, 0.07, 0.08, 0.1, 0.14, 0.2, 0.4, 0.8)
    assert study.dense_seeds == study.replicas == (1, 2, 3)
    for training in (study.dense, study.retrain):
        assert (training.optimiser, training.learning_rate, training.momentum) == ("sgd", 0.1, 0.9)
        assert (training.weight_decay, training.batch_size, training.drop_last) == (1e-4, 64, False)
        assert (training.epochs, training.milestones, training.gamma) == (160, (80, 120), 0.1)
        assert training.sam_rho == 0
    assert study.prune.allocation == "uniform"
    assert (study.measure.points, study.measure.batch_size, study.measure.train_images) == (11, 64, None)
    assert (study.measure.cka_images, study.measure.last_epochs) == (101 * 64, 5)


def by_knob(knob: str) -> list:
    return [study for study in load([ROOT / "config.yaml"]).studies.values() if study.knob == knob]


def test_the_batch_knob_is_the_papers():
    """62,400 iterations each, milestones at 50 % and 75 %, retraining at batch 128, partial batches dropped."""
    for study in by_knob("batch_size"):
        assert set(study.temperatures) == {16, 21, 27, 32, 38, 44, 52, 64, 92, 128, 180, 256, 512}
        for training in (study.dense, study.retrain):
            assert (training.iterations, training.milestones) == (62_400, (31_200, 46_800))
            assert training.drop_last
        assert study.retrain.batch_size == 128


def test_the_sam_knob_is_the_authors():
    """In dense training only; rho 0.1 to 0.8, beside baselines of this project's."""
    for study in by_knob("sam_rho"):
        assert set(study.temperatures) >= {k / 10 for k in range(1, 9)}
        assert study.retrain.sam_rho == 0
        assert study.dense_at(0.3).sam_rho == 0.3


def test_a_temperature_replaces_one_setting():
    study = resolve(mapping(Path("anywhere"), knob="batch_size", temperatures=[16, 32])).studies["tiny"]
    assert study.dense_at(16) == study.dense.model_copy(update={"batch_size": 16})
    epochs = resolve(mapping(Path("anywhere"))).studies["tiny"]
    assert epochs.dense_at(1) == epochs.dense, "one long run serves every early stop"


def test_defaults_are_the_papers():
    """A study that names only what it must."""
    needed = {key: STUDY[key] for key in ("dataset", "model", "knob", "temperatures", "densities")}
    run = {"epochs": 160}
    needed |= {"dense": run, "retrain": run, "dataset": "cifar10"}
    study = Config.model_validate({"run": ["s"], "studies": {"s": needed}}).studies["s"]
    assert study.dense_seeds == study.replicas == (1, 2, 3)
    assert (study.dense.learning_rate, study.dense.momentum, study.dense.weight_decay) == (0.1, 0.9, 1e-4)
    assert (study.measure.points, study.measure.cka_images, study.measure.last_epochs) == (11, 6464, 5)


@pytest.mark.parametrize(
    ("written", "meant"), [("out/", "out"), ("./out//x/", "out/x"), ("/out/", "/out"), ("../o", "../o")]
)
def test_folders_are_written_in_one_way(written, meant):
    """Snakemake compares paths as text."""
    config = resolve({**mapping(Path("anywhere")), "results": written, "data": {"folder": written}})
    assert config.results == config.data.folder == meant
