"""The whole workflow with every entry for new questions on: criterion, allocation, starts of retraining, measures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from checkout import Checkout, copy_to

from three_regime.config.measures import MEASURES

pytestmark = pytest.mark.slow

RESULTS = Path("results/questions")
COLUMNS = [column.name for measure in MEASURES.values() for column in measure.columns]
OF_THREE = {column.name for measure in MEASURES.values() for column in measure.columns if measure.of == "triple"}
SIDES = {"of": {"temperatures": [1]}, "against": {"temperatures": [2]}}

STUDY = {
    "dataset": {"name": "digits", "train_images": 128, "test_images": 50},
    "model": "preresnet-8x0.25",
    "knob": "epochs",
    "temperatures": [1, 2],
    "densities": [0.3],
    "resources": {stage: {"gpu": 0} for stage in ("dense", "retrain", "lmc", "cka", "measures")},
    "dense_seeds": [1],
    "replicas": [1, 2, 3],
    "dense": {"epochs": 2},
    "measure": {
        "points": 3, "train_images": 64, "cka_images": 64, "last_epochs": 1, "also": list(MEASURES),
        "hessian": {"images": 32, "probes": 2, "tolerance": 0.1}, "bezier": {"epochs": 1},
        "plane": {"points": 4, "margin": 0},
    },
    "claims": [
        {"name": name.replace("_", "-"), "statement": f"Of {name}.", "measure": name, **SIDES, "expect": "lower",
         "over": "dense seeds" if name in OF_THREE else "replicas"}
        for name in COLUMNS
    ],
}  # fmt: skip

STUDIES = {
    "rewound": {
        **STUDY,
        "prune": {
            "criterion": "gradient_magnitude",
            "allocation": "erk",
            "rounds": 2,
            "epochs": 1,
            "gradient_batches": 1,
        },
        "retrain": {"epochs": 1, "start": "rewound", "rewind_epoch": 1},
    },
    "reinitialised": {
        **STUDY,
        "temperatures": [2],
        "replicas": [1, 2],
        "measure": {**STUDY["measure"], "also": []},
        "prune": {"criterion": "random", "allocation": "erk"},
        "retrain": {"epochs": 1, "start": "reinitialised"},
        "claims": [],
    },
}

STUDIES["noisy"] = {
    **STUDIES["reinitialised"],
    "dataset": {**STUDY["dataset"], "label_noise": 0.5},
    "retrain": {"epochs": 1},
}
GRIDS = {"noise": {"load": "label_noise", "density": 0.3, "studies": ["reinitialised", "noisy"]}}


def test_everything_runs_once_and_is_shown(tmp_path: Path) -> None:
    checkout: Checkout = copy_to(tmp_path / "checkout")
    preset = {"results": str(RESULTS), "run": list(STUDIES), "published": False, "threads": 1, "studies": STUDIES}
    options = ("--configfile", "questions.yaml")
    preset["load_grids"] = GRIDS
    (checkout.path / "questions.yaml").write_text(yaml.safe_dump(preset))
    checkout.run(*options)
    page = (checkout.path / RESULTS / "explorer.html").read_text()
    for name in STUDIES:
        folder = checkout.path / RESULTS / name
        measured = COLUMNS if name == "rewound" else []
        for table in ("cells", "grid"):
            found = pd.read_csv(folder / f"{table}.csv")
            assert len(found) == len(STUDIES[name]["temperatures"])
            assert found[["test_error", "lmc", *measured]].notna().all(axis=None)
        for figure in ("sparsity_per_layer", *measured):
            assert (folder / "figures" / f"{figure}.png").stat().st_size > 0
        kept = pd.read_csv(folder / "sparsity.csv").groupby("temperature")[["kept", "total"]].sum()
        assert (kept["kept"] == kept["total"] - round(0.7 * kept["total"])).all()
    rewound = checkout.path / RESULTS / "rewound"
    assert list(pd.read_csv(rewound / "claims.csv")["measure"]) == COLUMNS
    assert len(pd.read_csv(rewound / "planes.csv")) == 2 * 10
    assert (rewound / "figures" / "planes.png").stat().st_size > 0
    assert all(f'"{column}"' in page for column in COLUMNS)
    over_noise = checkout.path / RESULTS / "noise"
    noisy = pd.read_csv(over_noise / "grid.csv").set_index("load_label_noise")["test_error"]
    assert noisy.index.tolist() == [0, 0.5]
    assert noisy[0.5] == pd.read_csv(checkout.path / RESULTS / "noisy" / "grid.csv")["test_error"].item()
    assert (over_noise / "figures" / "error_against_load.png").stat().st_size > 0
    assert '"label noise (%)"' in page
    assert checkout.planned(*options) == {}
    _is_exported_and_redrawn(checkout, options)
    _stale_is_noticed_and_mended(checkout, options)


def _is_exported_and_redrawn(checkout: Checkout, options: tuple[str, ...]) -> None:
    """An export holds the grid over label noise too, and `redraw` joins it again."""
    for arguments in (("export", *options, "--out", "mine"), ("redraw", "mine", "--out", "again")):
        _command(checkout, *arguments)
    for table in ("cells", "grid", "regimes", "selection"):
        path = Path("noise") / f"{table}.csv"
        assert (checkout.path / "again" / path).read_text() == (checkout.path / "mine" / path).read_text()


def _stale_is_noticed_and_mended(checkout: Checkout, options: tuple[str, ...]) -> None:
    """A grid that its studies' tables contradict is reported, not exported, and rebuilt with one of its studies."""
    path = checkout.path / RESULTS / "noise" / "cells.csv"
    right = path.read_text()
    path.write_text(right.replace("0.5", "0.4", 1))
    assert path.read_text() != right
    assert f"{RESULTS}/noise/cells.csv: stale" in _command(checkout, "verify", *options, fails=True)
    assert "cells.csv does not follow from the tables" in _command(
        checkout, "export", *options, "--out", "x", fails=True
    )
    _command(checkout, "run-stage", "tables", *options, "--study", "noisy")
    assert path.read_text() == right


def _command(checkout: Checkout, *arguments: str, fails: bool = False) -> str:
    """Output of a command line."""
    command = [sys.executable, "-m", "three_regime", *arguments]
    done = subprocess.run(
        command, cwd=checkout.path, env=checkout.environment(), capture_output=True, text=True, check=False
    )
    assert (done.returncode != 0) == fails, done.stderr
    return done.stdout + done.stderr
