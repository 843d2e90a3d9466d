"""A small source with its archive, a malicious archive, and helpers for tests of downloads."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import tarfile
from dataclasses import replace
from pathlib import Path

from serving import Server

from three_regime.preparation.download import Patience, Source, obtain
from three_regime.system.files import write_json

QUICK = Patience(connect=5, stall=10, tries=3, first_wait=0.01, longest_wait=0.05, slowest=0)
HASTY = replace(QUICK, stall=0.3)
MEMBERS = {f"toy/part_{k}": random.Random(k).randbytes(150_000) for k in range(3)}
NAME = "toy.tar.gz"


def packed(members: dict[str, bytes], *extra: tarfile.TarInfo, level: int = 6) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for info in extra:
            tar.addfile(info)
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), level, mtime=0)


def md5(content: bytes) -> str:
    return f"md5:{hashlib.md5(content).hexdigest()}"


ARCHIVE = packed(MEMBERS)
POISONED = packed({**MEMBERS, "toy/part_1": b"poison" * 25_000})
SOURCE = Source(
    name="toy",
    dataset="toys",
    file=NAME,
    urls=(),
    licence="none",
    digest=md5(ARCHIVE),
    bytes=len(ARCHIVE),
    members={name: md5(content) for name, content in MEMBERS.items()},
)
UNPUBLISHED = replace(SOURCE, digest=None, bytes=None, members=dict.fromkeys(MEMBERS))


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def get(folder: Path, *servers: Server, source: Source = SOURCE, patience: Patience = QUICK, **options) -> list[Path]:
    return obtain(source, folder, mirrors=[server.url(NAME) for server in servers], patience=patience, **options)


def assert_complete(folder: Path) -> None:
    assert {name: (folder / name).read_bytes() for name in MEMBERS} == MEMBERS
    left = {path.name for path in folder.iterdir()} - {"toy", f".{NAME}.lock", f"{NAME}.digests.json"}
    assert not left, "neither partial files nor a staging folder may remain"


def keep_partial(folder: Path, content: bytes, server: Server | None = None, **origin: object) -> Path:
    folder.mkdir(exist_ok=True)
    part = folder / f"{NAME}.part"
    part.write_bytes(content)
    if server:
        known = {"url": server.url(NAME), "validator": server.etag, "total": len(ARCHIVE), **origin}
        write_json(part.with_name(f"{part.name}.json"), known)
    return part
