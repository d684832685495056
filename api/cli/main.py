"""`longleaf`: the command line. One file per command group; this one joins them.

Commands import what they need when they run, so that `longleaf --help` answers at once. Every
command but mcp, whose output is a protocol, takes --json. Exit codes: 0 done, 1 a named error, 2
wrong usage, 3 done but something was rejected (only with --strict), 130 interrupted.
"""

from __future__ import annotations

import sys

import typer

from longleaf.api.cli import (
    answering,
    backup,
    collections,
    corpus,
    doctor,
    evaluation,
    jobs,
    judging,
    keys,
    maintain,
    mcp,
    models,
    searching,
    serving,
    setup,
    transfer,
)

app = typer.Typer(
    name="longleaf",
    help="Search long documents in two stages, on your own machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (
    corpus, collections, jobs, searching, answering, serving, keys, mcp, maintain, evaluation,
    judging, doctor, backup, transfer, models, setup,
):  # fmt: skip
    group.register(app)


def main() -> None:
    """Entry point: turns named errors into one sentence, a hint and an exit code."""
    from longleaf.core.errors import LongleafError

    try:
        app()
    except LongleafError as error:
        from longleaf.api.cli.output import print_error

        print_error(error, as_json="--json" in sys.argv)
        sys.exit(1)
    except KeyboardInterrupt:
        print(
            "Interrupted. What was reported is safe; run the command again to go on.",
            file=sys.stderr,
        )
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output went away (| head): nothing to say to it, and no traceback.
        sys.stderr.close()
        sys.exit(141)
