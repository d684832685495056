"""The reader of system calls sees an acknowledgement that came too early."""

from __future__ import annotations

import re

import pytest
from benchmarks.trust.ack_order import unsynced_acks

HOME = "/data"
ACK = re.compile(r'<socket.*"HTTP/1.1 2')
SEND = '7 sendto(5<socket:[1]>, "HTTP/1.1 201 Created", 99, 0, NULL, 0) = 99'
WRITE = '7 pwrite64(9</data/catalog.sqlite3-wal>, "x", 1, 0) = 1'
SYNC = "7 fdatasync(9</data/catalog.sqlite3-wal>) = 0"
RENAME = '8 rename("/data/originals/incoming-1", "/data/originals/ab/cd") = 0'
FOLDERS = [f"8 fsync(4</data/originals{each}>) = 0" for each in ("", "/ab")]


@pytest.mark.parametrize(
    ("calls", "early"),
    [
        ([WRITE, SYNC, SEND], 0),
        ([WRITE, SEND, SYNC], 1),
        ([SEND, WRITE, SYNC], 0),
        ([WRITE, SYNC, WRITE, SEND], 1),
        ([RENAME, *FOLDERS, SEND], 0),
        ([RENAME, FOLDERS[0], SEND], 1),
        (['8 write(3</data/index/wal>, "x", 1) = 1', SEND], 0),
        ([WRITE, SYNC.replace("= 0", "= -1 EIO (Input/output error)"), SEND], 1),
        ([WRITE, "7 fdatasync(9</data/catalog.sqlite3-wal> <unfinished ...>", SEND], 1),
        (
            [WRITE, "7 fdatasync(9</data/catalog.sqlite3-wal> <unfinished ...>",
             "7 <... fdatasync resumed>) = 0", SEND],
            0,
        ),
    ],
)  # fmt: skip
def test_what_is_written_must_be_synced_before_the_answer(calls: list[str], early: int) -> None:
    acks, found = unsynced_acks("\n".join(calls), HOME, ACK)
    assert acks == 1
    assert len(found) == early
