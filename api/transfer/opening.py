"""An import into a data folder: its catalog, its generations, its models only when wanted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from longleaf.api import wire
from longleaf.api.transfer import archive, form, importing
from longleaf.api.transfer.fates import Imported, Options, Summary
from longleaf.core.catalog import Generation
from longleaf.core.config import Settings
from longleaf.core.errors import InvalidRequest
from longleaf.core.protocols import Chunker, Embedder


def import_into(
    settings: Settings,
    source: Path,
    *,
    replace: bool,
    embed: bool,
    tell: Callable[[Imported], None],
    show: importing.Progress,
) -> Summary:
    """Import `source`. Raises GenerationMismatch when the configured models are not those here."""
    if next(archive.members(source), None) is None:
        raise InvalidRequest(f"{source} is empty.", f"An export begins with {form.HEADER}.")
    # The models are loaded: only they say which generations are to be fed, and that they still are.
    parts = wire.open_write_side(settings)
    try:
        targets = {target.generation.id: target for target in parts.indexer.targets}

        def models(generation: Generation) -> tuple[Chunker, Embedder]:
            target = targets[generation.id]
            return target.chunker, target.embedder

        return importing.Import(
            parts.catalog,
            [target.generation for target in parts.indexer.targets],
            models,
            Options(replace, embed),
            settings.indexer.max_file_bytes,
            tell,
            show,
        ).run(source)
    finally:
        parts.close()
