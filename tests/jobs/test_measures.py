"""Additional measures, from a line of YAML to files, tables, claims, figures, the explorer and the plan."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import translation_study
from tiny_study import config, mapping, products, run, run_to, study_of

from three_regime import figures
from three_regime.analysis import claims_files, regime_tables, tables
from three_regime.config import measures, resolve
from three_regime.config.measures import MEASURES, Column, Measure
from three_regime.errors import Damaged, Diverged, Interrupted, UserError
from three_regime.figures.explorer.content import of_study
from three_regime.jobs.job import state_file
from three_regime.jobs.run import Outcome
from three_regime.landscape import bezier, hessian
from three_regime.planning import plan
from three_regime.planning.plan_table import render
from three_regime.planning.pricing import RATES, pricer_of, read_rates
from three_regime.pruning.masks import split_masks
from three_regime.study.products import pack
from three_regime.study.results import read_result
from three_regime.study.verdicts import judge
from three_regime.system.files import read_arrays, read_json, write_result
from three_regime.workflow.job_resources import STEP_MIN, first_runtime
from three_regime.workflow.rule_parts import checkpoints, kept_files, patterns, pruned_for_measures

ALL = sorted(name for name in MEASURES)
COLUMNS = [column.name for name in ALL for column in MEASURES[name].columns]
SMALL = {"temperatures": [2], "densities": [0.1]}
QUICK = {
    "hessian": {"images": 64, "probes": 5, "tolerance": 0.05},
    "bezier": {"epochs": 1},
    "plane": {"points": 4, "margin": 0},
}


def claim(column: str) -> dict:
    side = {"temperatures": [2], "densities": [0.1]}
    return {
        "name": column.replace("_", "-"), "statement": "Equal cells.", "measure": column, "of": side, "against": side,
        "expect": "not_lower",
    }  # fmt: skip


@pytest.mark.slow
def test_every_measure_from_yaml_to_figures(tmp_path):
    three = {"replicas": [1, 2, 3], **SMALL}
    run_to(config(tmp_path, **three), "cka")
    settings = config(tmp_path, measure={"also": ALL, **QUICK}, claims=[claim(name) for name in COLUMNS], **three)
    count = len(products(settings, "measures"))
    assert run(settings, "measures") == Outcome(count, 0)
    assert run(settings, "measures") == Outcome(0, count)
    study = study_of(settings)
    assert all(finding.done for finding in judge(study))
    found = tables.build(study)
    assert found["cells"][COLUMNS].notna().all(axis=None)
    for name in ALL:
        measure = MEASURES[name]
        if measure.of == "triple":
            assert (len(found[measure.table]), set(found[measure.table]["triple"])) == (10, {"1-2-3"})
            continue
        table = found["pairs" if measure.of == "pair" else "replicas"]
        for column in (each.name for each in measure.columns):
            assert found["cells"][column][0] == pytest.approx(table[column].mean())
            assert f"{column}_sd" in found["cells"]
    tables.write(study)
    regime_tables.write(study.folder, study.thresholds)
    assert set(COLUMNS) <= set(pd.read_csv(study.table("grid")))
    judged = pd.read_csv(claims_files.write(study.folder, study.config.claims, study.thresholds)[0])
    assert list(judged["measure"]) == COLUMNS and (judged["estimate"] == 0).all()
    drawn = figures.draw(study.folder, ["seeds", "planes", COLUMNS[0]], study.thresholds)
    assert all(path.exists() for path in drawn)
    assert set(COLUMNS) <= set(pd.read_csv(study.folder / "figures" / "seeds.csv")["measure"])
    explored = of_study(study.folder, study.thresholds)["measures"]
    assert set(COLUMNS) <= {measure["name"] for measure in explored}


def test_what_is_added_later_computes_nothing_twice(tmp_path):
    first = config(tmp_path, measure={"also": ["distance"]}, **SMALL)
    run_to(first, "retrain")
    assert run(first, "measures") == Outcome(1, 0)
    assert run(config(tmp_path, measure={"also": ["agreement", "distance"]}, **SMALL), "measures") == Outcome(1, 1)


def test_sign_changes_are_counted_from_the_pruned_network(tmp_path):
    fast = {"retrain": {"learning_rate": 2.0}, **SMALL}  # else no sign changes
    settings = config(tmp_path, measure={"also": ["sign_change"]}, **fast)
    run_to(settings, "retrain")
    assert run(settings, "measures") == Outcome(2, 0)
    for product in products(settings, "measures"):
        (before, masks), (after, _) = (split_masks(read_arrays(product.inputs[role])) for role in ("pruned", "first"))
        changed = sum((before[name] * after[name] < 0).sum() for name in masks)
        kept = sum(mask.sum() for mask in masks.values())
        assert 0 < changed < kept / 2
        assert read_json(product.outputs[0])["sign_change"] == pytest.approx(changed / kept)
    study = study_of(settings)
    assert tables.build(study)["replicas"]["sign_change"].notna().all()
    assert pruned_for_measures(study) == checkpoints(study, "prune")
    assert pruned_for_measures(study_of(config(tmp_path, measure={"also": ["signs"]}, **SMALL))) == []


def test_a_trained_curve_is_kept_while_it_is_measured(tmp_path, monkeypatch):
    settings = config(tmp_path, measure={"also": ["bezier"], **QUICK}, **SMALL)
    run_to(settings, "retrain")
    state = state_file(study_of(settings), pack(study_of(settings), "measures", 1, 2.0)[0])
    with monkeypatch.context() as stopped:
        stopped.setattr(bezier.mode_connectivity, "measure", _interrupted)
        with pytest.raises(Interrupted):
            run(settings, "measures")
    assert state.exists()
    with monkeypatch.context() as trained:
        trained.setattr(bezier.CurveTask, "loss", lambda *arguments: pytest.fail("the curve is trained again"))
        assert run(settings, "measures") == Outcome(1, 0)
    assert not state.exists()


def test_a_measure_without_a_result_stops_no_other(tmp_path, monkeypatch, caplog):
    """Of a curve that diverges and a Hessian that does not converge, nothing is written; the signs need neither."""
    quick = {**QUICK, "bezier": {"epochs": 1, "learning_rate": 1e20}}
    settings = config(tmp_path, measure={"also": ["bezier", "hessian", "signs"], **quick}, **SMALL)
    run_to(settings, "retrain")

    def never(*arguments: object, **named: object) -> None:
        raise hessian.ArpackNoConvergence("no convergence", [], [])

    monkeypatch.setattr(hessian, "eigsh", never)
    with pytest.raises(Diverged, match=r"(?s)bezier.*the loss is not finite.*hessian.*replica 1: .*did not converge"):
        run(settings, "measures")
    there = {product.recipe["measure"] for product in products(settings, "measures") if product.outputs[0].exists()}
    assert there == {"signs"}


def test_a_measure_may_train_several_networks(tmp_path, monkeypatch):
    """Each has a training state of its own: the second must not be taken for the first, which has been trained."""

    def twice(networks):
        once = networks.config.retrain.model_copy(update={"epochs": 1, "milestones": ()})
        trained = [
            networks.train(networks.task, once.model_copy(update={"learning_rate": rate}), networks.weights[0])
            for rate in (0.001, 0.1)
        ]
        states.extend(sorted(path.name for path in folder.glob("*.safetensors")))
        one, other = (each.weights for each in trained)
        return {"apart": float(sum(abs(one[name] - other[name]).sum() for name in one))}

    settings = config(tmp_path, measure={"also": []}, **SMALL)
    run_to(settings, "retrain")
    monkeypatch.setitem(
        MEASURES, "twice", Measure("twice", "replica", (Column("apart", "apart"),), "plugged:twice", "")
    )
    monkeypatch.setattr(Measure, "load", lambda self: twice)
    settings = config(tmp_path, measure={"also": ["twice"]}, **SMALL)
    folder, states = state_file(study_of(settings), pack(study_of(settings), "measures", 1, 2.0)[0]).parent, []
    assert run(settings, "measures").computed == 2
    first, second = (read_json(product.outputs[0])["apart"] for product in products(settings, "measures"))
    assert first > 1 and second > 1
    assert states[:2] == ["measures.state.safetensors", "measures2.state.safetensors"]
    assert not list(folder.glob("*.state.safetensors"))


def _interrupted(*arguments: object) -> None:
    raise Interrupted("a test")


def test_files_and_rules_agree():
    settings = resolve(mapping(Path("anywhere"), measure={"also": ALL}, replicas=[1, 2, 3], **SMALL))
    study = study_of(settings)
    [declared] = patterns(study, "measures").values()
    filled = [path.format(seed=1, temperature="epochs002", density="density010") for path in declared]
    assert filled == kept_files(study, "measures")
    assert len(filled) == sum({"pair": 3, "replica": 3, "triple": 1}[MEASURES[name].of] for name in ALL)
    assert study.figures[-len(COLUMNS) :] == tuple(column.name for name in ALL for column in MEASURES[name].columns)
    by_cell = study_of(resolve(mapping(Path("anywhere"), measure={"also": ALL}, replicas=[1, 2, 3], pack=["replica"])))
    assert all("/{density}/" in path for path in patterns(by_cell, "measures")["metrics"])


def test_the_plan_prices_them():
    rates = read_rates(RATES, "cpu")

    def rows(**measure):
        settings = resolve(mapping(Path("anywhere"), measure=measure, **SMALL))
        return {row.stage: row for row in plan.make(settings, [], rates).rows}

    assert "measures" not in rows()
    one, more = rows(also=["agreement"])["measures"], rows(also=["agreement", "divergence"])["measures"]
    assert (one.jobs, one.members, more.members) == (1, 1, 2)
    assert 0 < one.seconds < more.seconds


def test_a_curve_is_priced_as_it_is_trained():
    """Without the SAM of retraining, and evaluated once."""
    retrain = {"sam_rho": 0.1, "evaluate_every": 1}
    pricer = pricer_of(study_of(resolve(mapping(Path("anywhere"), retrain=retrain, measure=QUICK, **SMALL))))
    trained = bezier.training_of(SimpleNamespace(config=pricer.study.config))
    points = pricer.points(pricer.study.config.measure.points)
    assert pricer.curves(1) == pricer._training(trained, None) + points


def test_a_measure_without_work_has_the_configured_time(monkeypatch):
    """Of known measures, `distance` reads two files: it asks for the least."""
    monkeypatch.setitem(MEASURES, "ones", Measure("ones", "replica", (Column("ones", "ones"),), "plugged:ones", ""))
    rates = read_rates(RATES, "cpu")

    def asked(*also):
        without_gpu = {"measures": {"gpu": 0}}
        settings = resolve(mapping(Path("anywhere"), measure={"also": also}, resources=without_gpu, **SMALL))
        minutes = first_runtime(study_of(settings), "measures", 2.0, None, 1)
        return minutes, render(plan.make(settings, [], rates))

    least, told = asked("distance")
    assert least == STEP_MIN and "state no `work`" not in told
    most, told = asked("distance", "ones")
    assert most == 240 and "Hours of the measures ones are not in the totals" in told


def test_a_plugin_adds_one(tmp_path, monkeypatch):
    own = Measure("ones", "replica", (Column("ones", "ones"),), "plugged:ones", "number of kept weights")
    monkeypatch.setattr(measures, "MEASURES", measures.MEASURES)
    monkeypatch.setitem(measures.MEASURES, "ones", own)
    (tmp_path / "plugged.py").write_text(
        "def ones(networks):\n    return {'ones': float(sum(mask.sum() for mask in networks.masks.values()))}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    settings = config(tmp_path, measure={"also": ["ones"]}, **SMALL)
    run_to(settings, "retrain")
    assert run(settings, "measures") == Outcome(2, 0)
    cells = tables.build(study_of(settings))
    kept = cells["sparsity"]["kept"].sum()
    assert (cells["replicas"]["ones"] == kept).all()


def test_a_result_without_its_number_is_damaged(tmp_path):
    settings = config(tmp_path, measure={"also": ["distance"]}, **SMALL)
    run_to(settings, "retrain")
    run(settings, "measures")
    path = pack(study_of(settings), "measures", 1, 2.0)[0].outputs[0]
    write_result(path, {**read_json(path), "distance": "near"})
    with pytest.raises(Damaged, match="no readable distance"):
        read_result(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"measure": {"also": ["agreemnt"]}}, "unknown measure 'agreemnt'; did you mean 'agreement'"),
        ({"measure": {"also": ["distance", "distance"]}}, "names a measure twice"),
        ({"measure": {"also": ["plane"]}}, "plane needs three replicas, not 2"),
        ({"measure": {"plane": {"points": 5}}}, "5 points on an edge miss the centroid"),
        (
            {
                "measure": {"also": ["plane"]},
                "replicas": [1, 2, 3],
                "claims": [{**claim("plane"), "over": "replicas"}],
                **SMALL,
            },
            "plane has one value a cell",
        ),
        ({"claims": [claim("agreement")], **SMALL}, "'agreement' needs agreement in measure.also"),
        ({"claims": [claim("agreemnt")], **SMALL}, "unknown measure 'agreemnt'"),
    ],
)
def test_what_is_wrong_is_named(changes, said):
    with pytest.raises(UserError, match=said):
        resolve(mapping(Path("anywhere"), **changes))


@pytest.mark.slow
def test_translation_is_pruned_and_measured_too(tmp_path):
    """Gradient criterion and all measures but the Hessian, which is for images only."""
    also = ["agreement", "divergence", "distance", "signs", "bezier", "sign_change"]
    settings = translation_study.prepared(
        translation_study.config(
            tmp_path,
            temperatures=[1],
            densities=[0.5],
            prune={"criterion": "gradient_magnitude", "gradient_batches": 2},
            measure={"also": also, "points": 3, "bezier": {"epochs": 1}},
            claims=[],
        )
    )
    for stage in ("dense", "prune", "retrain", "measures"):
        outcomes = translation_study.run(settings, stage)
    assert outcomes == [Outcome(7, 0)]
    study = translation_study.study_of(settings)
    found = tables.build(study)
    names = [column.name for name in also for column in MEASURES[name].columns]
    assert set(names) - set(found["pairs"]) == {"sign_change"}, "which is of replicas"
    assert found["cells"][names].notna().all(axis=None)
    with pytest.raises(UserError, match="hessian applies only to images"):
        translation_study.config(tmp_path, measure={"also": ["hessian"]})


def test_no_column_is_taken_for_a_statistic_of_another():
    assert not [name for name in COLUMNS if name.endswith(measures.RESERVED)]
    with pytest.raises(UserError, match="measure norms: rename its column norm_se: "):
        measures.register(Measure("norms", "replica", (Column("norm_se", "norm"),), "norms:of", ""))
    assert "norms" not in MEASURES
