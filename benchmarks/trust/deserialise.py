"""Goal 27: nothing that is read becomes code: no pickle, marshal, exec or shell on our way.

A process of its own indexes files, searches with both stages, answers over HTTP, exports, imports,
backs up and restores, with Python's audit hook on from before the first import of ours. Every event
of unpickling, unmarshalling, compiling, running text as code and starting a shell is noted with who
called it. None may be called by Longleaf; the libraries that do are listed, each with its reason.

    python -m benchmarks.trust.deserialise
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.trust import common

ROOT = Path(__file__).resolve().parents[2]
OURS = tuple(str(ROOT / each) + "/" for each in ("api", "core", "indexer", "retriever", "reranker"))
_OURS_LINKED = str(ROOT / "src" / "longleaf") + "/"
_WATCHED = ("pickle.find_class", "marshal.loads", "marshal.load", "exec", "compile", "os.system",
            "os.exec", "os.posix_spawn", "subprocess.Popen")  # fmt: skip
_SHELLS = ("sh", "bash", "dash", "zsh", "cmd.exe")
_IMPORTING = "<frozen importlib"


def watch(noted: Counter[tuple[str, str]]) -> None:
    """Note (event, file that called it) from now on, in this process."""
    depth = [0]

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _WATCHED or depth[0]:
            return
        depth[0] = 1
        try:
            if event == "subprocess.Popen" and not _is_shell(arguments):
                return
            caller = sys._getframe(1).f_code.co_filename
            # An import unmarshals and runs the file of a module that is installed: that is code.
            if event != "pickle.find_class" and caller.startswith(_IMPORTING):
                return
            what = f" {arguments[0]}.{arguments[1]}" if event == "pickle.find_class" else ""
            noted[event + what, caller] += 1
        finally:
            depth[0] = 0

    sys.addaudithook(note)


def _is_shell(arguments: tuple[Any, ...]) -> bool:
    program, words = arguments[0], arguments[1]
    first = program or (words[0] if words and not isinstance(words, str | bytes) else words)
    return isinstance(words, str) or Path(os.fsdecode(first or "")).name in _SHELLS


def use(folder: Path) -> None:
    """What a user does with it, from a file to a restored copy."""
    from tests.api.conftest import Client, a_worker, wait_until_followed
    from tests.indexer import word
    from tests.indexer.pdfs import lines_pdf

    from longleaf.api.app import create_app
    from longleaf.api.backup import back_up
    from longleaf.api.restoring import restore
    from longleaf.api.transfer import exporting
    from longleaf.api.transfer.opening import import_into
    from longleaf.api.wire import open_runtime

    text = "The tenant shall pay the rent on the first day of each month."
    runtime = open_runtime(common.settings_of(folder / "home"), follow=True)
    try:
        client = Client(create_app(runtime))
        assert client.post("/v1/collections", json={"name": "law"}).status_code == 201
        with a_worker(runtime):
            for name, data in (
                ("a.txt", text.encode()), ("b.pdf", lines_pdf([[text]])),
                ("c.docx", word.docx(word.paragraph(word.run(text)))),
                ("d.html", f"<p>{text}</p>".encode()), ("e.md", f"# Rent\n\n{text}\n".encode()),
                ("f.xml", f"<article><body><p>{text}</p></body></article>".encode()),
                ("g.csv", f"id,text\n1,{text}\n".encode()),
            ):  # fmt: skip
                made = client.upload(name, data, collection="law", key=name)
                assert made.status_code in (200, 201), (name, made.text)
        wait_until_followed(runtime)
        found = client.search("when is the rent due", collections=["law"])
        assert found["hits"] and found["reranked_count"], found
        texts = {"query": "rent", "documents": [text, "Serum was raised."]}
        assert client.post("/v1/rerank", json=texts).status_code == 200
        for page in ("/", "/?q=rent", "/library", "/api", "/openapi.json", "/metrics"):
            assert client.get(page).status_code == 200, page
        exporting.export(runtime.catalog, folder / "export.tar", exporting.Options())
        back_up(folder / "home", folder / "backup")
    finally:
        runtime.close()
    restore(folder / "backup", folder / "restored")
    settings = common.settings_of(folder / "imported")
    import_into(
        settings, folder / "export.tar", replace=False, embed=True, tell=lambda _: None,
        show=lambda *_: None,
    )  # fmt: skip


def owner(file: str) -> str:
    """Whose file it is: `longleaf`, `python`, or a library's top folder."""
    if file.startswith((*OURS, _OURS_LINKED)) or "/longleaf/" in file:
        return "longleaf"
    places = sysconfig.get_paths()
    for name in ("purelib", "platlib"):
        if file.startswith(places[name]):
            return Path(file).relative_to(places[name]).parts[0].removesuffix(".py")
    return "python" if file.startswith((places["stdlib"], "<")) else file


def run() -> common.Outcome:
    """The process, and what it noted."""
    with common.scratch() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.trust.deserialise", "--use", str(folder)],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode:
        return common.Outcome(27, "deserialisation", "it ended", False, [done.stderr[-3000:]])
    noted = json.loads(done.stdout.splitlines()[-1])
    wrong, libraries = [], Counter[str]()
    for event, file, count in noted:
        whose = owner(file)
        libraries[f"{whose}: {event.split(' ')[0]}"] += count
        dangerous = event.startswith(("pickle", "os.", "subprocess")) or (
            event.startswith("marshal") and whose != "python"
        )
        if whose == "longleaf" or dangerous:
            wrong.append(f"{event} by {file}, {count} times")
    listed = ", ".join(f"{name} {count}" for name, count in sorted(libraries.items()))
    figure = f"{len(wrong)} events of ours, 0 pickles and shells of anybody's; by others: {listed}"
    if wrong:
        figure = f"{len(wrong)} events that must not be; all: {listed}"
    return common.Outcome(27, "deserialisation", figure, not wrong, wrong)


def main() -> int:
    if sys.argv[1:2] == ["--use"]:
        noted: Counter[tuple[str, str]] = Counter()
        watch(noted)
        use(Path(sys.argv[2]))
        print(json.dumps([[*key, count] for key, count in noted.items()]))
        return 0
    chosen = common.options(__doc__ or "")
    return common.finish(run(), as_json=chosen.json)


if __name__ == "__main__":
    raise SystemExit(main())
