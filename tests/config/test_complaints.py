"""Messages about the configuration: they point to the line of the key, and say what was probably meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from tiny_study import STUDY, mapping

from three_regime.config import Training, load
from three_regime.config.problem_words import words_of
from three_regime.errors import UserError

BEFORE = """\
studies:
  tiny:
    dataset: digits
    model: preresnet-8x8
"""


def said(tmp_path: Path, overlay: str, **changes: Any) -> str:
    """What is said of a valid configuration with `overlay` over it; the folder is left out."""
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(mapping(Path("anywhere"), **changes)))
    (tmp_path / "b.yaml").write_text(overlay)
    with pytest.raises(UserError) as refused:
        load([tmp_path / "a.yaml", tmp_path / "b.yaml"])
    return str(refused.value).replace(f"{tmp_path}/", "")


CLAIM = "{name: n, statement: s, measure: lmc, of: {densities: [0.5]}, against: {}, expect: lower}"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("knob: epochs\n    temperatures: [1, 9]", "temperatures: 9 is beyond"),
        ("lockstep: 2\n    densities: [0.5, 0.50000001]", "densities: two of"),
        ("lockstep: 2\n    dense: {epochs: null, iterations: 9, milestones: []}", "dense: the epochs knob"),
        (f"lockstep: 2\n    claims: [{CLAIM}, {CLAIM}]", "claims: two are named 'n'"),
        ("keep: none\n    retrain: {start: rewound, rewind_epoch: 9}", "retrain.rewind_epoch: 9 is after"),
        ("knob: sam_rho\n    retrain:\n      start: rewound\n      rewind_epoch: 1", "retrain.start: rewound needs"),
        ("lockstep: 2\n    dense:\n      dropout: 0.1", "dense.dropout 0.1 is for translation only"),
        ("replicas: [1, 2]\n    measure:\n      also: [plane]", "measure.also: plane needs three replicas"),
        ("lockstep: 2\n    knob: dropout", "knob dropout is for translation only"),
    ],
)
def test_a_fault_of_a_study_points_to_its_key(tmp_path: Path, keys: str, message: str) -> None:
    first = message.split()[0].rstrip(":")
    line = next(
        number
        for number, text in enumerate(f"{BEFORE}    {keys}".splitlines(), 1)
        if number > 4 and f"{first.rpartition('.')[2]}:" in text
    )
    told = said(tmp_path, f"{BEFORE}    {keys}\n")
    assert told.startswith(f"config.studies.tiny: {message}"), told
    assert told.endswith(f"(b.yaml, line {line})"), told


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        ("threads: 1\nrun: [tinny]\n", "run: unknown study 'tinny'"),
        ("published: false\nrun: []\n", "run: name at least one study"),
        ("threads: 1\nrun: [tiny, tiny]\n", "run: ['tiny', 'tiny'] lists a study twice"),
        ("device: cpu\nrequire_gpu: true\n", "require_gpu is true"),
        (
            "load_grids:\n  g: {load: width, density: 0.5, studies: [tiny, tinny]}\n",
            "load_grids.g: unknown study 'tinny'",
        ),
        ("run: [tables]\nstudies: {tables: *it}\n", "studies.tables: its rule tables would have the name"),
    ],
)
def test_a_fault_of_the_whole_points_to_its_key(tmp_path: Path, overlay: str, message: str) -> None:
    if "*it" in overlay:
        overlay = overlay.replace("*it", yaml.safe_dump(STUDY, default_flow_style=True, width=10_000).strip())
    told = said(tmp_path, overlay)
    assert told.startswith(f"config: {message}"), told
    assert told.endswith("(b.yaml, line 2)"), told


@pytest.mark.parametrize("overlay", ["studies: {tiny: {retrain: }}", "studies: {tiny: }", "studies:\n  tiny:\n"])
def test_an_empty_section_is_called_empty(tmp_path: Path, overlay: str) -> None:
    assert "must be a mapping of keys (it is empty; b.yaml, line " in said(tmp_path, overlay)


@pytest.mark.parametrize(
    ("overlay", "hint"),
    [
        ("seed: 1", "seed: unknown key; did you mean 'dense_seeds', which belongs to a study?"),
        ("temperatures: [1]", "temperatures: unknown key; 'temperatures' belongs to a study"),
        ("studies: {tiny: {start: rewound}}", "start: unknown key; 'start' belongs to retrain"),
        ("studies: {tiny: {dense: {start: rewound}}}", "start: unknown key; 'start' belongs to retrain"),
        ("studies: {tiny: {also: [plane]}}", "also: unknown key; 'also' belongs to measure"),
        ("studies: {tiny: {dense: {lr: 0.1}}}", "lr: unknown key; did you mean 'learning_rate'?"),
        ("studies: {tiny: {seed: 1}}", "seed: unknown key; did you mean 'dense_seeds'?"),
        ("studies: {tiny: {lr: 1}}", "did you mean 'learning_rate', which belongs to dense, retrain, measure.bezier?"),
        ("studies: {tiny: {results: x}}", "'results' belongs to the top level"),
        ("studies: {tiny: {mem_mb: 1}}", "belongs to resources.dense, resources.prune, resources.retrain, …"),
        (
            "studies: {tiny: {model: m, 'knob:epochs': }}",
            "knob:epochs: unknown key: a space is missing after the colon",
        ),
        ("studies: {tiny: {temperature: [1]}}", "temperature: unknown key; did you mean 'temperatures'?"),
        ("studies: {tiny: {qqq: 1}}", "qqq: unknown key (b.yaml, line 1)"),
    ],
)
def test_an_unknown_key_may_belong_elsewhere(tmp_path: Path, overlay: str, hint: str) -> None:
    assert hint in said(tmp_path, overlay)


@pytest.mark.parametrize(
    ("keys", "advice"),
    [
        ("densities: [10]", "must be at most 1; write a fraction: 0.1 for 10 % (it is 10; "),
        ("densities: [0.5, 12.5%]", "must be a number; write a fraction: 0.125 for 12.5 % (it is '12.5%'; "),
        ("dataset: {label_noise: 20}", "must be less than 1; write a fraction: 0.2 for 20 %"),
        ("regimes: {cka: 99}", "must be less than 1; write a fraction: 0.99 for 99 %"),
        (f"claims: [{CLAIM[:-1]}, margin: 2%}}]", "must be a number; write a fraction: 0.02 for 2 %"),
    ],
)
def test_a_percentage_is_to_be_a_fraction(tmp_path: Path, keys: str, advice: str) -> None:
    assert advice in said(tmp_path, f"studies: {{tiny: {{{keys}}}}}")


@pytest.mark.parametrize("keys", ["densities: [101]", "resources: {dense: {gpu: 10}}", "regimes: {lmc: 5}"])
def test_other_numbers_are_no_percentages(tmp_path: Path, keys: str) -> None:
    assert "fraction" not in said(tmp_path, f"studies: {{tiny: {{{keys}}}}}")


def test_a_gpu_is_cuda(tmp_path: Path) -> None:
    assert "must be one of auto, cpu, cuda; did you mean 'cuda'? (it is 'gpu'" in said(tmp_path, "device: gpu")


def test_a_missing_space_is_named(tmp_path: Path) -> None:
    assert "a space is missing after the colon (it is 'model:vgg-19'" in said(
        tmp_path, "studies:\n  tiny:\n    model:vgg-19"
    )


def test_lengths_are_told_in_words(tmp_path: Path) -> None:
    assert "must have at least 1 value (" in said(tmp_path, "studies: {tiny: {densities: []}}")
    assert "must have at most 2 values (" in said(tmp_path, "studies: {tiny: {dense: {betas: [0.9, 0.9, 0.9]}}}")


def test_the_words_of_a_problem_are_this_projects() -> None:
    with pytest.raises(ValidationError) as refused:
        Training(epochs=1, learning_rate=0.0, batch_size=0)
    assert [words_of(problem) for problem in refused.value.errors()] == ["must be greater than 0", "must be at least 1"]
