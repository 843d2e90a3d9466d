"""Translation setting against fairseq's command line: parity, and the speed of training and beam search.

Both sides read the same prepared corpus: fairseq's files are the project's own, under the names that fairseq expects.
fairseq's side runs the code of ``fairseq-train`` and ``fairseq-generate``: task, iterators, ``Trainer.train_step`` and
``SequenceGenerator``, configured by their options. Both sides decode with the weights trained by the project.
"""

from __future__ import annotations

import functools
import logging
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.setting import CHECKOUT
from benchmarks.timing import compare, wait_for_quiet

MULTI30K = CHECKOUT.parent / "shared" / "data" / "deen"
WARM_UP = 3
"""Warm-up steps, not timed."""

SEED = 1


@dataclass(frozen=True)
class Case:
    """Corpus, model and sizes shared by both sides.

    Attributes
    ----------
    folder
        Prepared corpus.
    model
        Model name; without dropout only the order of batches is random.
    tokens
        Maximum tokens per batch (``--max-tokens``).
    sentences
        Number of test sentences to translate.
    """

    folder: Path
    model: str
    tokens: int
    sentences: int
    threads: int


def _clock() -> float:
    """Return seconds: CPU time with one thread, which other processes disturb little, else wall-clock time."""
    import torch

    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def measure(quick: bool, threads: int, pairs: int, patience_s: float, ours: Callable, theirs: Callable) -> Any:
    """Measure parity and interleaved timings; `ours` and `theirs` call a function in the process of either side.

    Returns
    -------
    ``training`` and ``decoding`` from `benchmarks.timing.compare`, with tokens and sentences per second of both,
    ``binaries_equal``, ``update_difference`` (largest, after three updates) and ``hypotheses_equal`` of ``sentences``.
    """
    with tempfile.TemporaryDirectory(prefix="fairseq-") as folder:
        case = prepared(Path(folder), quick, threads)
        steps = 2 if quick else 40
        weights = Path(folder) / "trained.safetensors"
        found: dict[str, Any] = {"corpus": case.folder.name, "model": case.model, "sentences": case.sentences}
        found["binaries_equal"] = theirs(binaries_equal, case)
        updates = ours(our_updates, case), theirs(their_updates, case)
        shifted = [name for name in updates[0] if not name.endswith("k_proj.bias")]  # their gradient is rounding error
        found["update_difference"] = max(float(abs(updates[0][name] - updates[1][name]).max()) for name in shifted)
        ours(train_briefly, case, 2 if quick else 400, weights)
        hypotheses = ours(our_hypotheses, case, weights)[1], theirs(their_hypotheses, case, weights)[1]
        found["hypotheses_equal"] = sum(map(list.__eq__, *hypotheses))
        timed = functools.partial(compare, pairs=pairs, patience_s=patience_s)
        wait_for_quiet(patience_s)
        found["training"] = timed(lambda: ours(our_token_s, case, steps), lambda: theirs(their_token_s, case, steps))
        found["decoding"] = timed(
            lambda: ours(our_hypotheses, case, weights)[0], lambda: theirs(their_hypotheses, case, weights)[0]
        )
    rate = {"training": 1.0, "decoding": case.sentences}
    for name, amount in rate.items():
        found[name] |= {f"{side}_per_s": round(amount / found[name][side], 1) for side in ("ours", "usual")}
    return found


