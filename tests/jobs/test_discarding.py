"""Disk space of a measured study, and the plan's estimate of it."""

from __future__ import annotations

import contextlib
import shutil
import signal
from pathlib import Path

import pytest
import tiny_study
from checkout import Checkout
from finished import NAME, OPTIONS, compute, copied, inside, study_of, tiny

from three_regime.analysis import tables
from three_regime.config import resolve
from three_regime.errors import Interrupted, UserError
from three_regime.exchange.importing import import_checkpoint
from three_regime.jobs import discarding, kept_copies
from three_regime.jobs.discarding import discard, is_discarded, record_file
from three_regime.planning import plan
from three_regime.planning.explain import explain, render
from three_regime.study.products import discarded_stages, pack, products_of
from three_regime.study.stages import STAGES
from three_regime.study.verdicts import judge
from three_regime.system.files import read_arrays, read_json, tensor_digest, write_json
from three_regime.workflow import adopting
from three_regime.workflow.adopting import adopt

GONE = {"all": set(), "endpoints": {"pruned"}, "none": {"dense", "pruned", "retrained", "dense.state"}}


def weights(folder: Path = Path("results")) -> dict[Path, str]:
    return {path: tensor_digest(read_arrays(path)) for path in sorted(folder.rglob("*.safetensors"))}


def discard_all(keep: str) -> int:
    """Discard at every temperature; return the bytes freed."""
    config = tiny(keep=keep)
    if keep == "all":
        return 0
    return sum(discard(config, NAME, 1, temperature).size for temperature in study_of(config).temperatures)


def verdicts(**changes: object) -> dict[str, int]:
    """Stage → members that would be computed."""
    found = [finding.product.stage for finding in judge(study_of(tiny(**changes))) if not finding.done]
    return {stage: found.count(stage) for stage in STAGES if stage in found}


@pytest.fixture
def own(finished_tiny: Checkout, tmp_path: Path) -> Checkout:
    return copied(finished_tiny, tmp_path / "own")


@pytest.mark.parametrize("keep", GONE)
def test_what_is_kept_and_that_nothing_is_to_be_done_after(own: Checkout, keep: str) -> None:
    with inside(own):
        before = weights()
        results = {path: path.read_bytes() for path in Path("results").rglob("*.json")}
        size = discard_all(keep)
        after = weights()
        lost = before.keys() - after.keys()
        assert {path.name.removesuffix(".safetensors") for path in lost} == GONE[keep]
        assert after == {path: digest for path, digest in before.items() if path not in lost}
        assert all(path.read_bytes() == content for path, content in results.items())
        assert (size > 0) == bool(lost)
        findings = explain(tiny(keep=keep))
        assert "nothing would be computed: all 22 results are up to date" in render(findings)
        assert sum(finding.discarded for finding in findings) == sum(".state" not in path.parts for path in lost)
        if keep != "all":
            record = read_json(record_file(study_of(tiny()), 1, 2))
            assert record["keep"] == keep and record["discarded"]
        assert discard_all(keep) == 0, "a second time there is nothing left to remove"


def test_what_is_needed_again_comes_back_bit_identical(own: Checkout) -> None:
    with inside(own):
        before = weights()
        discard_all("endpoints")
        more = {"keep": "endpoints", "densities": [0.1, 0.3, 0.5]}
        # The prune jobs must leave all that they declare: the four that were discarded, and two new ones.
        assert verdicts(**more) == {"prune": 6, "retrain": 4, "lmc": 2, "cka": 2}
        text = render(explain(tiny(**more), "prune"))
        assert "weights were discarded (keep: endpoints) and are needed again" in text
        compute(tiny(keep="endpoints"), "prune")
        assert weights() == before


def test_a_setting_of_measuring_needs_no_pruned_network(own: Checkout) -> None:
    with inside(own):
        discard_all("endpoints")
        assert verdicts(keep="endpoints", measure={"points": 5}) == {"lmc": 4}


@pytest.mark.parametrize("keep", GONE)
@pytest.mark.parametrize("edit", ["dense", "retrain"])
def test_an_edit_begun_and_undone_loses_nothing(own: Checkout, keep: str, edit: str) -> None:
    """Results whose weights are gone are set aside and come back like the others."""
    with inside(own):
        discard_all(keep)
        before, edited = study_of(tiny(keep=keep)), study_of(tiny(keep=keep, **{edit: {"weight_decay": 0.01}}))
        planned = [str(path) for product in products_of(before) for path in product.outputs]
        aside = kept_copies.set_aside([edited], planned)
        assert aside == {"dense": 22, "retrain": 16}[edit]
        assert sum(verdicts(keep=keep).values()) >= aside
        assert kept_copies.restore_all([edited]) == 0
        assert kept_copies.restore_all([before]) == aside
        assert verdicts(keep=keep) == {}


