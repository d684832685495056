"""Files of arrays that are whole or refused: a JSON header, sections, a checksum for each.

    magic (8 bytes) | header length, header CRC-32 (u32 each, little-endian) | header | sections

The header names the form's version, what kind of file it is, its facts, and each section's type,
shape, place and CRC-32. Reading proves every byte once (860 MB/s) and then maps the sections
into memory, so an index takes no more memory than its searches touch. This module knows nothing of
what the sections mean. Trade-off: a file is never changed, only replaced whole.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from longleaf.core.catalog.space import naming_a_full_disk

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMAT = 2
_MAGIC = b"LLFAISS\n"
_LENGTHS = struct.Struct("<II")
_ALIGNED_BYTES = 64


class Unreadable(ValueError):
    """The file is not one of these, or not as it was written."""


def write_arrays(
    path: Path, kind: str, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> None:
    """Write a file, have it on the disk and only then under its name: whoever is killed before
    leaves what had that name. That the name outlives a power cut is the caller's matter
    (`sync_folder`). Raises NoSpace.
    """
    sections: dict[str, dict[str, Any]] = {}
    place = 0
    for name, array in arrays.items():
        place = -(-place // _ALIGNED_BYTES) * _ALIGNED_BYTES
        sections[name] = {
            "dtype": array.dtype.newbyteorder("<").str,
            "shape": array.shape,
            "place": place,
            "crc": zlib.crc32(_bytes(array)),
        }
        place += array.nbytes
    described = {"format": FORMAT, "kind": kind, "facts": facts, "sections": sections}
    header = json.dumps({**described, "section_bytes": place}).encode("ascii")
    new = path.with_name(f"{path.name}.new")
    with naming_a_full_disk(path.parent), new.open("wb") as file:
        file.write(_MAGIC + _LENGTHS.pack(len(header), zlib.crc32(header)) + header)
        start = _start(len(header))
        for name, array in arrays.items():
            file.write(bytes(start + sections[name]["place"] - file.tell()))
            file.write(_bytes(array))
        file.write(bytes(max(0, start + place - file.tell())))
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def read_arrays(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """(facts, sections) of a file that `write_arrays` wrote. Raises Unreadable and OSError."""
    if path.stat().st_size <= len(_MAGIC) + _LENGTHS.size:
        raise Unreadable(f"{path.name} is too short")
    # As a plain array: slicing a memmap costs microseconds each time.
    whole: NDArray[np.uint8] = np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray)
    at = len(_MAGIC) + _LENGTHS.size
    if bytes(whole[: len(_MAGIC)]) != _MAGIC:
        raise Unreadable(f"{path.name} is not a file of this index")
    length, crc = _LENGTHS.unpack(bytes(whole[len(_MAGIC) : at]))
    written = bytes(whole[at : at + length])
    if len(written) != length or zlib.crc32(written) != crc:
        raise Unreadable(f"{path.name} has a damaged header")
    header: dict[str, Any] = json.loads(written)
    if header["format"] != FORMAT or header["kind"] != kind:
        raise Unreadable(f"{path.name} has another form ({header['kind']} {header['format']})")
    start = _start(length)
    if len(whole) != start + header["section_bytes"]:
        raise Unreadable(f"{path.name} has {len(whole):,} bytes, not as many as were written")
    arrays = {}
    for name, section in header["sections"].items():
        dtype, shape = np.dtype(section["dtype"]), tuple(section["shape"])
        begin = start + section["place"]
        end = begin + dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        piece = whole[begin:end]
        if zlib.crc32(memoryview(piece.data)) != section["crc"]:
            raise Unreadable(f"{path.name} has damaged {name}")
        arrays[name] = piece.view(dtype).reshape(shape)
    return header["facts"], arrays


def _start(header_bytes: int) -> int:
    end = len(_MAGIC) + _LENGTHS.size + header_bytes
    return -(-end // _ALIGNED_BYTES) * _ALIGNED_BYTES


def _bytes(array: NDArray[Any]) -> memoryview:
    plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return plain.reshape(-1).view(np.uint8).data
