"""The parts of docs/*.md that are made from the code, and the command that writes them anew.

`python tests/doc_tables.py` rewrites what stands between the `generated` marks of each page;
tests/test_docs.py compares. A table is made here only where the code holds all of its words; what
needs an explanation is written by hand and only checked for completeness.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from longleaf.api.cli.main import app
from longleaf.api.http.errors import OTHER_PROBLEMS, STATUSES
from longleaf.core.config import Settings, setting_names, setting_value, setting_variable
from longleaf.core.filters import BUILT_IN_FIELDS
from longleaf.retriever.filters import filter_to_json
from longleaf.retriever.query import parse_query

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- generated:begin -->", "<!-- generated:end -->"
COMMAND = "python tests/doc_tables.py"

QUERIES = (
    "repairs of the roof",
    '"force majeure" pandemic',
    "lease -insurance",
    'lease -"security deposit"',
    "court:ca9 patents",
    "court:ca9,ca2",
    'court:"second circuit"',
    "court:ca*",
    "court:*",
    "-court:ca9 patents",
    "year:2020",
    "year:2019..2022",
    "year:>=2019",
    "date:<2022-03-01",
    "date:>=2020-05",
    "42 U.S.C. § 1983",
    "Re: contract",
    "at 10:30, -5 °C",
    '5" pipe "unclosed',
)
PROBLEMS_IN_WORDS = {
    "bad_request": "The body is not what its content type says.",
    "error": "Something else went wrong; `detail` says what.",
    "forbidden": "The key's role does not go so far, or another site's page asks for a change.",
    "unauthorized": "The server wants a key, and none that is good came ([access](access.md)).",
    "internal": "A mistake of ours; the log names the cause under the `request_id`.",
    "method_not_allowed": "The route does not take this method.",
    "not_installed": "The route needs a package that is not installed; `hint` names it.",
    "not_ready": "The index is not open or does not follow the catalog.",
    "too_slow": "The request did not come whole in time; the connection is closed.",
    "rejected": "The file was not indexed; `reason` is one of those in [documents](documents.md).",
    "validation": "A field is missing, unknown or out of bounds; `errors` names each.",
    "wrong_host": "The server does not answer to that Host name.",
}
EXAMPLE_FIELDS = frozenset({*BUILT_IN_FIELDS, "court", "date", "year"})


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def settings_table() -> str:
    defaults = Settings()
    rows = []
    for name, description in setting_names().items():
        # The default of `home` is made absolute, which differs from user to user.
        default = "~/.longleaf" if name == "home" else setting_value(defaults, name)
        rows.append(
            (f"`{name}`", f"`{setting_variable(name)}`", _shown(default), _takes(name), description)
        )
    return table(("setting", "variable", "default", "takes", "what it does, what it costs"), rows)


def _shown(value: object) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return "empty" if value == "" else f"`{value}`"


def _field(name: str) -> FieldInfo:
    section, _, inner = name.rpartition(".")
    fields = Settings.model_fields
    if not section:
        return fields[inner]
    model = fields[section].annotation
    assert model is not None
    found = model.model_fields[inner]
    assert isinstance(found, FieldInfo)
    return found


def _takes(name: str) -> str:
    field = _field(name)
    kind = field.annotation
    if get_origin(kind) is Literal:
        return ", ".join(f"`{each}`" for each in get_args(kind))
    if kind is bool:
        return "`true`, `false`"
    if kind in (str, Path):
        return "a folder" if kind is Path else "text"
    words = {"ge": "from", "gt": "above", "le": "to", "lt": "below"}
    bounds = [
        f"{word} {getattr(limit, bound)}"
        for bound, word in words.items()
        for limit in field.metadata
        if getattr(limit, bound, None) is not None
    ]
    return " ".join(["a number", *bounds])


def leaf_commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, as the words after `longleaf`."""

    def walk(group: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from walk(command, (*path, name))
            else:
                yield (*path, name), command

    yield from walk(typer.main.get_command(app), ())


def parse_command_line(words: list[str]) -> None:
    """Read the words after `longleaf` as the command line does, and run nothing."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("longleaf", list(words))
    while hasattr(command, "commands"):
        rest = [*context._protected_args, *context.args]
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)


def commands_text() -> str:
    parts = []
    for path, command in leaf_commands():
        arguments = [each for each in command.params if each.param_type_name == "argument"]
        shown = [f"{each.name.upper()}{'…' if each.nargs == -1 else ''}" for each in arguments]
        parts.append(f"## longleaf {' '.join(path)}\n")
        parts.append(f"`{' '.join(['longleaf', *path, *shown, '[OPTIONS]'])}`\n")
        parts.append(re.sub(r"\n(?!\n)(?<!\n\n)", " ", (command.help or "").strip()) + "\n")
        rows = [_parameter(each) for each in (*arguments, *_options(command))]
        parts.append(table(("name", "default", "what it does"), rows) + "\n")
    return "\n".join(parts).strip()


def _options(command: Any) -> list[Any]:
    return [each for each in command.params if each.param_type_name == "option"]


def _parameter(parameter: Any) -> tuple[str, str, str]:
    if parameter.param_type_name == "argument":
        return f"`{parameter.name.upper()}`", "required", parameter.help or ""
    names = "/".join((*parameter.opts, *parameter.secondary_opts))
    default = parameter.default
    shown = "" if default in (None, [], ()) or default is False else _shown(default)
    return f"`{names}`", shown, parameter.help or ""


def problems_table() -> str:
    """Codes with their statuses, as the API answers them."""
    found = {code: status for code, (status, _) in OTHER_PROBLEMS.items()}
    when = {}
    for kind, (status, _) in STATUSES.items():
        found[kind.code] = status
        when[kind.code] = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
    when |= PROBLEMS_IN_WORDS
    rows = sorted((status, code) for code, status in found.items())
    return table(
        ("status", "code", "when"),
        [(str(status), f"`{code}`", when[code]) for status, code in rows],
    )


def queries_table() -> str:
    rows = []
    for typed in QUERIES:
        read = parse_query(typed, EXAMPLE_FIELDS)
        where = json.dumps(filter_to_json(read.where)) if read.where is not None else ""
        cells = (typed, read.text, ", ".join(read.phrases), ", ".join(read.excluded), where)
        rows.append(tuple(f"`{cell}`" if cell else "" for cell in cells))
    return table(("typed", "looked for", "must hold", "must not hold", "filter"), rows)


PAGES: dict[str, Callable[[], str]] = {
    "docs/settings.md": settings_table,
    "docs/cli.md": commands_text,
    "docs/api.md": problems_table,
    "docs/query.md": queries_table,
}


def rewritten(page: str, text: str) -> str:
    """`text` with what the code says now between its marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin and end, f"{page} lacks {BEGIN} or {END}"
    return f"{before}{BEGIN}\n{PAGES[page]()}\n{END}{after}"


def main() -> None:
    for page in PAGES:
        file = ROOT / page
        file.write_text(rewritten(page, file.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