def test_without_weights_measuring_again_is_training_again(own: Checkout) -> None:
    with inside(own):
        discard_all("none")
        assert verdicts(keep="none", measure={"points": 5}) == {"dense": 2, "prune": 4, "retrain": 8, "lmc": 4}
        assert verdicts(keep="all")["retrain"] == 8, "who wants them back gets them back"


def test_a_changed_setting_is_noticed_without_the_weights(own: Checkout) -> None:
    with inside(own):
        discard_all("none")
        assert verdicts(keep="none", retrain={"learning_rate": 0.05}) == {
            "dense": 2, "prune": 4, "retrain": 8, "lmc": 4, "cka": 4,
        }  # fmt: skip


@pytest.mark.parametrize("lost", ["lmc.json", "cka.json"])
def test_before_all_is_measured_nothing_goes(own: Checkout, lost: str) -> None:
    with inside(own):
        before = weights()
        pair = next(Path("results/tiny/tiny/seed1/epochs002").rglob(lost))
        pair.unlink()
        with pytest.raises(UserError, match=f"{pair} is not up to date, so nothing was discarded"):
            discard(tiny(keep="none"), NAME, 1, 2)
        assert weights() == before
        assert not record_file(study_of(tiny()), 1, 2).exists()


def test_an_imported_checkpoint_stays(own: Checkout) -> None:
    with inside(own):
        product = pack(study_of(tiny()), "retrain", 1, 2, 0.1)[0]
        source = Path("elsewhere.safetensors")
        shutil.move(product.outputs[-1], source)
        product.outputs[0].unlink()
        import_checkpoint(tiny(), source, NAME, seed=1, temperature=2, density=0.1, replica=1)
        discard(tiny(keep="none"), NAME, 1, 2)
        left = [path for path in weights() if "epochs002" in path.parts]
        assert left == [product.outputs[-1]]