def prepared(folder: Path, quick: bool, threads: int) -> Case:
    """Prepare a corpus in `folder`: Multi30k, or generated sentences if `quick` or if Multi30k is unavailable."""
    from three_regime.config import DatasetChoice
    from three_regime.preparation.prepare import prepare
    from three_regime.study.grid import prepared_path

    if quick or not MULTI30K.is_dir():
        choice = DatasetChoice(name="toy", train_pairs=300 if quick else 20_000, subwords=300, max_tokens=100)
    else:
        choice = DatasetChoice(name="multi30k-de-en", subwords=2000, max_tokens=100)
        raw = folder / "raw" / choice.name
        raw.mkdir(parents=True)
        for path in MULTI30K.glob("multi30k.*"):
            shutil.copyfile(path, raw / path.name)
    prepare(choice, folder)
    home = prepared_path(choice, folder).parent
    source, target = choice.entry.languages
    for language in (source, target):
        (home / f"dict.{language}.txt").symlink_to("dict.txt")
        for kind in ("bin", "idx"):
            (home / f"valid.{source}-{target}.{language}.{kind}").symlink_to(
                f"validation.{source}-{target}.{language}.{kind}"
            )
    model = "transformer-1x16x2" if quick else "transformer-2x64x4"
    return Case(home, model, 400 if quick else 800, 8 if quick else choice.entry.test_pairs, threads)


# The project's side.


@functools.lru_cache(maxsize=1)
def _task(case: Case) -> Any:
    import torch

    from three_regime.datasets.corpora import MANIFEST
    from three_regime.preparation.prepared_text import open_text
    from three_regime.tasks.translation.task import Translation

    torch.set_num_threads(case.threads)
    return Translation(open_text(case.folder / MANIFEST), case.model, torch.device("cpu"))


def _training(case: Case, **changes: Any) -> Any:
    from three_regime.config import Training

    settings = {
        "optimiser": "adam", "learning_rate": 0.004, "betas": (0.9, 0.98), "epsilon": 1e-9, "weight_decay": 0.0,
        "epsilon_placement": "fairseq", "batch_size": case.tokens, "schedule": "inverse_sqrt", "warmup": 200,
        "clip_norm": 1.0, "dropout": 0.1, "label_smoothing": 0.1, "evaluate_every": 1_000_000, "epochs": 1_000,
    }  # fmt: skip
    return Training.model_validate({**settings, **changes})


def _run(case: Case, task: Any, training: Any) -> dict[str, np.ndarray]:
    """Return the final weights of a training, or None if it was stopped."""
    import contextlib

    from three_regime.errors import Interrupted
    from three_regime.random_streams import Streams
    from three_regime.training.trainer import Member, Session, train_pack

    streams = Streams(("benchmark", SEED))
    found: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(Interrupted):
        member = Member(
            label="benchmark", key="benchmark", streams=streams, start=task.initial_weights(streams), masks={},
            checkpoints=(), state=Path(folder) / "state", deliver=lambda checkpoint: found.update(checkpoint.weights),
        )  # fmt: skip
        train_pack(task, training, [member], Session(case.threads, 1e9, getattr(task, "stop", None) or _stop()))
    return found


def _stop() -> Any:
    from three_regime.system.interruption import Stop

    return Stop()


class _Clocked:
    """Task that stops the trainer after some steps and records seconds and target tokens after warm-up."""

    def __init__(self, task: Any, steps: int) -> None:
        self._task, self._left, self.stop = task, WARM_UP + steps, _stop()
        self._steps, self._tokens, self.token_s = steps, 0, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def loss(self, parameters: Any, buffers: Any, batch: Any) -> Any:
        if self._left == self._steps:
            self._began, self._tokens = _clock(), 0
        if self._left == 0:
            self.token_s = (_clock() - self._began) / self._tokens
            self.stop.reason = "measured"
        self._left -= 1
        self._tokens += batch.batch.tokens
        return self._task.loss(parameters, buffers, batch)


def our_token_s(case: Case, steps: int) -> float:
    """Return training seconds per target token with the project's trainer."""
    clocked = _Clocked(_task(case), steps)
    _run(case, clocked, _training(case))
    return clocked.token_s


def our_updates(case: Case) -> dict[str, np.ndarray]:
    """Return the weights after three updates without dropout, on the three batches of `_rows`."""
    return _run(case, _Few(_task(case)), _training(case, iterations=3, epochs=None, dropout=0.0, warmup=1))


