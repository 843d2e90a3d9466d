"""A complete translation study, from preparation to tables and figures; kills; commands on single checkpoints."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import numpy as np
import pytest
import translation_study as tiny
from checkout import ROOT
from click.testing import CliRunner
from matplotlib.text import Text
from tiny_study import start

from three_regime.analysis import regime_tables, tables
from three_regime.cli import main
from three_regime.config import DatasetChoice
from three_regime.config.thresholds import Thresholds
from three_regime.figures.study import Tables, drawn
from three_regime.planning import plan
from three_regime.planning.pricing import Rates
from three_regime.preparation.prepare import prepare
from three_regime.study.fingerprints import input_digest
from three_regime.study.grid import prepared_path
from three_regime.study.products import pack
from three_regime.study.stages import STAGES
from three_regime.system.files import read_arrays, read_json, read_metadata, write_arrays
from three_regime.tasks.translation.bleu import hypotheses_of, restored

NEWSTEST = ROOT.parent / "shared" / "data" / "deen"


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The configuration of a finished study with its tables."""
    settings = tiny.prepared(tiny.config(tmp_path_factory.mktemp("translation")))
    for stage in STAGES:
        outcomes = tiny.run(settings, stage)
        assert all(outcome.kept == 0 for outcome in outcomes)
    tables.write(tiny.study_of(settings))
    regime_tables.write(tiny.study_of(settings).folder, Thresholds(-0.12, 0.99))
    return settings


@pytest.fixture(scope="session")
def built(finished):
    return tables.build(tiny.study_of(finished))


def results(settings, stage):
    study = tiny.study_of(settings)
    return [read_json(p.outputs[0]) for t in study.temperatures for p in pack(study, stage, 1, t)]


def test_nothing_is_computed_twice(finished):
    for stage in STAGES:
        assert all(outcome.computed == 0 for outcome in tiny.run(finished, stage))


def test_a_finished_study_costs_nothing_on_unmeasured_machines(finished):
    measured = {"train_images_per_s": 1, "evaluate_images_per_s": 1, "reestimate_images_per_s": 1, "parameters": 1}
    rates = Rates.model_validate({"device": "cpu", "models": {"preresnet-20": measured}})
    found = plan.make(finished, ["landscape"], rates)
    assert found.longest_chain_s == 0 and not found.unpriced and all(row.seconds == 0 for row in found.rows)


@pytest.mark.parametrize("stage", ["dense", "retrain"])
def test_checkpoints_hold_bleu_of_both_sets_with_its_signature(finished, stage):
    for result in results(finished, stage):
        scores = result["scores"]
        assert scores["beam"] == 2 and scores["length_penalty"] == 0.6
        for split in ("validation", "test"):
            assert 0 <= scores[split]["bleu"] <= 100 and 0 <= scores[split]["greedy_bleu"] <= 100
            assert scores[split]["sentences"] == tiny.HELD_OUT
            assert "tok:13a" in scores[split]["signature"] and 0 <= scores[split]["chrf"] <= 100
            assert len(restored(scores[split]["hypotheses"], "")) == tiny.HELD_OUT
        assert {"ve-fairseq", "sacrebleu"} <= result["provenance"]["versions"].keys()


def test_the_error_of_a_cell_is_one_minus_bleu_on_validation(finished, built):
    cells, replicas = built["cells"], built["replicas"]
    np.testing.assert_allclose(replicas["test_error"], 1 - replicas["bleu"] / 100)
    np.testing.assert_allclose(cells["test_error"], 1 - cells["bleu"] / 100)
    np.testing.assert_allclose(cells["dense_test_error"], 1 - cells["dense_bleu"] / 100)
    mean = replicas.groupby(["temperature", "density"])["bleu_test"].mean()
    np.testing.assert_allclose(cells.set_index(["temperature", "density"])["bleu_test"].sort_index(), mean.sort_index())
    assert cells[["lmc", "lmc_nll", "cka_logits", "cka_softmax"]].notna().all(axis=None)


def test_density_is_of_prunable_weights_beside_the_models(finished, built):
    about = read_metadata(pack(tiny.study_of(finished), "dense", 1, 1.0)[0].outputs[-1])
    prunable = json.loads(about["prunable"])
    arrays = read_arrays(pack(tiny.study_of(finished), "dense", 1, 1.0)[0].outputs[-1])
    of_prunable = sum(arrays[name].size for name in prunable)
    everything = sum(array.size for array in arrays.values())
    assert int(about["parameters"]) == everything
    for row in built["cells"].itertuples():
        assert row.model_density == pytest.approx(1 - of_prunable * (1 - row.density) / everything, abs=1e-3)


