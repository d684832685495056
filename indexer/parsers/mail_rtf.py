"""Outlook's compressed RTF to RTF (MS-OXRTFCP); pure.

A dictionary of 4,096 bytes that starts with the commonest RTF words; runs of eight tokens, each a
byte or a reference into the dictionary. What comes out is at most 17 bytes for two that went in.
"""

from __future__ import annotations

import struct

_FIRST_WORDS = (
    b"{\\rtf1\\ansi\\mac\\deff0\\deftab720{\\fonttbl;}{\\f0\\fnil \\froman \\fswiss \\fmodern "
    b"\\fscript \\fdecor MS Sans SerifSymbolArialTimes New RomanCourier{\\colortbl\\red0\\green0"
    b"\\blue0\r\n\\par \\pard\\plain\\f0\\fs20\\b\\i\\u\\tab\\tx"
)
_WINDOW_BYTES = 4_096
_HEADER = struct.Struct("<IIII")
_COMPRESSED, _STORED = 0x75465A4C, 0x414C454D  # "LZFu", "MELA"


def decompress_rtf(packed: bytes) -> bytes:
    """The RTF of a compressed body. Raises ValueError for anything else."""
    if len(packed) < _HEADER.size:
        raise ValueError("shorter than its header")
    _, raw_bytes, kind, _ = _HEADER.unpack_from(packed)
    if kind == _STORED:
        return packed[_HEADER.size : _HEADER.size + raw_bytes]
    if kind != _COMPRESSED:
        raise ValueError("an unknown compression")
    window = bytearray(_FIRST_WORDS.ljust(_WINDOW_BYTES, b"\0"))
    at = len(_FIRST_WORDS)
    out = bytearray()
    source = iter(packed[_HEADER.size :])
    for flags in source:
        for bit in range(8):
            first = next(source, None)
            if first is None:
                return bytes(out[:raw_bytes])
            if not flags >> bit & 1:
                window[at] = first
                at = (at + 1) % _WINDOW_BYTES
                out.append(first)
                continue
            second = next(source, 0)
            start, length = first << 4 | second >> 4, (second & 0x0F) + 2
            if start == at:
                return bytes(out[:raw_bytes])  # the end is a reference to itself
            for offset in range(length):
                byte = window[(start + offset) % _WINDOW_BYTES]
                window[at] = byte
                at = (at + 1) % _WINDOW_BYTES
                out.append(byte)
    return bytes(out[:raw_bytes])
