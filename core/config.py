"""One frozen tree of settings, read once: defaults < `longleaf.toml` < environment < flags.

Together with api/cli this is the only place that reads the environment. Every option stands here
with its default, its unit and what it costs; `longleaf config` prints the tree with where each
value came from.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from longleaf.core.answer_settings import AnswerSettings
from longleaf.core.embedder_settings import EmbedderSettings
from longleaf.core.errors import ConfigError
from longleaf.core.oidc_settings import OidcSettings
from longleaf.core.operation_settings import AuditSettings, LogSettings, TelemetrySettings
from longleaf.core.reranker_settings import RerankerSettings
from longleaf.core.serving_settings import ServingSettings
from longleaf.core.store_settings import (
    SECRET,
    CatalogSettings,
    FaissSettings,
    IndexSettings,
    QdrantSettings,
    Section,
    has_password,
    without_password,
)
from longleaf.core.suspicion_settings import SuspicionSettings

ENVIRONMENT_PREFIX = "LONGLEAF_"
CONFIG_FILE_NAME = "longleaf.toml"


class ServerSettings(Section):
    """Where API and page listen."""

    host: str = Field(
        "127.0.0.1", description="Address to listen on; beyond loopback only once there is a key."
    )
    allow_remote: bool = Field(
        False,
        description="Listen beyond loopback although there is no key: only where something else "
        "keeps strangers from the port, such as a container's port published on loopback.",
    )
    allowed_hosts: str = Field(
        "", description="Host names to answer to beside the address itself, comma-separated."
    )
    port: int = Field(8765, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    max_upload_bytes: int = Field(
        256 * 1024 * 1024, ge=1, description="Largest upload taken, in bytes."
    )
    workers: int = Field(
        4, ge=1, le=64, description="Searches that run at once; others wait in line."
    )
    requests_per_minute: int = Field(
        0, ge=0, description="Of one key, where it has no limit of its own; 0: any number."
    )
    page_image_bytes: int = Field(
        256 * 1024 * 1024,
        ge=0,
        description="Disk that drawn pages of PDFs may take in the data folder, each 50 to 300 kB; "
        "the ones looked at longest ago go first. 0: each is drawn anew, 0.05-0.5 s.",
    )
    worker: bool = Field(
        True,
        description="Start a worker for uploads and folder jobs beside the server (false: others "
        "run longleaf worker).",
    )


class ChunkerSettings(Section):
    """How documents become passages. Changing it means embedding anew."""

    target_tokens: int = Field(200, ge=40, le=8192, description="Most tokens of a passage.")
    overlap_tokens: int = Field(
        0, ge=0, le=4096, description="Tokens that a passage repeats of the one before."
    )


class IndexerSettings(Section):
    """The way in."""

    keep_originals: bool = Field(
        True, description="Keep a copy of every file, for re-reading and the viewer."
    )
    max_file_bytes: int = Field(
        512 * 1024 * 1024, ge=1, description="Files above this are rejected as too large."
    )
    commit_passages: int = Field(
        512, ge=1, description="Passages per transaction: fewer lose less work to a kill."
    )
    parse_workers: int = Field(
        0,
        ge=0,
        le=64,
        description="Files parsed at once, each in a process of its own (30 MB and more); "
        "0: half of the cores, at most 8.",
    )
    parse_seconds: float = Field(
        60.0,
        gt=0,
        description="Longest that a file's parser may work; each page or document that it "
        "finishes adds 1/300 of it, each 4 MiB of the file a second, up to 60 times as long.",
    )
    parse_memory_bytes: int = Field(
        1024 * 1024 * 1024,
        ge=32 * 1024 * 1024,
        lt=2**40,
        description="Memory that a parser may take beside the file itself; also the most that "
        "one document may weigh.",
    )
    parse_text_chars: int = Field(
        1_000_000_000, ge=1, description="Characters of text taken from one file at most."
    )
    parse_documents: int = Field(
        1_000_000, ge=1, description="Documents taken from one file at most."
    )
    ocr_languages: str = Field(
        "eng",
        pattern=r"^([A-Za-z0-9_/-]+(\+[A-Za-z0-9_/-]+)*)?$",
        description='Tesseract\'s language packs, joined by "+" (eng+deu); empty: no OCR. '
        "A page takes about 2 s of one core.",
    )
    ocr_page_seconds: float = Field(
        120.0, gt=0, description="Longest that OCR may take for one page."
    )
    convert_seconds: float = Field(
        60.0, gt=0, description="Longest that LibreOffice may take for one file (usually 2-5 s)."
    )
    program_memory_bytes: int = Field(
        4 * 1024**3,
        ge=256 * 1024 * 1024,
        lt=2**40,
        description="Addresses that LibreOffice or Tesseract may use; they touch a tenth of it.",
    )


class RetrieverSettings(Section):
    """The first stage."""

    candidates: int = Field(100, ge=1, le=1000, description="Documents handed to the reranker.")
    passages_per_document: int = Field(
        3, ge=1, le=32, description="Passages of one document that are kept and read."
    )
    fusion: Literal["zscore", "rrf"] = Field(
        "zscore", description="How dense and BM25 scores are joined."
    )
    bm25_weight: float = Field(
        1.0, ge=0, le=10, description="Weight of BM25's z-score beside the dense one's."
    )
    flush_documents: int = Field(
        2000, ge=1, description="Documents applied to the index between two flushes."
    )
    erase_minutes: float = Field(
        15.0,
        ge=0,
        description="Longest that copies of what was deleted stay in the files of index and "
        "catalog while `longleaf serve` runs; 0: until `longleaf compact`. Each time costs about "
        "what copying them does.",
    )


class Settings(Section):
    """Everything that can be set."""

    home: Path = Field(Path("~/.longleaf"), description="The data folder.")
    server: ServerSettings = ServerSettings()
    serving: ServingSettings = ServingSettings()
    embedder: EmbedderSettings = EmbedderSettings()
    chunker: ChunkerSettings = ChunkerSettings()
    indexer: IndexerSettings = IndexerSettings()
    retriever: RetrieverSettings = RetrieverSettings()
    catalog: CatalogSettings = CatalogSettings()
    index: IndexSettings = IndexSettings()
    qdrant: QdrantSettings = QdrantSettings()
    faiss: FaissSettings = FaissSettings()
    reranker: RerankerSettings = RerankerSettings()
    answer: AnswerSettings = AnswerSettings()
    log: LogSettings = LogSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    audit: AuditSettings = AuditSettings()
    oidc: OidcSettings = OidcSettings()
    suspicion: SuspicionSettings = SuspicionSettings()

    @field_validator("home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()


class LoadedSettings(BaseModel):
    """The tree, and for each dotted name where its value came from."""

    model_config = ConfigDict(frozen=True)

    settings: Settings
    origins: Mapping[str, str]


def load_settings(
    flags: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None
) -> LoadedSettings:
    """Read the settings once.

    `flags` maps dotted names ("server.port") to values and wins over everything. The environment
    names a setting as LONGLEAF_ + its dotted name with "__" for dots, upper case
    (LONGLEAF_SERVER__PORT); LONGLEAF_HOME says where `longleaf.toml` is looked for. Raises
    ConfigError naming the setting, where it was set, and what it takes.
    """
    environment = os.environ if environment is None else environment
    names = setting_names()
    values: dict[str, Any] = {}
    origins: dict[str, str] = dict.fromkeys(names, "default")

    from_environment = {
        name: environment[setting_variable(name)]
        for name in names
        if setting_variable(name) in environment
    }
    home = (flags or {}).get("home") or from_environment.get("home") or "~/.longleaf"
    file = Path(home).expanduser() / CONFIG_FILE_NAME
    for name, value in _read_file(file, names).items():
        values[name], origins[name] = value, str(file)
    for name, value in from_environment.items():
        values[name], origins[name] = value, setting_variable(name)
    for variable in environment:
        if variable.startswith(ENVIRONMENT_PREFIX) and not variable.startswith("LONGLEAF_TEST_"):
            known = {setting_variable(name) for name in names}
            if variable not in known:
                raise ConfigError(
                    f"The environment sets {variable}, which is no setting of Longleaf.",
                    "longleaf config lists the settings and their variables.",
                )
    for name, value in (flags or {}).items():
        if value is not None:
            values[name], origins[name] = value, "command line"
    try:
        settings = Settings.model_validate(_nest(values))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        given = "what it is" if name in _secrets() else repr(first["input"])
        raise ConfigError(
            f"{name} cannot be {given} ({origins.get(name, 'default')}): {first['msg']}.",
            "longleaf config describes every setting.",
        ) from None
    return LoadedSettings(settings=settings, origins=origins)


def setting_names() -> dict[str, str]:
    """Dotted name -> description of every setting."""
    found: dict[str, str] = {}
    for name, info in Settings.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, Section):
            for inner, inner_info in info.annotation.model_fields.items():
                found[f"{name}.{inner}"] = inner_info.description or ""
        else:
            found[name] = info.description or ""
    return found


def setting_value(settings: Settings, name: str) -> Any:
    """The value behind a dotted name."""
    value: Any = settings
    for part in name.split("."):
        value = getattr(value, part)
    return value


def shown_value(settings: Settings, name: str) -> Any:
    """The value as it may be printed, stored and logged: of a secret, only that it is set."""
    value = setting_value(settings, name)
    if name in _secrets():
        return "(set)" if value else ""
    return without_password(value) if isinstance(value, str) else value


def setting_variable(name: str) -> str:
    """The environment variable of a dotted name."""
    return ENVIRONMENT_PREFIX + name.replace(".", "__").upper()


def _read_file(file: Path, names: Mapping[str, str]) -> dict[str, Any]:
    try:
        parsed = tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}.", "Mend or remove it.") from error
    found: dict[str, Any] = {}
    for section, value in parsed.items():
        inner = {section: value}
        if isinstance(value, dict):
            inner = {f"{section}.{name}": each for name, each in value.items()}
        for name, each in inner.items():
            if name not in names or name == "home":
                raise ConfigError(
                    f"{file} sets {name}, which is no setting that can stand there.",
                    "longleaf config lists the settings.",
                )
            if name in _secrets() or (isinstance(each, str) and has_password(each)):
                raise ConfigError(
                    f"{file} sets {name} with a secret in it.",
                    f"Put it into the environment: {setting_variable(name)}.",
                )
            found[name] = each
    return found


def _secrets() -> frozenset[str]:
    return frozenset(
        f"{section}.{name}"
        for section, info in Settings.model_fields.items()
        if isinstance(info.annotation, type) and issubclass(info.annotation, Section)
        for name, field in info.annotation.model_fields.items()
        if field.json_schema_extra == SECRET
    )


def _nest(values: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in values.items():
        section, _, inner = name.rpartition(".")
        (nested.setdefault(section, {}) if section else nested)[inner] = value
    return nested