class _Few:
    """Task with an epoch of the three batches of `_rows`."""

    def __init__(self, task: Any) -> None:
        self._task = task

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def epoch(self, streams: Any, epoch: int, training: Any) -> Any:
        from types import SimpleNamespace

        from three_regime.tasks.translation.batches import Batches, TrainingBatch

        text = self._task.text
        batches = [
            Batches(text.pairs("train"), text.dictionary, 100_000, self._task.device, rows=rows)[0] for rows in _rows()
        ]
        return SimpleNamespace(
            steps=3, micro_batches=lambda step: (TrainingBatch(batches[step], 0.0, 0, training.label_smoothing),)
        )


def _rows() -> list[list[int]]:
    """Return the training pairs of three small batches."""
    return [list(range(first, first + 24)) for first in (0, 50, 100)]


def train_briefly(case: Case, steps: int, out: Path) -> None:
    """Train for some steps and write the weights."""
    from three_regime.system.files import write_arrays

    write_arrays(out, _run(case, _task(case), _training(case, iterations=steps, epochs=None)), {})


def our_hypotheses(case: Case, weights: Path) -> tuple[float, list[list[int]]]:
    """Return the seconds for beam search over the test set, and the hypotheses."""
    from three_regime.system.files import read_arrays
    from three_regime.tasks.translation.beam_search import Search, Symbols, translate

    task = _task(case)
    loaded = task.load(read_arrays(weights), str(weights))
    pairs = task.text.pairs("test")
    symbols = Symbols(task.text.dictionary.pad(), task.text.dictionary.eos())
    began = _clock()
    sentences = [pairs.source[row] for row in range(case.sentences)]
    found = translate(task.network, loaded, symbols, sentences, Search(beam=4, length_penalty=0.6))
    return _clock() - began, [ids.tolist() for ids in found]


# fairseq's side.


@functools.lru_cache(maxsize=2)
def _fairseq(case: Case, *changes: str) -> tuple[Any, Any, Any]:
    """Return the configuration, task and trainer of ``fairseq-train`` on the corpus, with extra options."""
    import torch
    from fairseq import options, tasks
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf
    from fairseq.trainer import Trainer

    from three_regime.models.families import parse

    logging.getLogger("fairseq").setLevel(logging.WARNING)
    torch.set_num_threads(case.threads)
    spec = parse(case.model)
    source, target = _languages(case)
    sides = [f"--{side}-{key}={value}" for side in ("encoder", "decoder") for key, value in (
        ("layers", spec.depth), ("embed-dim", int(spec.width)), ("ffn-embed-dim", 4 * int(spec.width)),
        ("attention-heads", spec.heads),
    )]  # fmt: skip
    arguments = [
        str(case.folder), "--task=translation", f"--source-lang={source}", f"--target-lang={target}", "--cpu",
        "--arch=transformer", *sides, "--share-decoder-input-output-embed", "--dropout=0.1",
        "--optimizer=adam", "--use-old-adam", "--adam-betas=(0.9,0.98)", "--adam-eps=1e-9", "--lr=0.004",
        "--clip-norm=1.0",
        "--lr-scheduler=inverse_sqrt", "--warmup-updates=200", "--criterion=label_smoothed_cross_entropy",
        "--label-smoothing=0.1", f"--max-tokens={case.tokens}", "--num-workers=0", f"--seed={SEED}",
        "--no-progress-bar", "--beam=4", "--lenpen=0.6", "--max-len-a=2", "--max-len-b=10",
        *changes,
    ]  # fmt: skip
    parser = options.get_training_parser()
    options.add_generation_args(parser)
    config = convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, arguments))
    task = tasks.setup_task(config.task)
    model, criterion = task.build_model(config.model), task.build_criterion(config.criterion)
    return config, task, Trainer(config, task, model, criterion)


def _languages(case: Case) -> tuple[str, str]:
    from three_regime.datasets.corpora import MANIFEST
    from three_regime.preparation.parallel_text import LANGUAGES_KEY
    from three_regime.system.files import read_metadata

    source, target = read_metadata(case.folder / MANIFEST)[LANGUAGES_KEY].split("-")
    return source, target


