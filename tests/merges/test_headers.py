"""Headers of safetensors files, honest and lying. What is accepted here the library accepts too, and reads the same."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from merges import headers
from merges.errors import CheckpointError
from merges.headers import DTYPES, read_header
from merges.weight_file import WeightFile

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def written(path: Path, table: Any, data: bytes = b"", *, length: int | None = None) -> Path:
    """A file with this header: an object, or the text itself."""
    text = table if isinstance(table, bytes) else json.dumps(table).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


@pytest.mark.parametrize("code", DTYPES)
def test_every_dtype_is_read_as_the_library_reads_it(tmp_path: Path, code: str) -> None:
    dtype = DTYPES[code]
    tensor = torch.arange(6).reshape(2, 3).to(dtype)
    save_file({"b": tensor, "a.scalar": tensor[1, 2].clone(), "none": tensor[:0].clone()}, tmp_path / "m", {"k": "v"})
    file = WeightFile(tmp_path / "m")
    assert file.header.metadata == {"k": "v"}
    with safe_open(tmp_path / "m", framework="pt") as library:
        for name, span in file.header.spans.items():
            expected = library.get_tensor(name)
            got = file.read(span).reshape(span.shape)
            assert (got.dtype, got.shape) == (dtype, expected.shape)
            assert torch.equal(got.reshape(-1).view(torch.uint8), expected.reshape(-1).view(torch.uint8))
    span = file.header.spans["b"]
    part = file.read(span, 2, 5, into=torch.empty(9, dtype=dtype))
    assert torch.equal(part.view(torch.uint8), tensor.reshape(-1)[2:5].view(torch.uint8))


@pytest.mark.parametrize(
    ("table", "data", "what"),
    [
        (b"{", b"", "header: "),
        (b"\xff", b"", "header: "),
        (b"[" * 100_000, b"", "header: "),
        (b"7", b"", "a header that is no object but int"),
        (b'{"a": 1, "a": 1}', b"", "a name twice"),
        (b'{"a": {"dtype": "F32", "dtype": "F16", "shape": [2], "data_offsets": [0, 8]}}', bytes(8), "a name twice"),
        ({"__metadata__": {"k": 1}}, b"", "metadata that are no texts"),
        ({"__metadata__": [1]}, b"", "metadata that are no texts"),
        ({"a": {**F32, "more": 1}}, bytes(8), "tensor 'a' without dtype, shape or offsets"),
        ({"a": {**F32, "dtype": 7}}, bytes(8), "tensor 'a' with a dtype that is no text"),
        ({"a": {**F32, "shape": [-2]}}, bytes(8), "tensor 'a' with an impossible shape"),
        ({"a": {**F32, "shape": [2.0]}}, bytes(8), "tensor 'a' with an impossible shape"),
        ({"a": {**F32, "shape": [True, 2]}}, bytes(8), "tensor 'a' with an impossible shape"),
        (
            {"a": {**F32, "shape": [2**62, 2**62, 0], "data_offsets": [0, 0]}},
            b"",
            "tensor 'a' with an impossible shape",
        ),
        ({"a": {**F32, "shape": [2**62, 4]}}, bytes(8), "tensor 'a' with an impossible shape"),
        ({"a": {**F32, "shape": [1] * 65}}, bytes(8), "tensor 'a' with an impossible shape"),
        ({"a": {**F32, "data_offsets": [8, 0]}}, bytes(8), "tensor 'a' with impossible offsets"),
        ({"a": {**F32, "data_offsets": [0, 8, 8]}}, bytes(8), "tensor 'a' with impossible offsets"),
        ({"a": {**F32, "data_offsets": [0, 2**64]}}, bytes(8), "tensor 'a' with impossible offsets"),
        ({"a": {**F32, "data_offsets": [0, 4]}}, bytes(4), r"tensor 'a' of shape \[2\] and dtype F32 in 4 bytes"),
        ({"a": F32, "b": F32}, bytes(8), "tensor 'b' at byte [0-9]+ where [0-9]+ is due"),
        ({"a": F32, "b": {**F32, "data_offsets": [4, 12]}}, bytes(12), "tensor 'b' at byte"),
        ({"a": {**F32, "data_offsets": [4, 12]}}, bytes(12), "tensor 'a' at byte"),
        ({"a": F32}, bytes(9), ".* bytes where the header tells of"),
        ({"a": F32}, bytes(7), ".* bytes where the header tells of"),
        ({}, b"x", ".* bytes where the header tells of"),
    ],
)
def test_lying_header_is_refused_in_one_line(tmp_path: Path, table: Any, data: bytes, what: str) -> None:
    file = written(tmp_path / "m", table, data)
    with pytest.raises(CheckpointError, match=rf"got a corrupt one \({what}.*\); download it again$") as caught:
        read_header(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length", [0, 1, 10**8 + 1, 2**63, 2**64 - 1])
def test_lying_length_is_refused(tmp_path: Path, length: int) -> None:
    file = written(tmp_path / "m", {"a": F32}, bytes(8), length=length)
    with pytest.raises(CheckpointError, match="expected a whole safetensors file, got a corrupt one"):
        read_header(file)


def test_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path) -> None:
    file = WeightFile(written(tmp_path / "m", {"a": F32}, bytes(8)))
    (tmp_path / "m").write_bytes(b"short")
    with pytest.raises(CheckpointError, match=r"expected a file of .* bytes, got one that ends at byte .*run again$"):
        file.read(file.header.spans["a"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(data=st.data())
def test_what_is_accepted_the_library_accepts_too(tmp_path: Path, data: st.DataObject) -> None:
    """Honest tables with some bytes changed: either one line, or the same index as the library's."""
    shapes = data.draw(st.dictionaries(st.text(max_size=5), st.lists(st.integers(0, 3), max_size=3), max_size=4))
    tensors = {name: torch.zeros(shape) for name, shape in shapes.items() if name != "__metadata__"}
    save_file(tensors, tmp_path / "m")
    content = bytearray((tmp_path / "m").read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "m").write_bytes(content)
    try:
        header = read_header(tmp_path / "m")
    except CheckpointError:
        return
    with safe_open(tmp_path / "m", framework="pt") as library:
        found = {name: tuple(library.get_slice(name).get_shape()) for name in library.keys()}  # noqa: SIM118
    assert {name: span.shape for name, span in header.spans.items()} == found


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}   ', 8),
        (
            b'{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"\xc3\xa9":{"dtype":"U8","shape":[0,3],"data_offsets":[4,4]}}',
            4,
        ),
        (b'{"__metadata__":{"format":"pt","a\\"b":"},"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', 8),
    ],
)
def test_headers_as_libraries_write_them_are_read_without_json(text: bytes, size: int) -> None:
    assert headers._as_written(text, 100, 100 + size) == headers._as_json(text, 100, 100 + size)


