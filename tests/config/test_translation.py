"""Configuration of translation studies: compatible settings, fingerprints, and plan."""

from __future__ import annotations

import pytest
import translation_study as tiny
from checkout import ROOT

from three_regime.config import StudyConfig, Training, load, resolve
from three_regime.errors import UserError
from three_regime.planning.plan import make
from three_regime.planning.plan_table import render
from three_regime.planning.pricing import Rates
from three_regime.study.grid import study_named
from three_regime.study.products import pack, training_recipe
from three_regime.study.stages import STAGES
from three_regime.tasks.translation.pricing import TextPricer, text_speed
from three_regime.workflow import job_resources
from three_regime.workflow.job_resources import first_runtime

RATES = {
    "device": "cuda",
    "models": {
        "preresnet-20": {
            "train_images_per_s": 1, "evaluate_images_per_s": 1, "reestimate_images_per_s": 1, "parameters": 272282,
        }
    },
}  # fmt: skip
TEXT_RATES = {"transformer-1x16x2": {"train_tokens_per_s": 100, "evaluate_tokens_per_s": 400,
                                     "decode_sentences_per_s": 5, "subwords": 300}}  # fmt: skip


@pytest.mark.parametrize(("changes", "said"), [
    ({"model": "preresnet-20"}, "model preresnet-20 takes images, but toy holds text"),
    ({"model": "transformer-1x16x3"}, "nearest: transformer-1x16x2"),
    ({"measure": {"cka_images": 100}}, "measure.cka_images does not apply to toy, which holds text"),
    ({"measure": {"last_epochs": 2}}, "measure.last_epochs does not apply to toy"),
    ({"measure": {"train_pairs": 201}}, "measure.train_pairs 201 exceeds the 200 training pairs"),
    ({"measure": {"beam": 0}}, "measure.beam"),
    ({"dataset": {"max_tokens": 1024}}, "dataset.max_tokens 1024 exceeds 1023: the model takes 1024 tokens"),
    ({"measure": {"length_penalty": -1}}, "measure.length_penalty"),
    ({"dense": {"batch_size": 40}}, r"dense.batch_size 40 \(tokens\) is less than the 41"),
    ({"retrain": {"batch_size": 40}}, "retrain.batch_size 40"),
    ({"knob": "batch_size", "temperatures": [30, 80]}, "dense.batch_size 30"),
    ({"knob": "dropout", "temperatures": [0.5, 1]}, "temperatures: 1.0 is out of range for dropout"),
    ({"dense": {"milestones": [1]}}, "schedule inverse_sqrt takes no milestones"),
    ({"dense": {"schedule": "linear", "milestones": [1]}}, "schedule linear takes no milestones"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_by_its_key(tmp_path, changes, said):
    with pytest.raises(UserError, match=said):
        tiny.config(tmp_path, **changes)


def test_keys_of_text_are_refused_for_images():
    whole = load([ROOT / "config.yaml", ROOT / "config" / "tiny.yaml"]).model_dump(mode="json")
    for change, said in (({"measure": {"beam": 8}}, "measure.beam does not apply to digits, which holds images"),
                         ({"model": "transformer-base"}, "takes text, but digits holds images")):  # fmt: skip
        study_ = {**whole["studies"]["tiny"], **change}
        with pytest.raises(UserError, match=said):
            resolve({**whole, "studies": {"tiny": study_}})


def test_an_alias_stands_for_the_one_name_in_fingerprints(tmp_path):
    named = [tiny.config(tmp_path, model=name) for name in ("transformer-base", "transformer-6x512x8")]
    assert named[0] == named[1]


def fingerprints(settings, stage):
    return [product.recipe for product in pack(tiny.study_of(settings), stage, 1, 2.0)]


@pytest.mark.parametrize(("changes", "stale"), [
    ({"measure": {"beam": 3}}, {"dense", "retrain"}),
    ({"measure": {"train_pairs": 50}}, {"dense", "retrain", "lmc", "cka"}),
    ({"measure": {"cka_tokens": 100}}, {"cka"}),
    ({"measure": {"bleu_along_line": True}}, {"lmc"}),
    ({"measure": {"points": 5}}, {"lmc"}),
    ({"dataset": {"validation_pairs": 5}}, {"dense", "retrain", "lmc", "cka"}),
    ({"retrain": {"dropout": 0.2}}, {"retrain"}),
    ({"dense": {"accumulate": 1}}, {"dense"}),
    ({"dense": {"clip_norm": 2.0}}, {"dense"}),
    ({"dense": {"evaluate_every": 2}}, set()),
    ({"dense": {"schedule": "cosine"}}, {"dense"}),
    ({"retrain": {"schedule": "step", "milestones": [1], "epochs": 2}}, {"retrain"}),
    ({"retrain": {"shuffle_ties": True}}, {"retrain"}),
])  # fmt: skip
def test_a_setting_makes_stale_what_it_changes_and_nothing_else(tmp_path, changes, stale):
    before, after = tiny.config(tmp_path), tiny.config(tmp_path, **changes)
    assert {stage for stage in STAGES if fingerprints(before, stage) != fingerprints(after, stage)} == stale


def test_early_stops_depend_on_the_length_of_annealing(tmp_path):
    """Of other runs it does not: a longer one has the same beginning."""
    for schedule, changed in (("inverse_sqrt", False), ("step", False), ("linear", True), ("cosine", True)):
        short, long = (tiny.config(tmp_path, dense={"schedule": schedule, "epochs": epochs}) for epochs in (2, 3))
        assert (fingerprints(short, "dense") != fingerprints(long, "dense")) == changed, schedule


def test_adam_is_fairseqs_for_text_and_torchs_for_images(tmp_path):
    """Unless the settings say otherwise; the filled-in configuration is read back as it is."""
    bare = {key: value for key, value in tiny.mapping(tmp_path)["studies"][tiny.NAME].items() if key != "dense"}
    dense = {"optimiser": "adam", "epochs": 2}
    found = StudyConfig.model_validate({**bare, "dense": dense})
    assert found.dense.epsilon_placement == "fairseq"
    assert StudyConfig.model_validate(found.model_dump(mode="json")) == found
    chosen = StudyConfig.model_validate({**bare, "dense": {**dense, "epsilon_placement": "torch"}})
    assert chosen.dense.epsilon_placement == "torch"
    assert StudyConfig.model_validate({**bare, "dense": {"epochs": 2}}).dense.epsilon_placement == "torch", "no Adam"
    images = load([ROOT / "config.yaml", ROOT / "config" / "tiny.yaml"]).studies["tiny"].model_dump(mode="json")
    images["dense"] = {**dense, "epochs": 4}
    assert StudyConfig.model_validate(images).dense.epsilon_placement == "torch"


def test_another_epsilon_makes_text_stale_but_not_images(tmp_path):
    """Recipes from before the setting had no such key: those of text have changed, those of images have not."""
    settings = tiny.prepared(tiny.config(tmp_path))
    (dense,) = (product for product in pack(tiny.study_of(settings), "dense", 1, 2.0))
    assert dense.recipe["training"].pop("epsilon_placement") == "fairseq"
    before = dense.fingerprint
    (now,) = pack(tiny.study_of(settings), "dense", 1, 2.0)
    assert now.accepts(now.fingerprint) and not now.accepts(before)
    assert all("epsilon_placement" in recipe["training"] for recipe in fingerprints(settings, "retrain"))

    common = {
        "learning_rate": 0.1, "weight_decay": 1e-4, "batch_size": 64, "gamma": 0.1, "drop_last": False, "sam_rho": 0.0,
        "precision": "tf32", "unit": "epochs", "length": 160, "milestones": [80, 120],
    }  # fmt: skip
    images = {"epochs": 160, "milestones": (80, 120)}
    assert training_recipe(Training(**images)) == {"optimiser": "sgd", "momentum": 0.9, **common}
    adam = {"optimiser": "adam", "betas": [0.9, 0.999], "epsilon": 1e-8, **common}
    assert training_recipe(Training(optimiser="adam", **images)) == adam


def test_hours_are_unknown_until_a_transformer_has_been_measured(tmp_path):
    settings = tiny.config(tmp_path)
    text = render(make(settings, [], Rates.model_validate(RATES)))
    assert "Hours of tiny-translation are unknown (?) and not in the totals" in text
    assert "Longest chain, with a device for every job: unknown." in text
    assert all(" ? " in line for line in text.splitlines() if line.split()[1:2] in (["dense"], ["retrain"], ["lmc"]))


def test_a_chain_that_leaves_studies_out_says_so(tmp_path):
    images = load([ROOT / "config.yaml", ROOT / "config" / "tiny.yaml"]).studies["tiny"]
    settings = tiny.config(tmp_path)
    both = settings.model_copy(update={"run": ("tiny", tiny.NAME), "studies": {"tiny": images, **settings.studies}})
    rates = Rates.model_validate(RATES)
    chain = make(both, ["tiny"], rates).longest_chain_s
    assert chain > 0
    text = render(make(both, [], rates))
    assert f"Longest chain, with a device for every job: at least {round(chain)} seconds, without {tiny.NAME}." in text
    assert "at least" not in render(make(both, [], Rates.model_validate({**RATES, "text_models": TEXT_RATES})))


def test_cpu_hours_count_the_threads_of_the_rates(tmp_path):
    settings = tiny.config(tmp_path)
    rates = {**RATES, "device": "cpu", "threads": 2}
    own = {name: {**model, "threads": 1} for name, model in TEXT_RATES.items()}
    for text_models, threads in ((TEXT_RATES, 2), (own, 1)):
        found = make(settings, [], Rates.model_validate({**rates, "text_models": text_models}))
        assert {row.stage: row.threads for row in found.rows if row.stage in STAGES} == {
            "dense": threads, "prune": 1, "retrain": threads, "lmc": threads, "cka": threads,
        }  # fmt: skip


def test_measured_rates_price_tokens_and_sentences(tmp_path):
    settings = tiny.config(tmp_path)
    study = tiny.study_of(settings)
    rates = Rates.model_validate({**RATES, "text_models": TEXT_RATES})
    speed, pricer = text_speed(rates, study), TextPricer(study)
    assert speed.scaled == ""
    work = pricer.job(pack(study, "retrain", 1, 2.0))
    tokens = 200 * pricer.tokens_a_pair
    assert work.train == 4 * tokens and work.decoded == 4 * 2 * tiny.HELD_OUT * pricer.tokens_a_pair / 28
    assert work.evaluate == pytest.approx(4 * (100 + 2 * tiny.HELD_OUT) * pricer.tokens_a_pair)
    assert speed.seconds(work) == pytest.approx(work.train / 100 + work.evaluate / 400 + work.decoded / 5)
    assert "unknown" not in render(make(settings, [], rates))
    larger = tiny.study_of(tiny.config(tmp_path, model="transformer-2x32x2"))
    scaled = text_speed(rates, larger)
    assert scaled.train < speed.train and "transformer-1x16x2 with 300 subwords" in scaled.scaled


def test_own_text_is_priced_before_it_is_prepared(tmp_path):
    for split, lines in (("train", 70), ("validation", 7), ("test", 5)):
        for language in ("fr", "it"):
            (tmp_path / f"{split}.{language}").write_text("un\n" * lines)
    own = {"name": "text-files", "files": str(tmp_path), "languages": ["fr", "it"], "subwords": 100}
    own |= dict.fromkeys(("train_pairs", "validation_pairs", "test_pairs"))
    changes = {"dataset": own, "measure": {"train_pairs": 50}}
    pricer = TextPricer(study_named(tiny.config(tmp_path, **changes), tiny.NAME))
    assert pricer.pairs == 70 and pricer.score_bytes > 0
    (tmp_path / "train.fr").unlink()
    assert TextPricer(study_named(tiny.config(tmp_path, **changes), tiny.NAME)).pairs == 0


def test_a_length_in_iterations_is_priced_by_tokens(tmp_path):
    """Half an epoch of tokens, not the epoch that it begins."""
    half = {"batch_size": 100, "accumulate": 1, "iterations": 28, "epochs": None}  # 200 pairs of 28 tokens: 56 steps
    pricer = TextPricer(tiny.study_of(tiny.config(tmp_path, retrain=half)))
    retrain = pricer.study.config.retrain
    assert (pricer.steps(retrain), pricer.epochs(retrain)) == (56, 1)
    assert pricer._training(retrain, None).train == pytest.approx(100 * pricer.tokens_a_pair)


def test_a_warm_up_of_unknown_share_is_refused(tmp_path):
    """Before the text is prepared, nobody knows the iterations of an epoch."""
    retrain = {"epochs": None, "iterations": 100, "schedule": "cosine", "warmup": 10}
    assert tiny.config(tmp_path, retrain=retrain)
    with pytest.raises(UserError, match="prune.epochs: how many iterations they are is unknown .*retrain in `epochs`"):
        tiny.config(tmp_path, retrain=retrain, prune={"rounds": 2, "epochs": 1})


def test_unmeasured_transformers_ask_for_configured_minutes(tmp_path, monkeypatch):
    study = tiny.study_of(tiny.config(tmp_path))
    rates = {**RATES, "device": "cpu"}
    monkeypatch.setattr(job_resources, "_rates", lambda gpu: Rates.model_validate(rates))
    assert first_runtime(study, "retrain", 2.0, None, 1) == study.config.resources.retrain.runtime
    slow = {**TEXT_RATES["transformer-1x16x2"], "train_tokens_per_s": 1}
    rates["text_models"] = {"transformer-1x16x2": slow}
    assert first_runtime(study, "retrain", 2.0, None, 1) > study.config.resources.retrain.runtime


def test_the_wmt14_study_is_read_without_its_data():
    study = study_named(load([ROOT / "config.yaml"]), "wmt14-transformer-epochs")
    pricer = TextPricer(study)
    assert pricer.pairs == 640_000 and pricer.network.prunable == 44_040_192
    steps, first = pricer.steps(study.config.dense), min(study.temperatures)
    assert study.config.dense.warmup <= steps and first * steps >= 2 * study.config.dense.warmup
    trained = 3 * 20 + 486 * 20
    assert trained * pricer.pairs * pricer.tokens_a_pair == pytest.approx(1.75e11, rel=0.01)


def test_measured_rates_are_in_the_format_that_the_plan_reads(tmp_path):
    from benchmarks.translation import rates

    training = Training(
        optimiser="adam", learning_rate=1e-4, epochs=1, batch_size=500, schedule="inverse_sqrt", warmup=10, dropout=0.1
    )  # fmt: skip
    found = {"transformer-1x16x2": rates("transformer-1x16x2", 100, "cpu", training, 64, 1)}
    study = tiny.study_of(tiny.config(tmp_path))
    speed = text_speed(Rates.model_validate({**RATES, "text_models": found}), study)
    assert speed.train > 0 and speed.evaluate > 0 and 0 < speed.decode < speed.train
