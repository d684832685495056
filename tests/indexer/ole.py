"""Writes OLE compound files (MS-CFB, version 3) for tests: folders and streams from a dict."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import TypeAlias

Tree: TypeAlias = Mapping[str, "bytes | Tree"]

_SECTOR, _MINI = 512, 64
_FREE, _END, _FAT = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD


def write_ole(tree: Tree) -> bytes:
    """The file's bytes; streams below 4,096 bytes lie in the mini stream, as they must."""
    entries: list[dict[str, object]] = [{"name": "Root Entry", "kind": 5, "data": b""}]
    _add(entries, 0, tree)
    mini, mini_fat, large = b"", list[int](), list[dict[str, object]]()
    for entry in entries[1:]:
        data = entry["data"]
        assert isinstance(data, bytes)
        if entry["kind"] == 2 and data and len(data) < 4_096:
            entry["start"] = len(mini_fat)
            sectors = -(-len(data) // _MINI)
            mini_fat += [*range(len(mini_fat) + 1, len(mini_fat) + sectors), _END]
            mini += data.ljust(sectors * _MINI, b"\0")
        elif entry["kind"] == 2 and data:
            large.append(entry)
    entries[0]["data"] = mini
    blocks = [b"", struct.pack(f"<{len(mini_fat)}I", *mini_fat), mini]
    blocks += [bytes(entry["data"]) for entry in large]  # type: ignore[call-overload]
    blocks[0] = b"\0" * (128 * len(entries))
    sizes = [-(-len(block) // _SECTOR) for block in blocks]
    fat_sectors = 1
    while fat_sectors * 128 < fat_sectors + sum(sizes):
        fat_sectors += 1
    fat = [_FAT] * fat_sectors
    starts = []
    for size in sizes:
        starts.append(len(fat) if size else _END)
        fat += [*range(len(fat) + 1, len(fat) + size), _END] if size else []
    entries[0]["start"] = starts[2]
    for entry, start in zip(large, starts[3:], strict=True):
        entry["start"] = start
    blocks[0] = b"".join(_entry(entry) for entry in entries)
    fat += [_FREE] * (fat_sectors * 128 - len(fat))
    header = struct.pack(
        "<8s16xHHHHH6x9I",
        *(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", 0x3E, 3, 0xFFFE, 9, 6),
        *(0, fat_sectors, starts[0], 0, 4_096, starts[1], sizes[1], _END, 0),
    )
    header += struct.pack("<109I", *range(fat_sectors), *[_FREE] * (109 - fat_sectors))
    padded = (block.ljust(size * _SECTOR, b"\0") for block, size in zip(blocks, sizes, strict=True))
    return header + struct.pack(f"<{len(fat)}I", *fat) + b"".join(padded)


def _add(entries: list[dict[str, object]], parent: int, tree: Tree) -> None:
    before = None
    for name, content in sorted(tree.items(), key=lambda item: (len(item[0]), item[0].upper())):
        number = len(entries)
        is_stream = isinstance(content, bytes)
        data = content if is_stream else b""
        entries.append({"name": name, "kind": 2 if is_stream else 1, "data": data})
        if before is None:
            entries[parent]["child"] = number
        else:
            entries[before]["right"] = number
        before = number
        if not isinstance(content, bytes):
            _add(entries, number, content)


def _entry(entry: dict[str, object]) -> bytes:
    name = str(entry["name"]).encode("utf-16-le") + b"\0\0"
    data = entry["data"]
    assert isinstance(data, bytes)
    return struct.pack(
        "<64sHBBIII16x4x16xIQ",
        *(name, len(name), entry["kind"], 1, _FREE),
        *(entry.get("right", _FREE), entry.get("child", _FREE)),
        *(entry.get("start", _END if entry["kind"] != 1 else 0), len(data)),
    )
