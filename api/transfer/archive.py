"""Members of an export in a folder or a .tar: written whole, read without trust.

A .tar is written and read as a stream. Nothing in a name becomes a path: a member is one of the
names that the form knows, or the export is refused. Links, devices and compressed archives are
refused, and no read asks for more than a fixed amount, so that a length in a header costs nothing.
"""

from __future__ import annotations

import io
import os
import secrets
import shutil
import stat
import tarfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from longleaf.api.transfer import form
from longleaf.core.catalog.blobs import sync_folder
from longleaf.core.errors import Conflict, InvalidRequest, NotFound

_FIRST = (form.HEADER, form.COLLECTIONS)
_LAST = (form.SOURCES, form.END)
_MOST_READ_BYTES = 64 * 1024 * 1024
_CHUNK_BYTES = 1024 * 1024


class Writer(Protocol):
    """Takes members in the order of the form."""

    def add(self, name: str, data: bytes) -> None: ...

    def add_file(self, name: str, path: Path) -> None: ...


class Member(Protocol):
    """One member: its name, its size, and its bytes once, from the beginning."""

    name: str
    size: int

    def read(self, size_bytes: int) -> bytes: ...


def writing(target: Path) -> AbstractContextManager[Writer]:
    """A new export at `target`: a .tar if it is named so, else a folder; whole or not there.

    Raises Conflict when there is something already.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise Conflict(f"{target} is there already.", "Name a new file or folder.")
    target.parent.mkdir(parents=True, exist_ok=True)
    return _writing_tar(target) if target.suffix == ".tar" else _writing_folder(target)


def members(source: Path) -> Iterator[Member]:
    """The members of an export, in order. Raises InvalidRequest for what cannot be one."""
    if source.is_dir():
        yield from _of_folder(source)
    elif source.is_file():
        yield from _of_tar(source)
    else:
        raise NotFound(f"There is no export at {source}.")


def is_known(name: str) -> bool:
    return bool(
        name in _FIRST + _LAST or form.PART.fullmatch(name) or form.ORIGINAL.fullmatch(name)
    )


# --- folders -----------------------------------------------------------------------------------


class _FolderWriter:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, name: str, data: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def add_file(self, name: str, path: Path) -> None:
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


@contextmanager
def _writing_folder(target: Path) -> Iterator[Writer]:
    making = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    making.mkdir(mode=0o700)
    try:
        yield _FolderWriter(making)
        os.sync()
        if target.exists():
            target.rmdir()
        making.rename(target)
        sync_folder(target.parent)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise


class _FileMember:
    def __init__(self, name: str, file: BinaryIO, size: int) -> None:
        self.name = name
        self.size = size
        self._file = file

    def read(self, size_bytes: int) -> bytes:
        return self._file.read(size_bytes)


def _of_folder(folder: Path) -> Iterator[Member]:
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() and not path.is_symlink():
            continue
        if not is_known(name):
            raise InvalidRequest(f"{folder} is no export: {name!r} does not belong to one.")
        found.append(name)
    for name in sorted(found, key=_in_order):
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            descriptor = os.open(folder / name, flags)
        except OSError as error:
            raise InvalidRequest(f"{folder / name} is no plain file.", str(error)) from error
        with os.fdopen(descriptor, "rb") as file:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise InvalidRequest(f"{folder / name} is no plain file.")
            yield _FileMember(name, file, about.st_size)


def _in_order(name: str) -> tuple[int, str]:
    """The header, collections, all originals, the parts, sources, the end."""
    if name in _FIRST:
        return _FIRST.index(name), name
    if name in _LAST:
        return 10 + _LAST.index(name), name
    part = form.PART.fullmatch(name)
    if part is None:
        return 2, name
    rank = (form.CONTENTS, form.VECTORS, form.DOCUMENTS).index(part["file"])
    return 3, f"{part['number']}{rank}"


# --- tar ---------------------------------------------------------------------------------------


class _TarWriter:
    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar

    def add(self, name: str, data: bytes) -> None:
        self._tar.addfile(_info(name, len(data)), io.BytesIO(data))

    def add_file(self, name: str, path: Path) -> None:
        with path.open("rb") as file:
            self._tar.addfile(_info(name, os.fstat(file.fileno()).st_size), file)


def _info(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info


@contextmanager
def _writing_tar(target: Path) -> Iterator[Writer]:
    making = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with making.open("wb") as file:
            with tarfile.open(fileobj=file, mode="w:", format=tarfile.PAX_FORMAT) as tar:
                yield _TarWriter(tar)
            file.flush()
            os.fsync(file.fileno())
        making.replace(target)
        sync_folder(target.parent)
    except BaseException:
        making.unlink(missing_ok=True)
        raise


class _Careful(io.RawIOBase):
    """A file that gives no more than a fixed amount at a time, whatever a header asks for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MOST_READ_BYTES:
            raise tarfile.ReadError("a header of this length is none of an export")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


class _TarMember:
    def __init__(self, info: tarfile.TarInfo, file: BinaryIO) -> None:
        self.name = info.name
        self.size = info.size
        self._file = file
        self._left = info.size

    def read(self, size_bytes: int) -> bytes:
        wanted = min(size_bytes, self._left, _CHUNK_BYTES)
        data = self._file.read(wanted)
        if len(data) < wanted:
            raise InvalidRequest("The export ends in the middle.", "Copy it again, whole.")
        self._left -= len(data)
        return data


def _of_tar(path: Path) -> Iterator[Member]:
    seen: set[str] = set()
    with path.open("rb") as file:
        try:
            # "r:" takes no compressed archive, so nothing can unpack to more than its size.
            with tarfile.open(fileobj=_Careful(file), mode="r:") as tar:
                while (info := tar.next()) is not None:
                    if info.isdir():
                        continue
                    plain = info.type in (tarfile.REGTYPE, tarfile.AREGTYPE)
                    if not plain or info.issparse() or info.size < 0 or not is_known(info.name):
                        raise InvalidRequest(
                            f"{path} is no export: {info.name[:200]!r} does not belong to one."
                        )
                    if info.name in seen:
                        raise InvalidRequest(f"{path} holds {info.name} twice.")
                    seen.add(info.name)
                    tar.members = []  # type: ignore[attr-defined]  # it would keep them all
                    file.seek(info.offset_data)
                    yield _TarMember(info, file)
        except (tarfile.TarError, EOFError, OverflowError, ValueError) as error:
            raise InvalidRequest(
                f"{path} is no export that can be read: {error}", "Copy it again, whole."
            ) from error
