"""Check the arrays of an image data set, which come from a reader that may be a user's.

Neither torch nor the compiled kernels notice images of another size, and the kernels would read out of bounds for a
wrong label.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from three_regime.errors import UserError

Shape = tuple[int, int, int]


def checked(arrays: Mapping[str, np.ndarray], reader: str, each: Shape, classes: int) -> dict[str, np.ndarray]:
    """The arrays of both splits, contiguous, with labels as int64 (of which every integer type is accepted).

    Parameters
    ----------
    arrays
        As `ImageDataset.reader` says.
    reader
        What returned them, for messages.
    each
        Height, width and channels of an image.

    Raises
    ------
    UserError
        When an array is missing or of another form; the message names it and the reader.
    """
    found = dict(arrays)
    for split in ("train", "test"):
        for name in (f"{split}_images", f"{split}_labels"):
            if name not in arrays:
                raise _wrong(reader, f"no {name}")
        images, labels = np.asarray(arrays[f"{split}_images"]), np.asarray(arrays[f"{split}_labels"])
        if images.dtype != np.uint8 or images.shape[1:] != each:
            raise _wrong(reader, _form(f"{split}_images", images, "uint8", ("images", *each)))
        if not np.issubdtype(labels.dtype, np.integer) or labels.shape != images.shape[:1]:
            raise _wrong(reader, _form(f"{split}_labels", labels, "int64", images.shape[:1]))
        if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
            raise _wrong(reader, f"{split}_labels in {labels.min()} … {labels.max()} instead of 0 … {classes - 1}")
        found[f"{split}_images"] = np.ascontiguousarray(images)
        found[f"{split}_labels"] = np.ascontiguousarray(labels, dtype=np.int64)
    return found


def _form(name: str, array: np.ndarray, dtype: str, shape: tuple[str | int, ...]) -> str:
    return f"{name} as {array.dtype} {_text(array.shape)} instead of {dtype} {_text(shape)}"


def _text(shape: tuple[str | int, ...]) -> str:
    return f"({', '.join(map(str, shape))})"


def _wrong(reader: str, what: str) -> UserError:
    return UserError(
        f"{reader} returns {what}: correct the reader or the entry, and increase the entry's `version` if the data have"
        " been prepared"
    )