def test_cka_says_how_many_tokens_it_compared(finished):
    assert {result["tokens"] for result in results(finished, "cka")} == {200}
    assert all(0 < result["softmax"] <= 1 for result in results(finished, "cka"))


def test_a_line_of_token_errors_ends_at_the_replicas(finished):
    by_place = {(r["temperature"], r["density"], r["replica"]): r for r in results(finished, "retrain")}
    for line in results(finished, "lmc"):
        assert len(line["train_error"]) == 11 and "bleu" not in line
        for end, replica in ((0, line["pair"][0]), (-1, line["pair"][1])):
            replica = by_place[line["temperature"], line["density"], replica]
            assert line["train_error"][end] == replica["train"]["error"]
            assert line["test_nll"][end] == replica["test"]["nll"]


def test_bleu_along_the_line_is_measured_where_it_is_asked_for(finished, tmp_path):
    folder = Path(finished.results).parent
    settings = tiny.config(folder, measure={"bleu_along_line": True, "points": 3})
    study = tiny.study_of(settings)
    from three_regime.jobs.run import run_job

    run_job(settings, tiny.NAME, "lmc", 1, 2.0, 0.5)
    (line,) = [read_json(p.outputs[0]) for p in pack(study, "lmc", 1, 2.0, 0.5)]
    replicas = {r["replica"]: r for r in results(finished, "retrain") if (r["temperature"], r["density"]) == (2.0, 0.5)}
    assert len(line["bleu"]) == 3
    assert line["bleu"][0] == pytest.approx(replicas[1]["scores"]["validation"]["bleu"])
    assert line["bleu"][-1] == pytest.approx(replicas[2]["scores"]["validation"]["bleu"])
    assert "bleu" in tables.build(study)["lines"]
    run_job(finished, tiny.NAME, "lmc", 1, 2.0, 0.5)  # as it was


@pytest.mark.parametrize(("name", "words"), [
    ("phase_diagram", ["100 − BLEU", "LMC, training\ntoken error (fraction)"]),
    ("error_against_density", ["100 − BLEU", "(a) 100 − BLEU"]),
    ("lmc_lines", ["training token error (fraction)"]),
    ("training_curves", ["validation token error (%)"]),
])  # fmt: skip
def test_figures_speak_of_bleu_and_tokens(finished, name, words):
    figure, data = drawn(Tables(tiny.study_of(finished).folder, Thresholds()), name)
    texts = [text.get_text() for text in figure.findobj(Text)]
    assert all(any(word in text for text in texts) for word in words), texts
    assert not any("test error" in text for text in texts)
    assert len(data)


def killed(arguments: list[str], state: Path, after: float) -> None:
    """Start a stage and kill it some time after its first saved state."""
    process = start(arguments)
    deadline = time.monotonic() + 240
    while not state.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(after)
    process.kill()
    process.communicate()


@pytest.mark.slow
def test_trainings_killed_at_random_resume_bit_identically(finished, tmp_path):
    draw = np.random.default_rng(11)
    settings = tiny.config(tmp_path)
    state = Path(settings.results) / ".state" / tiny.NAME / "seed1"
    (tmp_path / "data").symlink_to(finished.data.folder)
    places = {"dense": state / "dense.state.safetensors",
              "retrain": state / "epochs001" / "density050" / "replica1" / "retrain.state.safetensors"}  # fmt: skip
    for stage in ("dense", "prune", "retrain"):
        arguments = tiny.command(tmp_path, stage)
        if stage in places:
            killed(arguments, places[stage], float(draw.uniform(0, 0.3)))
        log = tiny.finish(arguments)
        if stage == "dense":
            assert "fairseq" not in log and "Please install" not in log
        assert tiny.digests(settings, stage) == tiny.digests(finished, stage)


@pytest.fixture
def invoke(monkeypatch, finished):
    monkeypatch.chdir(Path(finished.results).parent)

    def call(*arguments) -> str:
        with_level = logging.getLogger("three_regime").level
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        logging.getLogger("three_regime").setLevel(with_level)
        return f"{result.exit_code} {result.output}"

    return call


def checkpoint(finished, stage="retrain", index=0) -> Path:
    study = tiny.study_of(finished)
    density = None if stage == "dense" else 0.5
    return pack(study, stage, 1, 2.0, density)[index].outputs[-1]


