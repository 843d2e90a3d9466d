"""Rates of a Transformer on this machine for ``python -m three_regime plan``: tokens and decoded sentences per second.

``python -m benchmarks.translation`` adds them to the image rates in ``benchmarks/rates/<machine>.json`` (measure those
first). The text is random with the sentence lengths of WMT14; time and memory do not depend on its content. With one
CPU thread the clock is CPU time, which other processes disturb little.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks import machine
from three_regime.config import Training
from three_regime.errors import UserError
from three_regime.logs import reporting
from three_regime.system.files import read_json, write_json

RATES = Path(__file__).resolve().parent / "rates"
MEAN_LENGTH, LONGEST = 28, 120
"""Mean subwords per WMT14 sentence with a vocabulary of 32,000 (this project's estimate)."""

DECODED, TOGETHER = (12, 21, 30, 48), 32
"""Lengths of the translated sentences, end token included, and the number of each."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sentences:
    """One split in memory."""

    source: list[Any]
    target: list[Any]

    def __len__(self) -> int:
        return len(self.source)

    @property
    def source_lengths(self) -> np.ndarray:
        return np.array([len(line) for line in self.source])

    @property
    def target_lengths(self) -> np.ndarray:
        return np.array([len(line) for line in self.target])


@dataclass(frozen=True)
class RandomText:
    """The part of a prepared corpus that the task needs for training, evaluation and decoding."""

    dictionary: Any
    training: Sentences
    held_out: Sentences
    folder: Path = Path("random")

    def pairs(self, split: str) -> Sentences:
        return self.training if split == "train" else self.held_out

    def decode(self, ids: list[int]) -> str:
        return " ".join(map(str, ids))


def random_text(subwords: int, pairs: int) -> RandomText:
    """Return sentence pairs of random subwords with gamma-distributed lengths."""
    import torch
    from fairseq.data import Dictionary

    dictionary = Dictionary()
    for number in range(subwords - dictionary.nspecial):
        dictionary.add_symbol(f"w{number}")
    generator = np.random.default_rng(0)

    def side(lengths: Iterable[int]) -> list[Any]:
        """Return sentences of these lengths, each with its end token."""
        return [
            torch.tensor([*generator.integers(dictionary.nspecial, subwords, length - 1), dictionary.eos()])
            for length in lengths
        ]

    def drawn() -> np.ndarray:
        return np.clip(generator.gamma(3, MEAN_LENGTH / 3, pairs).astype(int), 2, LONGEST) + 1

    decoded = [length for length in DECODED for _ in range(TOGETHER)]
    return RandomText(dictionary, Sentences(side(drawn()), side(drawn())), Sentences(side(decoded), side(decoded)))


def rates(model: str, subwords: int, device: str, training: Training, pairs: int, steps: int) -> dict[str, Any]:
    """Return tokens trained and evaluated per second, and sentences decoded per second with beam 4 and greedily.

    Untrained networks rarely emit the end token, so each translation is cut at the length of its source, close to the
    length that trained networks produce. The optimiser step is not counted.
    """
    import torch

    from three_regime.random_streams import Streams
    from three_regime.tasks.translation.beam_search import Search
    from three_regime.tasks.translation.task import Translation

    task = Translation(random_text(subwords, pairs), model, torch.device(device))
    streams = Streams(("benchmark",))
    weights = task.load(task.initial_weights(streams), "fresh")
    epoch = task.epoch(streams, 0, training)
    leaves = {name: value.clone().requires_grad_() for name, value in weights.items()}

    def train() -> int:
        tokens = 0
        for step in range(min(steps, epoch.steps)):
            for part in epoch.micro_batches(step):
                with torch.autocast(device, torch.bfloat16, enabled=training.precision == "bf16" and device == "cuda"):
                    loss, _, count = task.loss(leaves, {}, part)
                torch.autograd.grad(loss, list(leaves.values()))
                tokens += count
        return tokens

    def decode() -> int:
        for beam in (task.search.beam, 1):
            task.translations(weights, "test", Search(beam=beam, factor=1.0, extra=-1))
        return len(task.text.pairs("test"))

    def evaluate() -> int:
        task.evaluate(weights, "test")
        return int(task.text.pairs("validation").target_lengths.sum())

    found = {"train_tokens_per_s": train, "evaluate_tokens_per_s": evaluate, "decode_sentences_per_s": decode}
    return {**{name: round(_per_second(work, device), 1) for name, work in found.items()}, "subwords": subwords}


def _per_second(work: Callable[[], int], device: str) -> float:
    """Return units of `work` per second on its second run."""
    import torch

    # Idle threads use no CPU time, so CPU time equals elapsed time only with one thread.
    clock = time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    began = clock()
    done = work()
    if device == "cuda":
        torch.cuda.synchronize()
    return done / (clock() - began)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--model", default="transformer-6x512x8", show_default=True)
@click.option("--subwords", type=click.IntRange(50), default=32_000, show_default=True)
@click.option("--batch-size", type=click.IntRange(LONGEST + 1), default=8192, show_default=True, help="Tokens.")
@click.option("--pairs", type=click.IntRange(1), default=4096, show_default=True)
@click.option("--steps", type=click.IntRange(1), default=20, show_default=True)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True, help="CPU threads.")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), default=RATES, show_default=True)
def main(
    model: str, subwords: int, batch_size: int, pairs: int, steps: int, device: str, threads: int, folder: Path
) -> None:
    """Measure the rates of MODEL and add them to this machine's rates file."""
    import torch

    from three_regime.system.device import choose

    with reporting():
        torch.set_num_threads(threads)
        device = choose(device)
        training = Training(
            optimiser="adam", learning_rate=1e-4, epochs=1, batch_size=batch_size, schedule="inverse_sqrt", warmup=10,
            dropout=0.1, label_smoothing=0.1, precision="bf16",
        )  # fmt: skip
        path = folder / f"{machine.slug(machine.describe(device))}.json"
        if not path.is_file():
            raise UserError(
                f"{path} is missing: measure the image rates first with `python -m benchmarks --item rates`"
            )
        known = read_json(path)
        found = rates(model, subwords, device, training, pairs, steps)
        found |= {"threads": threads, "measured": datetime.now(UTC).date().isoformat()}
        write_json(path, {**known, "text_models": {**known.get("text_models", {}), model: found}})
        log.info("%s: %s", path, found)


if __name__ == "__main__":
    main()
