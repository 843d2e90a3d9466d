"""The whole configuration: studies, and settings for all of them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from three_regime.config.dataset import DatasetChoice
from three_regime.config.load_grids import LoadGridConfig
from three_regime.config.regimes import Regimes
from three_regime.config.rule_names import check_rule_names
from three_regime.config.section import Folder, Name, Positive, Section, Source
from three_regime.config.study import StudyConfig
from three_regime.datasets.sources import check_url, load_sources
from three_regime.names import registered


class Data(Section):
    """Folders and addresses of data sets."""

    folder: Folder = Field("data", description="Folder for downloads (`raw/`) and prepared data.")
    offline: tuple[Source, ...] = Field(("offline",), description="Folders searched before the network is used.")
    mirrors: dict[str, tuple[str, ...]] = Field(
        {}, description="Additional addresses, tried first: {source: [url, ...]}."
    )

    @field_validator("mirrors")
    @classmethod
    def _of_known_sources(cls, mirrors: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        """Check source names, since a mirror of a misspelt source would never be used."""
        if mirrors:
            known = load_sources()
            for name, urls in mirrors.items():
                registered(name, known, "source")
                for url in urls:
                    check_url(url)
        return mirrors


class Config(Section):
    """The whole configuration."""

    results: Folder = Field(
        "results",
        description="Folder for all outputs; most presets: results/<preset>, those of Figure 2 share `results`.",
    )
    run: tuple[str, ...] = Field(description="Names of the studies to run; [] for only `published`.")
    published: bool = Field(True, description="Redraw the published Figure 2, and score obtained studies against it.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="`auto` uses a GPU if there is one.")
    require_gpu: bool = Field(
        False,
        description="Jobs that request a GPU (`resources`) and find none fail instead of using the CPU.",
    )
    gpu_slots: Positive = Field(1, description="Jobs that share one local GPU; no effect on a batch system's choice.")
    max_runtime: Positive = Field(
        2880, description="Maximum minutes a job requests; a job that is cut off continues (this project's choice)."
    )
    threads: Positive = Field(2, description="CPU threads of each torch job; results are bit-identical only for equal"
                              " numbers.")  # fmt: skip
    kernels: Literal["auto", "plain"] = Field(
        "auto", description="`auto` uses compiled kernels on a CPU if there is a C compiler; `plain` uses only torch."
        " They round differently; the choice is recorded and kept within a run (this project's choice)."
    )  # fmt: skip
    state_every_s: float = Field(60, gt=0, description="Seconds between saved training states.")
    plugins: tuple[str, ...] = Field(
        (), description="Python files or modules that register data sets, models, knobs, criteria or measures; imported"
        " before the configuration is validated, and executed with your permissions."
    )  # fmt: skip
    data: Data = Data()
    regimes: Regimes = Regimes()
    studies: dict[Name, StudyConfig] = Field(description="Study name -> definition.")
    load_grids: dict[Name, LoadGridConfig] = Field(
        {}, description="Grids over another load than density, joined from studies: name -> definition (this project's"
        " choice)."
    )  # fmt: skip

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
            raise ValueError(f"run: {list(self.run)} lists a study twice")
        if self.require_gpu and self.device == "cpu":
            raise ValueError("require_gpu is true, but device is cpu; use auto or cuda")
        self._check_shared_data()
        self._check_load_grids()
        check_rule_names({name: self.studies[name] for name in self.run}, self.run_load_grids)
        return self

    @property
    def run_load_grids(self) -> dict[str, LoadGridConfig]:
        """The grids over another load whose studies are all run."""
        return {name: grid for name, grid in self.load_grids.items() if set(grid.studies) <= set(self.run)}

    def _check_load_grids(self) -> None:
        for name, grid in self.load_grids.items():
            if name in (*self.studies, "published"):
                raise ValueError(f"load_grids.{name}: the folder of that name belongs to a study; choose another name")
            try:
                grid.check(self.studies, self.regimes)
            except ValueError as error:
                raise ValueError(f"load_grids.{name}: {error}") from error

    def _check_shared_data(self) -> None:
        """Check that studies that share a prepared corpus use the same text and agree on its cleaning."""
        first: dict[str, tuple[str, DatasetChoice]] = {}
        for name in self.run:
            choice = self.studies[name].dataset
            other, theirs = first.setdefault(choice.setting.prepared_file(choice), (name, choice))
            if (choice.name, choice.files) != (theirs.name, theirs.files):
                raise ValueError(
                    f"studies.{name}.dataset is {choice.files or choice.name} and studies.{other}.dataset is"
                    f" {theirs.files or theirs.name}: both would be prepared in the folder {choice.folder}; rename the"
                    f" folder {choice.files or theirs.files}"
                )
            for key in choice.setting.cleaned_alike:
                ours, others = getattr(choice, key), getattr(theirs, key)
                if ours != others:
                    raise ValueError(
                        f"studies.{name}.dataset.{key} is {_shown(ours)} and studies.{other}.dataset.{key} is"
                        f" {_shown(others)}: both use {choice.folder}, which can be cleaned in only one way"
                    )


def _shown(value: float | str | None) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)