def test_a_file_is_translated_and_scored_by_hand(finished, invoke, tmp_path):
    source, out = tmp_path / "in.de", tmp_path / "out.en"
    folder = tiny.study_of(finished).prepared.parent
    lines = (folder / "validation.de").read_text().splitlines()[: tiny.HELD_OUT]
    source.write_text("\n".join([*lines, "", "Unbekanntes Wort ☃"]) + "\n")
    answer = invoke("translate", checkpoint(finished), "--source", source, "--out", out, "--beam", 2)
    assert answer.startswith("0 ") and f"{tiny.HELD_OUT + 2} sentences" in answer
    found = out.read_text().split("\n")
    assert len(found) == tiny.HELD_OUT + 3 and found[tiny.HELD_OUT] == found[-1] == ""
    references = tmp_path / "ref.en"
    references.write_text(
        "".join(f"{line}\n" for line in (folder / "validation.en").read_text().splitlines()[: tiny.HELD_OUT])
    )
    out.write_text("".join(f"{line}\n" for line in found[: tiny.HELD_OUT]))
    score = read_json(checkpoint(finished).with_suffix(".json"))["scores"]["validation"]
    assert f"BLEU {score['bleu']:.2f} ({tiny.HELD_OUT} sentences) {score['signature']}" in invoke(
        "bleu", "--hyp", out, "--ref", references
    )


def test_kept_translations_are_the_checkpoints_and_comparable(finished, invoke, tmp_path):
    first, second = checkpoint(finished), checkpoint(finished, index=1)
    folder = tiny.study_of(finished).prepared.parent
    source, out = tmp_path / "in.de", tmp_path / "out.en"
    source.write_text("".join(f"{line}\n" for line in (folder / "test.de").read_text().splitlines()[: tiny.HELD_OUT]))
    assert invoke("translate", first, "--source", source, "--out", out, "--beam", 2).startswith("0 ")
    assert hypotheses_of(first.with_suffix(".json"), "test") == out.read_text().split("\n")[:-1]
    saved = tmp_path / "saved.en"
    assert invoke("hypotheses", first, "--out", saved).startswith("0 ") and saved.read_text() == out.read_text()
    assert invoke("hypotheses", first.with_suffix(".json")) == "0 " + out.read_text()
    assert "would be overwritten; choose another --out" in invoke("hypotheses", first, "--out", first)
    answer = invoke("bootstrap", first, second, "--data", folder)
    assert answer.startswith("0 BLEU ") and "chrF2 " in answer and "p = " in answer and "bs:1000" in answer
    assert "holds no translations of split test" in invoke(
        "bootstrap", first, checkpoint(finished, "prune"), "--data", folder
    )


def test_a_checkpoint_without_its_record_needs_model_and_corpus(finished, invoke, tmp_path):
    alone = tmp_path / "alone.safetensors"
    write_arrays(alone, read_arrays(checkpoint(finished)), {})
    source, out = tmp_path / "in.de", tmp_path / "out.en"
    source.write_text("Die Katze schläft.\n")
    arguments = ["translate", alone, "--source", source, "--out", out]
    assert "give --model" in invoke(*arguments)
    assert "name its folder: --data" in invoke(*arguments, "--model", "transformer-1x16x2")
    folder = tiny.study_of(finished).prepared.parent
    assert invoke(*arguments, "--model", "transformer-1x16x2", "--data", folder).startswith("0 ")
    assert "of another architecture" in invoke(*arguments, "--model", "transformer-1x32x2", "--data", folder)
    pickled = tmp_path / "model.pt"
    pickled.write_bytes(b"whatever")
    assert "is not a .safetensors file" in invoke("translate", pickled, *arguments[2:], "--model", "transformer-1x16x2",
                                               "--data", folder)  # fmt: skip


def test_a_pruned_checkpoint_translates(finished, invoke, tmp_path):
    source, out = tmp_path / "in.de", tmp_path / "out.en"
    source.write_text("Die Katze schläft.\n")
    answer = invoke("translate", checkpoint(finished, "prune"), "--source", source, "--out", out)
    assert answer.startswith("0 ") and "1 sentences" in answer


