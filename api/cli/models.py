"""`longleaf models`: rerankers that are here, whether they make sense, and fetching one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from longleaf.api.cli.output import console, print_json, quiet_logs

_Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        help="Qwen3 rerankers: list those that are here, check one, pull one.",
        no_args_is_help=True,
    )
    group.command("list")(list_models)
    group.command("check")(check)
    group.command("pull")(pull)
    app.add_typer(group, name="models")


def list_models(as_json: _Json = False) -> None:
    """List the Qwen3 rerankers in the hub's cache on this machine; asks no hub."""
    from longleaf.reranker.hub import cached_models

    found = cached_models()
    if as_json:
        print_json(
            [
                {
                    "model": each.model,
                    "folder": str(each.folder),
                    "bytes": each.size_bytes,
                    "whole": each.is_whole,
                }
                for each in found
            ]
        )
        return
    if not found:
        console().print("None. Fetch one: longleaf models pull Qwen/Qwen3-Reranker-0.6B")
    for each in found:
        state = "" if each.is_whole else " (files are missing: pull it again)"
        console().print(f"{each.model}  {each.size_bytes / 1e9:.1f} GB  {each.folder}{state}")


def check(
    model: Annotated[
        str | None,
        typer.Argument(
            help="Folder or hub id of a Qwen3-Reranker. Without it: the service or Longleaf that "
            "reranker.url names."
        ),
    ] = None,
    home: Annotated[
        Path | None, typer.Option(help="The data folder (default: LONGLEAF_HOME).")
    ] = None,
    as_json: _Json = False,
) -> None:
    """Score a few pairs of which one is obviously relevant; fail if any is the wrong way round.

    Runs on the CPU where there is no GPU (seconds to a minute). It measures no quality.
    """
    quiet_logs()
    from longleaf.api.reading import check_model, check_remote
    from longleaf.core.config import load_settings

    if model is None:
        reason = check_remote(load_settings({"home": home}).settings.reranker)
        if as_json:
            print_json({"model": None, "reason": reason})
        else:
            console().print(f"OK {reason}")
        return
    reason, verdicts = check_model(model)
    if as_json:
        print_json(
            {
                "model": model,
                "reason": reason,
                "probes": [
                    {
                        "query": each.probe.query,
                        "relevant": each.relevant,
                        "irrelevant": each.irrelevant,
                    }
                    for each in verdicts
                ],
            }
        )
        return
    console().print(reason)
    for each in verdicts:
        console().print(f"OK {each.relevant:8.2f} > {each.irrelevant:8.2f}  {each.probe.query}")


def pull(
    model: Annotated[str, typer.Argument(help="A hub id (owner/name).")],
    to: Annotated[
        Path | None, typer.Option(help="Folder to put it in (default: the hub's cache).")
    ] = None,
    as_json: _Json = False,
) -> None:
    """Fetch a model's weights and tokenizer from the hub; nothing in it that could run."""
    quiet_logs()
    from longleaf.reranker.hub import pull_model

    folder = pull_model(model, to)
    if as_json:
        print_json({"model": model, "folder": str(folder)})
    else:
        console().print(f"{model} is in {folder}. Check it: longleaf models check {folder}")
