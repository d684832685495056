"""Originals in an object store, by URL, under the names that a folder has: `PREFIX/ab/cdef…`.

Through fsspec: S3 and what speaks like it (extra `longleaf[s3]`), and `memory://` for tests. An
object is there whole or not at all, and durable when the store has answered the PUT: that is the
store's promise. Nothing is remembered between calls, so that what another server has put or erased
is seen. Addresses and keys of S3 come from where every AWS program finds them (AWS_ENDPOINT_URL,
AWS_ACCESS_KEY_ID, ~/.aws). Trade-off: each look is a request, and a
document that comes in costs three.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from longleaf.core.catalog.blobs import (
    SETTING,
    BlobFolder,
    Blobs,
    StoredBlob,
    checked,
    is_name,
    name_parts,
)
from longleaf.core.catalog.ownership import MARK, require_own
from longleaf.core.errors import CatalogUnavailable, ConfigError, NotFound

ORIGINALS = "originals"
_AT_ONCE = 16
"""Requests of one look for many."""

_URL = re.compile(r"^([a-z0-9]+)://", re.IGNORECASE)


def open_blobs(home: Path, originals: str) -> Blobs:
    """Where `catalog.originals` says: in the data folder `home`, another folder, or a URL.

    Raises ConfigError for a URL that nothing here can open.
    """
    if not originals:
        return BlobFolder(home / ORIGINALS)
    found = _URL.match(originals)
    if found is None:
        return BlobFolder(Path(originals).expanduser().absolute())
    if found.group(1).lower() == "file":
        return BlobFolder(Path(originals[len("file://") :]))
    return BlobObjects(originals)


class BlobObjects:
    """See `Blobs`. `url` is the prefix that all names have: s3://BUCKET/PREFIX."""

    def __init__(self, url: str) -> None:
        import fsspec

        protocol, _, path = url.partition("://")
        self.url = url.rstrip("/")
        try:
            store = fsspec.get_filesystem_class(protocol.lower())
            # Its listings are kept for no time: another server writes to the same place.
            self._store: Any = store(use_listings_cache=False)
        except ImportError as error:
            extra = "s3" if protocol.lower() in ("s3", "s3a") else protocol
            raise ConfigError(
                f"catalog.originals is {self.url}, and what speaks {protocol} is not installed: "
                f"{error}.",
                f'pip install "longleaf[{extra}]"' if extra == "s3" else "Use a folder or s3://.",
            ) from None
        except ValueError:
            raise ConfigError(
                f"catalog.originals is {self.url}: nothing here speaks {protocol}.",
                "It takes a folder, or s3://BUCKET/PREFIX.",
            ) from None
        self._root = path.rstrip("/")
        self._unclaimed = ""
        """The catalog that still has to ask whose the place is, before it changes anything."""

    def claim(self, owner: str, *, take: bool) -> None:
        self._unclaimed = owner if take else ""
        with suppress(CatalogUnavailable):
            self._claim(owner, take=take)

    def _claim(self, owner: str, *, take: bool) -> None:
        mark = f"{self._root}/{MARK}"
        with self._named():
            if take and self._size(mark) is None:
                self._store.pipe_file(mark, f"{owner}\n".encode())
            found = None
            with suppress(FileNotFoundError):
                found = self._store.cat_file(mark).decode("utf-8", "replace").strip()
        require_own(found, owner, SETTING, self.url, f"{self.url}/{MARK}")
        self._unclaimed = ""

    def put(self, data: bytes) -> str:
        if self._unclaimed:
            self._claim(self._unclaimed, take=True)
        name = hashlib.sha256(data).hexdigest()
        key = self._key(name)
        with self._named():
            if self._size(key) != len(data):
                self._store.pipe_file(key, data)
        return name

    def get(self, name: str) -> bytes:
        key = self._key(name)
        try:
            with self._named():
                data = bytes(self._store.cat_file(key))
        except FileNotFoundError:
            raise NotFound(f"The original {name} is not in {self.url}.") from None
        return checked(name, data)

    def file(self, name: str) -> None:
        return None

    def exists(self, name: str) -> bool:
        key = self._key(name)
        with self._named():
            return self._size(key) is not None

    def missing(self, names: Iterable[str]) -> set[str]:
        asked = sorted(set(names))
        with ThreadPoolExecutor(min(_AT_ONCE, max(1, len(asked)))) as pool:
            there = list(pool.map(self.exists, asked))
        return {name for name, found in zip(asked, there, strict=True) if not found}

    def delete(self, name: str) -> None:
        key = self._key(name)
        if self._unclaimed:
            self._claim(self._unclaimed, take=True)
        with self._named():
            if self._size(key) is not None:
                self._store.rm_file(key)

    def stored(self) -> Iterator[StoredBlob]:
        with self._named():
            found: dict[str, dict[str, Any]] = self._store.find(self._root, detail=True)
        for path, entry in found.items():
            # Below a prefix may lie another catalog's: only names right below it are ours.
            name = "".join(path.rsplit("/", 2)[-2:])
            if is_name(name) and path.strip("/") == self._key(name).strip("/"):
                yield StoredBlob(name, int(entry["size"]), _written_at(entry))

    def unfinished(self) -> list[Path]:
        """An object that was not written to its end was never there."""
        return []

    def _size(self, key: str) -> int | None:
        try:
            return int(self._store.info(key)["size"])
        except FileNotFoundError:
            return None

    def _key(self, name: str) -> str:
        return "/".join((self._root, *name_parts(name)))

    @contextmanager
    def _named(self) -> Iterator[None]:
        """A store that fails, or refuses, by its name; what is not there stays what it is."""
        try:
            yield
        except FileNotFoundError as error:
            if "bucket" in str(error).lower():
                raise self._unavailable(error) from error
            raise
        except Exception as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: BaseException) -> CatalogUnavailable:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        return CatalogUnavailable(
            f"The originals at {self.url} cannot be reached: {said}.",
            "Are the address (AWS_ENDPOINT_URL), the bucket and the keys (AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY, ~/.aws) right? Nothing that was acknowledged is lost.",
        )


def _written_at(entry: dict[str, Any]) -> float:
    for field in ("LastModified", "created", "mtime"):
        when = entry.get(field)
        if isinstance(when, datetime):
            return when.timestamp()
        if isinstance(when, int | float):
            return float(when)
    return float("inf")  # nobody knows how old it is: too young to be removed