def test_another_corpus_of_as_many_subwords_is_refused(finished, invoke, tmp_path):
    """The same numbers stand for other subwords, so outputs would be meaningless."""
    choice = DatasetChoice(name="toy", train_pairs=150, subwords=300, max_tokens=40)
    prepare(choice, tmp_path)
    other = prepared_path(choice, tmp_path)
    source, out = tmp_path / "in.de", tmp_path / "out"
    source.write_text("Die Katze schläft.\n")
    about = ["--data", other.parent, "--out", out]
    measured = ["--model", "transformer-1x16x2", "--dataset", "toy"]
    pair = [checkpoint(finished, index=index) for index in (0, 1)]
    digests = [input_digest(path)[:12] for path in (tiny.study_of(finished).prepared, other)]
    for arguments in (
        *(["translate", checkpoint(finished, stage), "--source", source] for stage in ("dense", "prune", "retrain")),
        ["lmc", *pair, *measured],
        ["cka", *pair, *measured],
    ):
        answer = invoke(*arguments, *about)
        assert answer.startswith("2 ") and "its pairs or subwords differ" in answer
        assert all(digest in answer for digest in digests)
        assert not out.exists()


def test_an_image_checkpoint_is_refused_in_words(finished, invoke, tmp_path):
    source = tmp_path / "in.de"
    source.write_text("Die Katze schläft.\n")
    path = tmp_path / "dense.safetensors"
    write_arrays(path, {"fc.weight": np.zeros((10, 4), np.float32)}, {})
    path.with_suffix(".json").write_text(json.dumps({"provenance": {"recipe": {"model": "preresnet-20"}}}))
    about = ["--source", source, "--out", tmp_path / "o", "--data", tiny.study_of(finished).prepared.parent]
    for more in ([], ["--model", "preresnet-8"]):
        answer = invoke("translate", path, *about, *more)
        assert answer.startswith("2 ") and "cannot translate: its model preresnet-" in answer


def test_lmc_and_cka_by_hand_are_those_of_the_study(finished, invoke, tmp_path):
    folder = tiny.study_of(finished).prepared.parent
    pair = [checkpoint(finished, index=index) for index in (0, 1)]
    about = ["--model", "transformer-1x16x2", "--dataset", "toy", "--data", folder]
    line = tmp_path / "lmc.json"
    assert invoke(
        "lmc", *pair, *about, "--train-images", 100, "--test-images", tiny.HELD_OUT, "--out", line
    ).startswith("0 ")
    wanted = read_json(pack(tiny.study_of(finished), "lmc", 1, 2.0, 0.5)[0].outputs[0])
    assert read_json(line)["lmc"] == wanted["lmc"] and read_json(line)["test_nll"] == wanted["test_nll"]
    assert "--train-images 99999: there are only" in invoke(
        "lmc", *pair, *about, "--train-images", 99999, "--out", tmp_path / "more.json"
    )
    similar = tmp_path / "cka.json"
    assert invoke("cka", *pair, *about, "--images", 200, "--out", similar).startswith("0 ")
    wanted = read_json(pack(tiny.study_of(finished), "cka", 1, 2.0, 0.5)[0].outputs[0])
    assert read_json(similar)["softmax"] == pytest.approx(wanted["softmax"], abs=1e-6)
    assert "takes images, but toy holds text" in invoke(
        "lmc", *pair, "--model", "preresnet-20", *about[2:], "--out", line
    )


def test_a_vocabulary_that_does_not_fit_is_refused(finished, invoke, tmp_path):
    arrays = read_arrays(checkpoint(finished, "dense"))
    wrong = {name: array[:-5] if "embed_tokens" in name else array for name, array in arrays.items()}
    path = tmp_path / "wrong.safetensors"
    write_arrays(path, wrong, {})
    source = tmp_path / "in.de"
    source.write_text("Die Katze schläft.\n")
    answer = invoke("translate", path, "--source", source, "--out", tmp_path / "o", "--model", "transformer-1x16x2",
                    "--data", tiny.study_of(finished).prepared.parent)  # fmt: skip
    assert not answer.startswith("0 ")
    assert "has a vocabulary of 295 subwords" in answer and "has 300" in answer


def test_newstest2014_goes_through_to_sacrebleu(finished, tmp_path):
    """The untrained network ends each sentence after two words; the test checks that every line has a translation."""
    if not (NEWSTEST / "newstest2014.de").is_file():
        pytest.skip(f"newstest2014 is not at {NEWSTEST}")
    from three_regime.exchange.single_translations import translate_file
    from three_regime.tasks.translation.beam_search import Search
    from three_regime.tasks.translation.bleu import scores_of_files

    out = tmp_path / "newstest2014.hyp"
    search = Search(beam=1, factor=0.0, extra=2)
    assert translate_file(checkpoint(finished, "dense"), NEWSTEST / "newstest2014.de", out, search=search,
                          data=tiny.study_of(finished).prepared.parent) == 3003  # fmt: skip
    score = scores_of_files(out, NEWSTEST / "newstest2014.en")
    assert score["sentences"] == 3003 and score["signature"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp")