ONE = '"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "{" + ONE,
        "{," + ONE + "}",
        "{" + ONE + ",}",
        "{" + ONE + "," + ONE + "}",
        "{" + ONE + "," + ONE.replace("a", "\\u0061") + "}",
        "{" + ONE + ";" + ONE.replace("a", "b") + "}",
        '{"__metadata__":{}' + ONE + "}",
        '{"__metadata__":{"k":1},' + ONE + "}",
        '{"__metadata__":{' + ONE + "}}",
        '{"__metadata__":{"k":"v",' + ONE + "}," + ONE + "}",
        '{"__metadata__":{},' + ONE.replace(":", ": ") + "," + ONE.replace("a", "b") + "}",
        "{" + ONE.replace('"a"', '"__metadata__"') + "}",
        "{" + ONE.replace("[2]", "[02]") + "}",
        "{" + ONE.replace("[2]", "[２]") + "}",
        "{" + ONE.replace("[2]", "[-2]") + "}",
        "{" + ONE.replace("[2]", "[4294967296,4294967296]") + "}",
        "{" + ONE.replace("[0,8]", "[8,0]") + "}",
        "{" + ONE.replace("[0,8]", "[0,4]") + "}",
        "{" + ONE.replace("F32", "F4") + "}",
        "{" + ONE.replace("[0,8]", "[8,16]") + "," + ONE.replace("a", "b") + "}",
        '{"__metadata__":{},"e": {"dtype":"F32","shape":[0],"data_offsets":[0,0]},' + ONE + "}",
        "{" + ONE.replace('"a"', '"a\n"') + "}",
    ],
)
def test_any_other_header_is_left_to_json(text: str) -> None:
    for size in (0, 8, 16):
        assert headers._as_written(text.encode(), 0, size) is None


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_the_quick_reading_is_jsons_or_none(data: st.DataObject) -> None:
    """Headers as the library writes them, with some characters changed."""
    names = data.draw(st.lists(st.sampled_from(["a", "b", "a.b", "é", "__metadata__"]), max_size=3))
    shape, size = data.draw(st.sampled_from([("", 4), ("2", 8), ("0,3", 0), ("1,2,3", 24)]))
    entries = [f'"{name}":{{"dtype":"F32","shape":[{shape}],"data_offsets":[{i * size},{(i + 1) * size}]}}' for i, name in enumerate(names)]  # fmt: skip
    before = data.draw(st.sampled_from(["", '"__metadata__":{"format":"pt"},', '"__metadata__":{},']))
    text = list("{" + before + ",".join(entries) + "}  ")
    for _ in range(data.draw(st.integers(0, 2))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.sampled_from(list('{}[]",: 01-9.a\\')))
    raw = "".join(text).encode()
    quick = headers._as_written(raw, 8, 8 + len(names) * size)
    if quick is not None:
        assert quick == headers._as_json(raw, 8, 8 + len(names) * size)
