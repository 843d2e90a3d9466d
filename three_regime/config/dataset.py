"""The data of a study: `dataset`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, field_validator, model_validator

from three_regime.config.section import Folder, Positive, Section
from three_regime.datasets import registry
from three_regime.datasets.corpora import OWN_TEXT
from three_regime.names import registered
from three_regime.settings import Setting, all_settings, setting_of


def _language(code: str) -> str:
    if not re.fullmatch(r"[a-z]{2,3}(_[A-Za-z]+)?", code):
        raise ValueError(f"language {code!r}: a code is two or three lower-case letters, with a region as in zh_CN")
    return code


Language = Annotated[str, AfterValidator(_language)]


class DatasetChoice(Section):
    """Data set, and how many images or sentence pairs are used."""

    name: str = Field(description="A registered data set (`python -m three_regime list`).")
    train_images: Positive | None = Field(
        None, description="Use the first N training images in file order; null: all (the paper)."
    )
    test_images: Positive | None = Field(
        None, description="Use the first N test images in file order; null: all (the paper)."
    )
    label_noise: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="Share of the training labels that is replaced by other classes; null: none (the paper)."
    )
    train_pairs: Positive | None = Field(
        None, description="Text: use the first N training pairs that pass cleaning; null: all (the group's"
        " earlier code: from 160,000 to 2,560,000)."
    )  # fmt: skip
    validation_pairs: Positive | None = Field(
        None, description="Text: measure on the first N validation pairs; null: all (the paper)."
    )
    test_pairs: Positive | None = Field(
        None, description="Text: measure on the first N test pairs; null: all (the paper)."
    )
    subwords: Annotated[int, Field(ge=8, le=65_000)] | None = Field(
        None, description="Text: size of the joint subword vocabulary, including special symbols; default 32,000 (this"
        " project's choice)."
    )  # fmt: skip
    max_tokens: Positive | None = Field(
        None, description="Text: drop training pairs with a side of more subwords than this; default 250 (this"
        " project's choice)."
    )  # fmt: skip
    ratio: Annotated[float, Field(gt=1)] | None = Field(
        None, description="Text: drop training pairs in which one side has more than this many times the subwords of"
        " the other; default 2 (this project's choice)."
    )  # fmt: skip

    files: Folder | None = Field(
        None, description="Only `text-files`: folder of untokenised text, UTF-8, one sentence per line, in"
        " {train,validation,test}.<language>. It is read once, so use a new folder for another text."
    )  # fmt: skip
    languages: tuple[Language, Language] | None = Field(
        None, description="Only `text-files`: codes of the source and the target language, e.g. [fr, en]."
    )  # fmt: skip

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, value: Any) -> Any:
        entry = registry.DATASETS.get(str(value.get("name"))) if isinstance(value, Mapping) else None
        defaults = setting_of(entry.kind).dataset_defaults if entry else {}
        return {**defaults, **{key: given for key, given in value.items() if given is not None}} if defaults else value

    @field_validator("name")
    @classmethod
    def _registered(cls, name: str) -> str:
        return registered(name, registry.DATASETS, "data set")

    @model_validator(mode="after")
    def _enough(self) -> DatasetChoice:
        own = self.setting.dataset_keys
        for key in (key for each in all_settings() for key in each.dataset_keys):
            if key not in own and getattr(self, key) is not None:
                raise ValueError(f"{key} does not apply to {self.name}, which holds {self.entry.kind}")
        for key in ("files", "languages"):
            if (getattr(self, key) is None) == (self.name == OWN_TEXT):
                raise ValueError(f"{key} {'is needed for' if self.name == OWN_TEXT else 'belongs to'} {OWN_TEXT}")
        if self.languages and len(set(self.languages)) < 2:
            raise ValueError(f"languages {list(self.languages)} must differ")
        for key in self.setting.sizes:
            wanted, available = getattr(self, key), getattr(self.entry, key)
            if wanted is not None and available is not None and wanted > available:
                raise ValueError(f"{key} is {wanted}, but {self.name} has {available}")
        return self

    @property
    def entry(self) -> registry.ImageDataset | registry.ParallelCorpus:
        """The registered data set; for `text-files`, with this choice's files and languages."""
        entry = registry.DATASETS[self.name]
        if self.files is None or self.languages is None:
            return entry
        source, target = self.languages
        return replace(entry, files=Path(self.files), source_language=source, target_language=target)

    @property
    def setting(self) -> Setting:
        """The setting (images, translation) of the data."""
        return setting_of(self.entry.kind)

    @property
    def images(self) -> int:
        """Number of training images used."""
        return self.train_images or self.entry.train_images

    @property
    def training_size(self) -> int | None:
        """Number of training examples used (images, sentence pairs); None if cleaning drops an unknown number."""
        key = self.setting.sizes[0]
        return getattr(self, key) or (None if self.setting.cleaned_alike else getattr(self.entry, key))

    @property
    def variant(self) -> str:
        """What sets these training data apart from others of the same name."""
        stated = getattr(self, self.setting.sizes[0])
        size = "all training examples" if stated is None else f"{stated:,} training examples"
        noise = f"label noise {self.label_noise:.4g}" if self.label_noise else ""
        return ", ".join(filter(None, [self.files and Path(self.files).name, size, noise]))

    @property
    def folder(self) -> str:
        """Folder name of a prepared corpus: name (or folder and languages of own text), training pairs, subwords."""
        name = self.name if self.files is None else f"{Path(self.files).name}-{'-'.join(self.languages)}"
        return f"{name}-{self.train_pairs or 'all'}-{self.subwords}"
