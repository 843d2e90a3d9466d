"""Read and write files: written to a temporary name and renamed, checked when read.

Formats are safetensors (weights, arrays), JSON (one result) and CSV (tables); nothing here pickles.
A safetensors file has text metadata, which ``read_metadata`` reads without loading tensors or importing torch.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from three_regime.errors import Damaged, UserError
from three_regime.system import sparse_encoding

if TYPE_CHECKING:
    import pandas as pd

Arrays = dict[str, np.ndarray]

PROVENANCE_KEY = "provenance"
"""Key of the provenance in a JSON result (`three_regime.study.provenance`)."""

DIGEST_KEY = "tensor_digest"
"""Key of the digest of tensors: in a safetensors file's metadata, and in the provenance of the JSON file beside it."""

METADATA_DIGEST_KEY = "metadata_digest"
"""Key, in a safetensors file's metadata, of the digest of its other metadata."""

RESULT_DIGEST_KEY = "result_digest"
"""Key, in a JSON result's provenance, of the digest of the result without this entry."""


@contextlib.contextmanager
def disk_errors(path: Path, advice: str = "free some and run again") -> Iterator[None]:
    """Turn system errors (full disk, permission denied, I/O error, …) into a `UserError` that names `path`.

    Parameters
    ----------
    advice
        What to do when the disk is full.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = getattr(error, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
            raise UserError(f"no free disk space while writing {path}; {advice}") from error
        if isinstance(error, SafetensorError):
            raise UserError(f"cannot write {path}: {error}") from error
        if number is not None and not isinstance(error, ConnectionError | ChildProcessError):
            place = f" ({error.filename})" if error.filename and str(error.filename) != str(path) else ""
            raise UserError(f"cannot write {path}: {os.strerror(number)}{place}") from error
        raise


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; on success flush it to disk and rename it to `path`.

    On any failure the temporary file is removed and `path` is unchanged. Temporary files of killed writers of `path`
    are removed first; a running writer holds a lock on its file.

    Raises
    ------
    UserError
        When the disk is full or the folder is not writable; the message names `path`.
    """
    path = Path(path)
    temporary: Path | None = None
    handle = -1
    try:
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(path, of_the_dead=True)
            handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
            _lock(handle)
            temporary = Path(name)
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)  # mkstemp makes it private; results are shared
            os.replace(temporary, path)
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if handle >= 0:
            os.close(handle)


def _lock(handle: int) -> bool:
    """Lock an open file while this process has it open; return whether that succeeded."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another process holds it, or the file system does not support locks
        return False
    return True


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Digest of a file's bytes, hexadecimal."""
    with open(path, "rb") as file:
        # MD5 detects accidents, not attacks; `usedforsecurity` allows it where policy forbids it for cryptography.
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def remove_leftovers(path: Path, *, of_the_dead: bool = False) -> None:
    """Remove temporary files that killed writers of `path` left behind.

    Parameters
    ----------
    of_the_dead
        Keep files whose lock shows that their writer is running; if False, no process may be writing `path`.
    """
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with contextlib.suppress(OSError), open(part, "rb") as file:
            if not of_the_dead or _lock(file.fileno()):
                part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON; raise ``ValueError`` for NaN and infinities."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Write a JSON result with a digest of its content in its provenance, which `read_json` checks."""
    whole = {**result, PROVENANCE_KEY: {**result[PROVENANCE_KEY], RESULT_DIGEST_KEY: _result_digest(result)}}
    write_json(path, whole)


