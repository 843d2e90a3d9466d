"""The table of downloads: files, addresses and digests."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path, PurePosixPath
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, field_validator
from pydantic.dataclasses import dataclass

from three_regime.errors import UserError
from three_regime.names import nearest
from three_regime.system.archives import is_archive
from three_regime.system.files import file_digest
from three_regime.system.yaml_files import read_mapping

TABLE = Path(__file__).with_name("sources.yaml")

Digest = Annotated[str, Field(pattern=r"^(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})$")]
Url = Annotated[str, Field(pattern=r"^https?://[^\s/]+/\S+$")]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Source:
    """One file to download, and the files it yields.

    Attributes
    ----------
    name, dataset
        Key in the table, and the data set it belongs to.
    file
        Name of the file; an archive or the data itself, by its suffix (see `is_archive`).
    urls
        Addresses, tried in order.
    digest
        ``md5:…`` or ``sha256:…`` of `file`; None if none is published.
    bytes, unpacked_bytes
        Size of `file`, and an upper bound on its unpacked size; None if unknown.
    members
        Path inside the archive → digest (or None); only these are extracted. Empty for a plain file.
    licence, note
        Information for users.
    """

    name: str
    dataset: str
    file: Annotated[str, Field(pattern=r"^[\w][\w.+-]*$")]
    urls: tuple[Url, ...]
    licence: str
    digest: Digest | None = None
    bytes: Annotated[int, Field(gt=0)] | None = None
    unpacked_bytes: Annotated[int, Field(gt=0)] | None = None
    members: dict[str, Digest | None] = Field(default_factory=dict)
    note: str = ""

    @field_validator("members")
    @classmethod
    def _inside(cls, members: dict[str, str | None]) -> dict[str, str | None]:
        for path in members:
            pure = PurePosixPath(path)
            if pure.is_absolute() or ".." in pure.parts or str(pure) != path:
                raise ValueError(f"{path!r} must be a plain relative path without '..'")
        return members

    @field_validator("members")
    @classmethod
    def _only_of_archives(cls, members: dict[str, str | None], info: object) -> dict[str, str | None]:
        name = info.data.get("file")
        if name is not None and bool(members) != is_archive(name):
            fault = (
                "is an archive: list its members"
                if is_archive(name)
                else "is not an archive, so it cannot have members"
            )
            raise ValueError(f"{name} {fault}")
        return members

    @property
    def files(self) -> dict[str, str | None]:
        """Path of every file needed, relative to the raw folder → published digest or None."""
        return dict(self.members) if self.members else {self.file: self.digest}


def load_sources(path: Path | None = None) -> dict[str, Source]:
    """Read the table of downloads: name → source.

    Parameters
    ----------
    path
        Table to read instead of the project's, in the same format.

    Raises
    ------
    UserError
        When the file is missing or not YAML, or an entry has an unknown, missing or invalid key.
    """
    path = Path(path) if path else TABLE
    table = read_mapping(path, "the table of downloads").values
    adapter = TypeAdapter(Source)
    sources = {}
    for name, entry in table.items():
        if not isinstance(entry, dict):
            raise UserError(f"{path}: {name}: must be a mapping")
        try:
            sources[name] = adapter.validate_python({**entry, "name": name})
        except ValidationError as error:
            raise UserError(f"{path}: {_first(name, error)}") from error
    return sources


def check_url(url: str) -> None:
    """Raise ``ValueError`` if `url` is not the address of a file or (with a trailing slash) of a folder of files."""
    try:
        parts = urlsplit(url)
        right = parts.scheme in ("http", "https") and parts.hostname and parts.path and (parts.port or 1)
    except ValueError:  # e.g. a port that is not a number, or unbalanced brackets
        right = False
    if not right or re.search(r"\s", url):
        raise ValueError(f"{url!r} is not a valid address: it needs https:// or http://, a host and a file")


def digest_of(path: Path, like: str = "sha256:") -> str:
    """Digest of a file in the format of the table, ``algorithm:hex``, with the algorithm of the digest `like`."""
    algorithm = like.partition(":")[0]
    return f"{algorithm}:{file_digest(path, algorithm)}"


def _first(name: str, error: ValidationError) -> str:
    """Format the first error as one sentence, with the nearest valid key if a key is unknown."""
    unknown = "unexpected_keyword_argument"
    fault = min(error.errors(), key=lambda fault: fault["type"] != unknown)  # a misspelt key is also a missing one
    place = ".".join([name, *(str(part) for part in fault["loc"])])
    if fault["type"] == unknown:
        valid = [field.name for field in fields(Source) if field.name != "name"]
        return f"{place}: unknown key" + (nearest(str(fault["loc"][-1]), valid) or f"; valid are {', '.join(valid)}")
    return f"{place}: {fault['msg']}"
