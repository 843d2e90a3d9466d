"""The whole configuration: the studies, and what holds for all of them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from three_regime.config.dataset import DatasetChoice
from three_regime.config.regimes import Regimes
from three_regime.config.section import Folder, Name, Positive, Section, Source
from three_regime.config.study import StudyConfig
from three_regime.datasets.sources import check_url, load_sources
from three_regime.names import registered


class Data(Section):
    """Where data sets are kept and looked for."""

    folder: Folder = Field("data", description="Downloads (`raw/`) and prepared arrays.")
    offline: tuple[Source, ...] = Field(("offline",), description="Folders looked at before the network is used.")
    mirrors: dict[str, tuple[str, ...]] = Field({}, description="Extra addresses tried first: {source: [url, ...]}.")

    @field_validator("mirrors")
    @classmethod
    def _of_known_sources(cls, mirrors: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        """A misspelt name would be a mirror that nobody asks."""
        if mirrors:
            known = load_sources()
            for name, urls in mirrors.items():
                registered(name, known, "source")
                for url in urls:
                    check_url(url)
        return mirrors


class Config(Section):
    """The whole configuration."""

    results: Folder = Field("results", description="Folder of all that is made; presets: results/<preset>.")
    run: tuple[str, ...] = Field(description="Names of the studies that are planned; [] with `published` alone.")
    published: bool = Field(True, description="Redraw the published Figure 2, and score obtained studies against it.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="`auto` takes a GPU where there is one.")
    require_gpu: bool = Field(
        False,
        description="What asks for a GPU (`resources`) and finds none refuses, instead of using the CPU.",
    )
    gpu_slots: Positive = Field(1, description="Jobs that share one local GPU; a batch system's choice stands.")
    max_runtime: Positive = Field(
        2880, description="No job asks for more minutes: one that is cut off continues (this project's choice)."
    )
    threads: Positive = Field(2, description="CPU threads of each torch job. Part of bit-identity, so a setting.")
    kernels: Literal["auto", "plain"] = Field(
        "auto", description="`auto` computes networks on a CPU with compiled kernels where there is a C compiler;"
        " `plain` with torch alone. They round differently; recorded, and kept within a run (this project's choice)."
    )  # fmt: skip
    state_every_s: float = Field(60, gt=0, description="Seconds between saved training states.")
    plugins: tuple[str, ...] = Field(
        (), description="Python files or modules that register data sets, models or knobs; imported before this"
        " configuration is checked, and run with your rights."
    )  # fmt: skip
    data: Data = Data()
    regimes: Regimes = Regimes()
    studies: dict[Name, StudyConfig] = Field(description="Study name -> definition.")

    @model_validator(mode="after")
    def _defined(self) -> Config:
        for name in self.run:
            try:
                registered(name, self.studies, "study")
            except ValueError as error:
                raise ValueError(f"run: {error}") from error
        if not self.run and not self.published:
            raise ValueError("run: name at least one study, or set `published: true`")
        if len(set(self.run)) != len(self.run):
            raise ValueError(f"run: {list(self.run)} holds a study twice")
        if self.require_gpu and self.device == "cpu":
            raise ValueError("require_gpu is true, but device is cpu; use auto or cuda")
        self._check_shared_data()
        return self

    def _check_shared_data(self) -> None:
        """Studies that share a prepared corpus must clean it alike."""
        first: dict[str, tuple[str, DatasetChoice]] = {}
        for name in self.run:
            choice = self.studies[name].dataset
            other, theirs = first.setdefault(choice.setting.prepared_file(choice), (name, choice))
            for key in choice.setting.cleaned_alike:
                if getattr(choice, key) != getattr(theirs, key):
                    both = getattr(choice, key), getattr(theirs, key)
                    values = [value if isinstance(value, str) else f"{value:g}" for value in both]
                    raise ValueError(
                        f"studies.{name}.dataset.{key} is {values[0]} and studies.{other}.dataset.{key} is {values[1]}:"
                        f" both use {choice.folder}, which is cleaned in one way"
                    )
