"""Which files a child may still read, write and run: Landlock rules (Linux 5.13 and later).

A child gives up all rights to the file system but those below named paths; files that are open
already stay open. Rules cannot be taken back and hold for everything the child starts. Newer
kernels also keep it from TCP (ABI 4), from devices (5), and from signals and abstract sockets of
processes outside (6). Landlock does not guard a file's rights, owner and times: `seccomp` does.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # on every architecture
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_FILE, _MAKE_DEVICES, _MAKE_SOCKET = 1 << 5, 1 << 6 | 1 << 11, 1 << 9
_REFER, _TRUNCATE, _IOCTL_DEVICE = 1 << 13, 1 << 14, 1 << 15
_OF_A_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEVICE
_RIGHTS_BY_ABI = {1: (1 << 13) - 1, 2: _REFER, 3: _TRUNCATE, 5: _IOCTL_DEVICE}
_TCP = 0b11
_SCOPES = 0b11  # abstract AF_UNIX sockets, signals


def abi() -> int:
    """The kernel's version of Landlock, 0 where it has none or has it switched off."""
    if sys.platform != "linux":
        return 0
    version = _syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    return max(version, 0)


def restrict(
    *,
    read: Iterable[Path],
    run: Iterable[Path] = (),
    write: Iterable[Path] = (),
    listen: Iterable[Path] = (),
) -> int:
    """Keep this thread, and all it will start, to these paths and below; returns the ABI.

    Needs no_new_privs, and must come before the process has a second thread. `run` may be read as
    well, `write` read, written and filled; in `listen` sockets may be made and files removed. Paths
    that are not there are left out. Raises OSError.
    """
    version = abi()
    if version == 0:
        raise OSError("the kernel has no Landlock")
    handled = 0
    for since, rights in _RIGHTS_BY_ABI.items():
        handled |= rights if version >= since else 0
    sizes = struct.pack("=QQQ", handled, _TCP, _SCOPES)
    attributes = sizes[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = _checked(
        _syscall(
            _CREATE_RULESET,
            ctypes.c_char_p(attributes),
            ctypes.c_size_t(len(attributes)),
            ctypes.c_uint32(0),
        )
    )
    look = _READ_FILE | _READ_DIR
    try:
        for path in read:
            _allow(ruleset, path, look & handled)
        for path in run:
            _allow(ruleset, path, (look | _EXECUTE) & handled)
        for path in write:
            _allow(ruleset, path, handled & ~(_EXECUTE | _MAKE_DEVICES | _IOCTL_DEVICE))
        for path in listen:
            _allow(ruleset, path, _MAKE_SOCKET | _REMOVE_FILE)
        _checked(_syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0)))
    finally:
        os.close(ruleset)
    return version


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(opened).st_mode):
            rights &= _OF_A_FILE
        below = struct.pack("=Qi", rights, opened)
        path_beneath = 1
        _checked(
            _syscall(
                _ADD_RULE,
                ctypes.c_int(ruleset),
                ctypes.c_int(path_beneath),
                ctypes.c_char_p(below),
                ctypes.c_uint32(0),
            )
        )
    finally:
        os.close(opened)


def _syscall(number: int, *arguments: object) -> int:
    result: int = ctypes.CDLL(None, use_errno=True).syscall(ctypes.c_long(number), *arguments)
    return result


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
