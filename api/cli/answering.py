"""`longleaf answer`: an answer in words on the terminal as it comes, with what it cites."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from longleaf.api.cli.output import console, print_json, quiet_logs

if TYPE_CHECKING:
    from longleaf.core.config import Settings

Hear = Callable[[str, bool], None]
"""(text that the answer goes on with, whether it begins anew)"""

_PATIENCE_SECONDS = 3700.0  # answer.timeout_seconds ends it before


def register(app: typer.Typer) -> None:
    app.command("answer")(answer)


def answer(
    question: Annotated[str, typer.Argument(help="A question that the documents may answer.")],
    collection: Annotated[
        list[str] | None, typer.Option(help="Only in this collection (repeatable).")
    ] = None,
    max_sources: Annotated[
        int | None, typer.Option(min=1, max=50, help="Passages to send at most (setting).")
    ] = None,
    home: Annotated[Path | None, typer.Option(help="The data folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, once it is whole.")] = False,
) -> None:
    """Have the configured chat model answer from the passages that a search finds, with citations.

    The question and the passages are sent to answer.url (docs/answers.md).
    """
    quiet_logs()
    from longleaf.core.config import load_settings

    body = {"query": question, "collections": collection or None, "max_sources": max_sources}
    settings = load_settings({"home": home}).settings
    if as_json:
        print_json(ask(settings, body, lambda _text, _restart: None))
        return

    def hear(text: str, restart: bool) -> None:
        print("\n(That was thinking aloud; the answer:)\n" if restart else text, end="", flush=True)

    print_rest(ask(settings, body, hear))


def ask(settings: Settings, body: dict[str, Any], hear: Hear) -> dict[str, Any]:
    """The API's answer to `body`: from the running server, else from an engine opened here."""
    from longleaf.api.running import find_server, local_headers

    url = find_server(settings.home)
    if url is not None:
        return _ask_server(url, local_headers(settings.home), body, hear)
    from longleaf.api import wire
    from longleaf.api.http.written import answer_in_words
    from longleaf.api.http.written_schemas import WordsEvent

    def tell(_name: str, said: object) -> None:
        assert isinstance(said, WordsEvent)
        hear(said.text, said.restart)

    runtime = wire.open_runtime(settings, follow=False)
    try:
        runtime.follower.catch_up()
        return answer_in_words(runtime, body, tell)
    finally:
        runtime.close()


def _ask_server(
    url: str, local: dict[str, str], body: dict[str, Any], hear: Hear
) -> dict[str, Any]:
    import json

    import httpx

    from longleaf.api.asking import answer_of
    from longleaf.core.errors import LongleafError

    headers = {"content-type": "application/json", **local}
    asked = json.dumps(body | {"stream": True})
    name = ""
    with (
        httpx.Client(timeout=_PATIENCE_SECONDS, trust_env=False) as client,
        client.stream("POST", f"{url}/v1/answer", content=asked, headers=headers) as response,
    ):
        if response.is_error:
            response.read()
            answer_of(response)  # which raises what is wrong
        for line in response.iter_lines():
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                said: dict[str, Any] = json.loads(value)
                if name == "token":
                    hear(said["text"], said["restart"])
                elif name == "done":
                    return said
                elif name == "error":
                    raise LongleafError(str(said["detail"]), str(said.get("hint", "")))
    raise LongleafError("The server stopped in the middle of its answer.", "Ask again.")


def print_rest(answer: dict[str, Any]) -> None:
    """What stands below the words: why there are none, the passages, and what is doubtful."""
    from longleaf.api.answering.prompt import visible

    out = console()
    if answer["text"]:
        out.print("\n")
    if answer["state"] == "nothing_found":
        out.print("No passage was found to answer from, so no model was asked.")
    if failure := answer["failure"]:
        out.print(f"No whole answer: {failure['detail']} {failure.get('hint', '')}", markup=False)
    for source in answer["citations"] or (answer["sources"] if failure else ()):
        page = f", p. {source['first_page']}" if source["first_page"] else ""
        place = f"{source['key']}{page}, {source['start_char']:,}-{source['end_char']:,}"
        line = visible(f"[{source['number']}] {source['title']} ({place})")
        out.print(line, style="cyan", markup=False)
    if unknown := answer["unsupported_citations"]:
        out.print(f"{len(unknown)} citations named no passage that was sent: [?]", markup=False)
    if uncited := answer["uncited_sentences"]:
        out.print(f"{len(uncited)} of {answer['sentence_count']} sentences cite no passage.")
    for quote in answer["quotes_not_found"]:
        out.print(f"Not in the passage cited: {quote['text']}", markup=False)
    for warning in answer["warnings"]:
        out.print(f"Warning: {warning}", style="yellow", markup=False)
    if answer["text"] and answer["state"] == "answered":
        out.print(
            f"Written by {answer['model']}. A cited sentence may still be wrong: look at its "
            "passage.",
            style="dim",
            markup=False,
        )
