"""Files: atomic writes, verified reads."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from checkout import ROOT
from safetensors import SafetensorError
from safetensors.numpy import save_file

from three_regime.errors import UserError
from three_regime.system import files
from three_regime.system.files import (
    DIGEST_KEY,
    read_arrays,
    read_json,
    read_metadata,
    replacing,
    tensor_digest,
    write_arrays,
    write_csv,
    write_json,
    write_result,
)

ARRAYS = {
    "b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.array(7, dtype=np.int64),
    "none": np.zeros((0, 3), np.float32),
    "mask": np.array([0, 1], np.uint8),
}


def only(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_arrays_come_back_with_their_metadata(tmp_path):
    path = tmp_path / "new" / "weights.safetensors"
    digest = write_arrays(path, ARRAYS, {"about": "ünicode"})
    found = read_arrays(path)
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
    assert read_metadata(path) == {"about": "ünicode", DIGEST_KEY: digest}
    assert only(path.parent) == ["weights.safetensors"]


def test_arrays_in_another_memory_order_are_stored_by_value(tmp_path):
    turned = {"x": np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1)}
    digest = write_arrays(tmp_path / "x.safetensors", turned, {})
    np.testing.assert_array_equal(read_arrays(tmp_path / "x.safetensors")["x"], turned["x"])
    assert digest == tensor_digest({"x": np.ascontiguousarray(turned["x"])})


@pytest.mark.parametrize(
    "changed",
    [
        {**ARRAYS, "a": np.array(8, dtype=np.int64)},
        {**ARRAYS, "a": np.array(7, dtype=np.int32)},
        {**ARRAYS, "b": ARRAYS["b"].reshape(3, 2)},
        {**ARRAYS, "b": -ARRAYS["b"]},
        {**ARRAYS, "none": np.zeros((3, 0), np.float32)},
        {("c" if name == "a" else name): array for name, array in ARRAYS.items()},
        {name: array for name, array in ARRAYS.items() if name != "mask"},
    ],
)
def test_the_digest_sees_values_types_shapes_and_names(changed):
    assert tensor_digest(changed) != tensor_digest(ARRAYS)


def test_the_digest_does_not_see_the_order():
    assert tensor_digest(dict(reversed(ARRAYS.items()))) == tensor_digest(ARRAYS)


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "result.json"
    write_json(path, {"old": 1})
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"lmc": float("nan")})
    assert read_json(path) == {"old": 1}
    assert only(tmp_path) == ["result.json"]


def test_a_writer_killed_half_way_leaves_the_old_file(tmp_path):
    path = tmp_path / "result.json"
    write_json(path, {"old": 1})
    code = (
        "import os, signal\nfrom pathlib import Path\nfrom three_regime.system.files import replacing\n"
        f"with replacing(Path({str(path)!r})) as temporary:\n"
        "    temporary.write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert killed.returncode == -9
    assert read_json(path) == {"old": 1}


def test_a_writer_killed_within_a_large_file_leaves_no_other(tmp_path):
    # safetensors' own `save_file` writes to a name that is unknown here; it would stay.
    path = tmp_path / "weights.safetensors"
    code = (
        "import os, signal, threading, time\nimport numpy as np\nfrom pathlib import Path\n"
        "from three_regime.system.files import write_arrays\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "def kill():\n"
        "    while not any(file.stat().st_size for file in folder.iterdir()):\n        time.sleep(1e-4)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "arrays = {'a': np.ones(50_000_000, np.float32)}\n"
        "threading.Thread(target=kill).start()\n"
        f"write_arrays(Path({str(path)!r}), arrays, {{}})\ntime.sleep(60)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=60)
    assert killed.returncode == -9
    write_arrays(path, {"a": np.ones(2)}, {})
    assert only(tmp_path) == ["weights.safetensors"]


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.ENOSPC, "no free disk space"), (errno.EDQUOT, "no free disk space"), (errno.EACCES, "cannot write")],
)
def test_a_full_disk_is_one_sentence_naming_the_file(tmp_path, monkeypatch, number, said):
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    path = tmp_path / "result.json"
    write_json(path, {"old": 1})
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(UserError, match=f"{said}.*result.json"):
        write_json(path, {"new": 1})
    monkeypatch.undo()
    assert read_json(path) == {"old": 1}
    assert only(tmp_path) == ["result.json"]


@pytest.mark.parametrize("name", ["EIO", "ESTALE", "EMFILE", "EINTR", "EROFS", "ENOTDIR", "ENAMETOOLONG", "ENXIO"])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_whatever_the_disk_says_is_one_sentence(tmp_path, monkeypatch, name, call):
    number = getattr(errno, name)

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    for write in (lambda path: write_json(path, 1), lambda path: write_arrays(path, {"a": np.ones(2)}, {})):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, refuse)
            with pytest.raises(UserError, match=rf"cannot write .*result\.x: {os.strerror(number)}"):
                write(tmp_path / "result.x")
    assert only(tmp_path) == []


def test_a_fault_of_the_format_while_writing_names_the_file(tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: Input/output error (os error 5)")

    monkeypatch.setattr(files, "save", refuse)
    with pytest.raises(UserError, match=r"cannot write .*a\.safetensors: .*os error 5"):
        write_arrays(tmp_path / "a.safetensors", {"a": np.ones(2)}, {})


def test_what_cannot_be_read_is_named(tmp_path):
    for read in (read_json, read_arrays, read_metadata):
        with pytest.raises(UserError, match=f"{tmp_path} (cannot be read|is not a complete)"):
            read(tmp_path)


def test_files_have_the_usual_permissions(tmp_path):
    write_json(tmp_path / "result.json", 1)
    (tmp_path / "plain").touch()
    assert (tmp_path / "result.json").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("kept", [0, 1, 8, 60, -1])
def test_a_truncated_file_is_named(tmp_path, kept):
    path = tmp_path / "weights.safetensors"
    write_arrays(path, ARRAYS, {})
    path.write_bytes(path.read_bytes()[:kept])
    for read in (read_metadata, read_arrays):
        with pytest.raises(UserError, match=r"weights\.safetensors.*delete it"):
            read(path)


def test_equal_content_is_equal_bytes(tmp_path):
    about = {f"key{number}": 'Größe \\ "x"\n' for number in range(9)}
    for name in "abc":
        write_arrays(tmp_path / name, ARRAYS, about)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()
    assert about.items() <= read_metadata(tmp_path / "a").items()


def test_an_altered_tensor_is_noticed(tmp_path):
    path = tmp_path / "weights.safetensors"
    write_arrays(path, ARRAYS, {})
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        read_arrays(path)
    assert read_arrays(path, verify=False)


@pytest.mark.parametrize("read", [read_metadata, read_arrays, read_json])
def test_a_missing_file_is_named(tmp_path, read):
    with pytest.raises(UserError, match="absent.json is missing"):
        read(tmp_path / "absent.json")


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe\x00"])
def test_half_a_json_file_is_named(tmp_path, content):
    (tmp_path / "result.json").write_bytes(content)
    with pytest.raises(UserError, match="result.json is not valid JSON"):
        read_json(tmp_path / "result.json")


def test_csv_keeps_every_digit(tmp_path):
    table = pd.DataFrame({"x": np.random.default_rng(0).standard_normal(200), "n": np.arange(200)})
    write_csv(tmp_path / "table.csv", table)
    lines = (tmp_path / "table.csv").read_text().split()
    assert lines[0] == "x,n"
    assert [float(line.split(",")[0]) for line in lines[1:]] == table["x"].tolist()


def result(path: Path) -> dict:
    """A JSON result on disk."""
    written = {"lmc": -0.125, "t": [0.0, 0.5], "provenance": {"fingerprint": "f", "wall_s": 1.5}}
    write_result(path, written)
    return written


def test_a_result_comes_back_with_its_digest(tmp_path):
    written = result(tmp_path / "lmc.json")
    found = read_json(tmp_path / "lmc.json")
    assert found["provenance"].pop("result_digest")
    assert found == written


@pytest.mark.parametrize(("before", "after"), [("-0.125", "-0.135"), ("1.5", "1.6"), ('"lmc"', '"lmd"')])
def test_a_changed_result_is_damaged(tmp_path, before, after):
    result(tmp_path / "lmc.json")
    text = (tmp_path / "lmc.json").read_text()
    (tmp_path / "lmc.json").write_text(text.replace(before, after, 1))
    with pytest.raises(UserError, match=r"lmc\.json is damaged.*delete it and run again"):
        read_json(tmp_path / "lmc.json")


def test_changed_metadata_is_damage(tmp_path):
    path = tmp_path / "x.safetensors"
    write_arrays(path, ARRAYS, {"state": '{"epoch": 3}'})
    path.write_bytes(path.read_bytes().replace(b'epoch\\": 3', b'epoch\\": 4'))
    for read in (read_metadata, read_arrays):
        with pytest.raises(UserError, match="metadata does not match its digest"):
            read(path)


def test_files_without_digests_of_earlier_versions_are_read(tmp_path):
    save_file(ARRAYS, str(tmp_path / "x.safetensors"), metadata={"about": "x", DIGEST_KEY: tensor_digest(ARRAYS)})
    assert read_metadata(tmp_path / "x.safetensors")["about"] == "x"
    assert read_arrays(tmp_path / "x.safetensors").keys() == ARRAYS.keys()
    write_json(tmp_path / "old.json", {"lmc": 1, "provenance": {"fingerprint": "f"}})
    assert read_json(tmp_path / "old.json")["lmc"] == 1


def test_a_file_of_other_bytes_does_not_hold_a_table(tmp_path: Path) -> None:
    table = pd.DataFrame({"a": [0.1, 2.0], "b": ["é", "x"]})
    files.write_csv(tmp_path / "table.csv", table)
    assert files.holds(tmp_path / "table.csv", table) and not files.holds(tmp_path / "table.csv", table.iloc[:1])
    (tmp_path / "table.csv").write_bytes(b"a,b\n\xff")
    assert not files.holds(tmp_path / "table.csv", table)