def test_results_without_a_recorded_digest_stay(own: Checkout) -> None:
    """Results of earlier versions: without weights, products derived from them could not be verified."""
    with inside(own):
        for product in pack(study_of(tiny()), "prune", 1, 2):
            result = read_json(product.outputs[0])
            del result["provenance"]["tensor_digest"], result["provenance"]["result_digest"]
            write_json(product.outputs[0], result)
        discard(tiny(keep="endpoints"), NAME, 1, 2)
        assert all(path.exists() for product in pack(study_of(tiny()), "prune", 1, 2) for path in product.outputs)


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["endpoints", "none"])
def test_a_copy_without_its_weights_is_adopted(own: Checkout, tmp_path: Path, keep: str) -> None:
    with inside(own):
        discard_all(keep)
        left = sorted(Path("results").rglob("*.safetensors"))
    clone = copied(own, tmp_path / "clone", shutil.copy)  # cp -r
    (clone.path / "keep.yaml").write_text(f"studies: {{tiny: {{keep: {keep}}}}}\n")
    with inside(clone):
        found = adopt(tiny(keep=keep), [Path("config.yaml"), Path("config/tiny.yaml"), Path("keep.yaml")])
        assert all(finding.done for finding in found.findings[NAME])
        assert found.recorded == 9
        assert sorted(Path("results").rglob("*.safetensors")) == left, "nothing stands in for what is gone"
    assert clone.planned("landscape", "discarded", *OPTIONS, "keep.yaml") == {}
    (clone.path / "changed.yaml").write_text("studies: {tiny: {measure: {cka_images: 128}}}\n")
    changed = clone.planned("landscape", *OPTIONS, "keep.yaml", "changed.yaml")
    expected = {"cka_tiny": 2} if keep == "endpoints" else {"dense_tiny": 1, "prune_tiny": 2, "retrain_tiny": 2}
    assert expected.items() <= changed.items()
    assert keep == "none" or set(changed) - {"landscape"} == {"cka_tiny"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_an_adoption_that_is_stopped_condemns_nothing(own: Checkout, monkeypatch: pytest.MonkeyPatch, number) -> None:
    """The files that stand in for discarded weights go at once, after a kill with the next adoption."""
    monkeypatch.setattr(adopting, "RECORDS", Path("results"))  # a folder that is there
    kill = number == signal.SIGKILL
    with inside(own):
        discard_all("none")
        left = sorted(Path("results").rglob("*.safetensors"))
        stood: list[Path] = []

        def stopped(targets: list[Path], kept: list[Path], configfiles: list[Path]) -> None:
            stood.extend(path for path in Path("results").rglob("*.safetensors") if not path.stat().st_size)
            if not kill:
                signal.raise_signal(number)

        with monkeypatch.context() as patched:
            patched.setattr(adopting, "_record", stopped)
            with contextlib.nullcontext() if kill else pytest.raises(Interrupted, match="run the command again"):
                adopt(tiny(keep="none"), [])
        assert len(stood) == 14
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert sorted(Path("results").rglob("*.safetensors")) == left
        if kill:
            for path in stood:
                path.touch()
            assert verdicts(keep="none")
        found = adopt(tiny(keep="none"), [], dry_run=True)
        assert all(finding.done for finding in found.findings[NAME])


@pytest.mark.parametrize("keep", GONE)
def test_the_plan_agrees_with_the_disk(own: Checkout, keep: str) -> None:
    """All of the results within a tenth, and every heavy stage on its own, too."""
    with inside(own):
        discard_all(keep)
        config = tiny(keep=keep)
        tables.write(study_of(config))
        found = {row.stage: row.size for row in plan.make(config, ["landscape"], None).rows}
        study = study_of(config)
        for stage in (stage for stage in STAGES if stage in found):
            files = [path for value in study.temperatures for product in pack(study, stage, 1, value)
                     for path in product.outputs if path.exists()]  # fmt: skip
            files += Path("results").rglob("dense.state.safetensors") if stage == "dense" else []
            jobs = 1 if stage == "dense" else 2
            logs = plan.disk.of_logs(jobs, 1)
            actual = sum(path.stat().st_size for path in files)
            assert found[stage] == pytest.approx(actual, rel=0.1, abs=2 * logs), stage


@pytest.mark.slow
def test_the_plan_agrees_with_all_of_the_results(complete_tiny: Checkout, tmp_path: Path) -> None:
    """Checkpoints, results, state, tables, figures, report, logs: within a tenth, for every `keep`."""
    own = copied(complete_tiny, tmp_path / "own")
    with inside(own):
        for keep in GONE:
            discard_all(keep)
            rows = plan.make(tiny(keep=keep), (), None).rows
            planned = sum(row.size for row in rows if row.stage != "data")
            actual = sum(path.stat().st_size for path in Path("results").rglob("*") if path.is_file())
            assert planned == pytest.approx(actual, rel=0.1), keep
            figures = sum(path.stat().st_size for path in Path("results/tiny/tiny").rglob("figures/*"))
            (analysis,) = [row.size for row in rows if row.stage == "tables, figures"]
            csv = sum(path.stat().st_size for path in Path("results/tiny/tiny").glob("*.csv"))
            assert analysis == pytest.approx(figures + csv, rel=0.1)


def test_a_study_that_keeps_all_has_nothing_to_discard(own: Checkout) -> None:
    """A record of it would stop every later discarding."""
    with inside(own):
        with pytest.raises(UserError, match="keeps all weights"):
            discard(tiny(), NAME, 1, 2)
        record = record_file(study_of(tiny()), 1, 2)
        assert not record.exists()
        write_json(record, {"keep": "all", "discarded": []})
        assert not is_discarded(study_of(tiny(keep="none")), 1, 2)
        discard(tiny(keep="none"), NAME, 1, 2)
        assert is_discarded(study_of(tiny(keep="none")), 1, 2)


def test_of_two_jobs_that_end_together_one_removes_the_state(own: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other temperature is discarded just before this one's record is written."""
    with inside(own):
        config = tiny(keep="none")
        (state,) = Path("results").rglob("dense.state.safetensors")
        written = discarding.write_json

        def other_first(path: Path, value: object) -> None:
            monkeypatch.setattr(discarding, "write_json", written)
            discard(config, NAME, 1, 2)
            written(path, value)

        monkeypatch.setattr(discarding, "write_json", other_first)
        discard(config, NAME, 1, 4)
        assert not state.exists()


def test_pruned_networks_that_training_decides_are_kept() -> None:
    """Another number of threads would make them again with other bits, and every retraining stale."""

    def discarded(keep: str, **prune: object) -> tuple[str, ...]:
        settings = resolve(tiny_study.mapping(Path("anywhere"), keep=keep, prune=prune))
        return discarded_stages(tiny_study.study_of(settings))

    assert discarded("endpoints") == discarded("endpoints", criterion="random") == ("prune",)
    assert discarded("endpoints", rounds=2, epochs=1) == discarded("endpoints", criterion="gradient_magnitude") == ()
    assert "prune" in discarded("none", rounds=2, epochs=1)
