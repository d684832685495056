"""The catalog's secret: what was signed with it, a process that shares the catalog can trust.

It lies in the catalog, so that all replicas have it, and in its backups, which hold every document
anyway. What is signed ends with the catalog's epoch: ids of another history mean other things.
"""

from __future__ import annotations

import hmac
import secrets

from sqlalchemy import insert

from longleaf.core.catalog import feed
from longleaf.core.catalog.database import Database
from longleaf.core.catalog.migrations import meta_value
from longleaf.core.catalog.schema import meta

_ROW = "signing"
_SECRET_BYTES = 32


def signing_key(database: Database) -> bytes:
    """32 bytes, another one in each epoch; the secret is made when it is first asked for."""
    secret = _secret(database)
    with database.reading() as connection:
        epoch = feed.epoch(connection)
    return hmac.digest(secret, epoch.encode(), "sha256")


def catalog_name(database: Database) -> str:
    """Names this catalog and its restored copies, and tells nothing of the secret."""
    return hmac.digest(_secret(database), b"catalog", "sha256").hex()[:16]


def _secret(database: Database) -> bytes:
    with database.reading() as connection:
        secret = meta_value(connection, _ROW)
    if secret is None:
        with database.writing() as connection:
            secret = meta_value(connection, _ROW)
            if secret is None:
                secret = secrets.token_hex(_SECRET_BYTES)
                connection.execute(insert(meta).values(key=_ROW, value=secret))
    return bytes.fromhex(secret)
