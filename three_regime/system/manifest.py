"""The manifest of an export: SHA-256 and size of every file, written on export and checked on use."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import Any

from three_regime.errors import Damaged, UserError
from three_regime.system.files import file_digest, read_json

MANIFEST = "manifest.json"

_TABLE = ".csv"
_TEXT = {_TABLE, ".md", ".yaml", ".json"}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SHOWN = 3


def entries(folder: Path) -> dict[str, dict[str, Any]]:
    """Path in `folder` → ``sha256`` and ``bytes``, for every file."""
    return {path.relative_to(folder).as_posix(): entry(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def entry(path: Path) -> dict[str, Any]:
    """``sha256`` and ``bytes`` of a file."""
    return {"sha256": file_digest(path), "bytes": path.stat().st_size}


def altered(folder: Path) -> list[str]:
    """Files of an export that were altered since it was packed, and tables that were removed; empty without a manifest.

    Other line ends or a byte order mark in text files do not count; networks and pictures may be removed.

    Raises
    ------
    UserError
        When the manifest cannot be read.
    """
    path = folder / MANIFEST
    if not path.exists():
        return []
    try:
        content = read_json(path)
    except Damaged as error:
        raise UserError(f"{error.what}; unpack the export again") from error
    files = content.get("files") if isinstance(content, dict) else None
    if not isinstance(files, dict) or not all(isinstance(entry, dict) for entry in files.values()):
        raise UserError(f"{path} is not a manifest of an export: it lists no files")
    outside = [name for name in files if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts]
    if outside:
        raise UserError(f"{path} lists {outside[0]}, which is outside the export")
    return [
        name
        for name, entry in files.items()
        if (entry.get("sha256") not in _digests(folder / name) if (folder / name).is_file() else name.endswith(_TABLE))
    ]


def check(folder: Path) -> None:
    """Raise if files of an export were altered, or tables removed, since it was packed.

    Raises
    ------
    UserError
        The message names them and what to do.
    """
    if wrong := altered(folder):
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise UserError(
            f"{', '.join(_shown(folder, name) for name in wrong[:_SHOWN])}{more}: altered since the export was packed"
            f" (they do not match the SHA-256 in {folder / MANIFEST}); unpack it again, or remove the manifest to use"
            " the files as they are"
        )


def _digests(path: Path) -> set[str]:
    """SHA-256 of a file and, for text, of its content without byte order mark and with LF line ends."""
    found = {file_digest(path)}
    if path.suffix in _TEXT:
        plain = path.read_bytes().removeprefix(_BYTE_ORDER_MARK).replace(b"\r\n", b"\n")
        found.add(hashlib.sha256(plain).hexdigest())
    return found


def _shown(folder: Path, name: str) -> str:
    return f"{folder / name}" + ("" if (folder / name).is_file() else " (missing)")