def _result_digest(result: Mapping[str, Any]) -> str:
    provenance = {key: value for key, value in result[PROVENANCE_KEY].items() if key != RESULT_DIGEST_KEY}
    text = json.dumps({**result, PROVENANCE_KEY: provenance}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_json(path: Path) -> Any:
    """Read a JSON file; a byte order mark, which editors add, is skipped.

    Raises
    ------
    UserError
        When the file is missing or cannot be read now.
    Damaged
        When it is not valid JSON (NaN and infinities are not), or is a result that does not match its digest.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8-sig"), parse_constant=_no_number)
        provenance = value.get(PROVENANCE_KEY) if isinstance(value, dict) else None
        expected = provenance.get(RESULT_DIGEST_KEY) if isinstance(provenance, dict) else None
        agrees = expected is None or _result_digest(value) == expected
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing") from error
    except (ValueError, RecursionError) as error:
        raise Damaged(path, f"is not valid JSON ({error})") from error
    except OSError as error:
        raise _unreadable(path, error) from error
    if not agrees:
        raise Damaged(path, "is damaged: its content does not match its digest")
    return value


def _unreadable(path: Path, error: OSError) -> UserError:
    """`Damaged` only where the file or disk is at fault: a lack of rights or descriptors passes, and the file stays."""
    if error.errno in (errno.EIO, errno.EISDIR, errno.ELOOP):
        return Damaged(path, f"cannot be read: {error.strerror}")
    return UserError(f"{path} cannot be read: {error.strerror or error}")


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is not a number")


def read_table(path: Path, columns: Sequence[str] = (), numeric: Sequence[str] = ()) -> pd.DataFrame:
    """Read a CSV table.

    Parameters
    ----------
    columns, numeric
        Required columns, and required columns that must hold numbers or be empty.

    Raises
    ------
    UserError
        When the file is missing or not a table, lacks a column, or a numeric column holds other values.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing") from error
    except (ValueError, pd.errors.ParserError) as error:  # also encoding errors and empty files
        raise UserError(f"{path} is not a CSV table ({error})") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    for column in (*columns, *numeric):
        if column not in table:
            raise UserError(f"{path} lacks the column {column!r}")
    for column in numeric:
        try:
            table[column] = pd.to_numeric(table[column])
        except (ValueError, TypeError) as error:
            raise UserError(f"{path}: column {column!r} holds something that is not a number ({error})") from error
    return table.copy()  # in one piece: pandas warns when columns are added to one of a hundred


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table without its index; floats are written so that they round-trip."""
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False)


def holds(path: Path, content: pd.DataFrame | str) -> bool:
    """Whether a file is what `write_csv` writes of a table, or `write_text` of a text."""
    text = content if isinstance(content, str) else content.to_csv(index=False)
    return path.read_bytes() == text.encode()


def tensor_digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of names, dtypes, shapes and bytes of `arrays`, independent of their order and storage."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
        digest.update(np.ascontiguousarray(array).data if array.size else b"")
    return digest.hexdigest()


def write_arrays(
    path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str], *, compact: bool = False
) -> str:
    """Write arrays as safetensors, with `metadata` and a digest; return the digest.

    Parameters
    ----------
    compact
        Store masked weights in sparse encoding (`sparse_encoding.encode`). The digest is that of `arrays`, regardless
        of storage, and `read_arrays` restores them bit for bit.
    """
    contiguous = {name: np.require(array, requirements="C") for name, array in arrays.items()}
    digest = tensor_digest(contiguous)
    stored, layout = sparse_encoding.encode(contiguous) if compact else (contiguous, {})
    with replacing(path) as temporary:
        about = {**metadata, **layout, DIGEST_KEY: digest}
        # Not `save_file`, which writes to a temporary file of its own, whose name a killed process does not tell.
        content = save(stored, metadata={**about, METADATA_DIGEST_KEY: _metadata_digest(about)})
        header = _with_sorted_metadata(content)
        with open(temporary, "wb") as file:
            file.write(header)
            file.write(memoryview(content)[len(header) :])
    return digest


def _with_sorted_metadata(content: bytes) -> bytes:
    """The header of a safetensors file, with its metadata sorted, so that equal content gives equal bytes.

    The library writes it in random order. The header is an 8-byte length and JSON, which may have trailing spaces.
    """
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return content[:8] + text.ljust(size) if len(text) <= size else content[: 8 + size]


def read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a safetensors file (without that of the sparse encoding), without its tensors.

    Raises
    ------
    UserError
        When the file is missing.
    Damaged
        When it is truncated, damaged or not safetensors.
    """
    with _opened(path) as file:
        metadata = _checked(path, file.metadata() or {})
    return {key: value for key, value in metadata.items() if key != sparse_encoding.SHAPES_KEY}


def _checked(path: Path, metadata: dict[str, str]) -> dict[str, str]:
    """Check the digest of `metadata`, if it has one, and return it without the digest."""
    about = {key: value for key, value in metadata.items() if key != METADATA_DIGEST_KEY}
    if metadata.get(METADATA_DIGEST_KEY) not in (None, _metadata_digest(about)):
        raise Damaged(path, "is damaged: its metadata does not match its digest")
    return about


def _metadata_digest(metadata: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()


def read_arrays(path: Path, *, verify: bool = True) -> Arrays:
    """Read all tensors of a safetensors file as NumPy arrays; decode sparse encoding.

    Parameters
    ----------
    verify
        Check the content against the digest in the metadata, if there is one.

    Raises
    ------
    UserError
        When the file is missing.
    Damaged
        When it is truncated, not safetensors, or its content does not match its digest.
    """
    with _opened(path) as file:
        metadata = _checked(path, file.metadata() or {})
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not iterable)
    try:
        arrays = sparse_encoding.decode(stored, metadata)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(path, "is damaged: its sparse weights cannot be read") from error
    expected = metadata.get(DIGEST_KEY)
    if verify and expected is not None and tensor_digest(arrays) != expected:
        raise Damaged(path, "is damaged: its content does not match its digest")
    return arrays


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with open(path, "rb"):  # for the system's error: `safe_open` calls every file missing that it cannot open
            pass
        with safe_open(str(path), framework="np") as file:
            yield file
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing") from error
    except SafetensorError as error:
        raise Damaged(path, f"is not a complete safetensors file ({error})") from error
    except OSError as error:
        raise _unreadable(path, error) from error