def their_token_s(case: Case, steps: int) -> float:
    """Return training seconds per target token with fairseq's trainer and iterator."""
    _, _, trainer = _fairseq(case)
    # The split is loaded by `fairseq-train`'s own code, in epoch order.
    iterator = trainer.get_train_iterator(epoch=1).next_epoch_itr(shuffle=True)
    tokens, began = 0, 0.0
    for number, sample in enumerate(iterator):
        if number == WARM_UP:
            began, tokens = _clock(), 0
        if number == WARM_UP + steps:
            break
        trainer.train_step([sample])
        tokens += sample["ntokens"]
    return (_clock() - began) / tokens


def their_updates(case: Case) -> dict[str, np.ndarray]:
    """Like `our_updates`, with fairseq's criterion, optimiser and clipping, from the same weights on the same pairs."""
    import torch

    from three_regime.models.transformer import initial_weights
    from three_regime.random_streams import Streams

    _, task, trainer = _fairseq(case, "--dropout=0", "--warmup-updates=1", "--warmup-init-lr=1e-7")
    model = trainer.get_model()
    start = initial_weights(model, Streams(("benchmark", SEED)).generator("initialisation"))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(start[name]))
    task.load_dataset("train")
    data = task.dataset("train")
    trainer.lr_step_begin_epoch(1)
    for rows in _rows():
        trainer.train_step([data.collater([data[row] for row in rows])])
    return {name: value.detach().numpy().copy() for name, value in model.named_parameters()}


def their_hypotheses(case: Case, weights: Path) -> tuple[float, list[list[int]]]:
    """Return the seconds for ``fairseq-generate``'s loop over the test set in batches of 128, and the hypotheses."""
    import torch

    from three_regime.system.files import read_arrays

    config, task, _ = _fairseq(case)
    arrays = read_arrays(weights)
    model = task.build_model(config.model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(arrays[name]))
    model.eval()
    generation = config.generation
    task.load_dataset("test")
    model.prepare_for_inference_(config)
    generator = task.build_generator([model], generation)
    data = task.dataset("test")
    found: list[list[int]] = [[] for _ in range(case.sentences)]
    began = _clock()
    batches: Any = [data.collater([data[row] for row in range(case.sentences)])]
    if case.sentences == len(data):
        batches = task.get_batch_iterator(
            data, max_sentences=128, max_positions=(1024, 1024), num_workers=0
        ).next_epoch_itr(shuffle=False)
    for sample in batches:
        hypotheses = task.inference_step(generator, [model], sample)
        for row, ranked in zip(sample["id"].tolist(), hypotheses, strict=True):
            found[row] = ranked[0]["tokens"][:-1].tolist()
    return _clock() - began, found


def binaries_equal(case: Case) -> bool:
    """Return whether ``fairseq-preprocess`` writes identical files from the corpus's subwords."""
    from fairseq import options
    from fairseq_cli import preprocess

    from three_regime.datasets.corpora import MANIFEST
    from three_regime.preparation.prepared_text import open_text

    text = open_text(case.folder / MANIFEST)
    source, target = text.languages
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "binary"
        for side, language in enumerate(text.languages):
            lines = [(text.pairs("train").source if side == 0 else text.pairs("train").target)[row].tolist()[:-1]
                     for row in range(text.sizes["train"])]  # fmt: skip
            spelt = (" ".join(text.dictionary[number] for number in line) for line in lines)
            (Path(folder) / f"train.{language}").write_text("".join(f"{line}\n" for line in spelt), encoding="utf-8")
        arguments = [
            f"--source-lang={source}", f"--target-lang={target}", f"--trainpref={folder}/train", f"--destdir={out}",
            f"--srcdict={case.folder}/dict.txt", f"--tgtdict={case.folder}/dict.txt", "--workers=1",
        ]  # fmt: skip
        preprocess.main(options.get_preprocessing_parser().parse_args(arguments))
        names = [
            f"train.{source}-{target}.{language}.{kind}" for language in (source, target) for kind in ("bin", "idx")
        ]
        return all((out / name).read_bytes() == (case.folder / name).read_bytes() for name in names)
