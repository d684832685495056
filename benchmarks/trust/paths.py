"""Goal 26: names that lead out of the data folder, wherever a name comes from outside.

Uploads (file name, key, collection, entries of DOCX, EPUB and ZIP), pages and files asked for by
path, imports (tar and folder) and backups that somebody changed. Every name leads, in some way, to
a place that has MARK in its path, beside the data folder; a process of its own meets all of them,
and every path that it, its parsers or its index process open, read, make, link or remove is seen by
strace (where tracing is allowed) and by Python's audit hook. None may have MARK in it, and nothing
outside the folder may be opened to be written.

    python -m benchmarks.trust.paths
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from benchmarks.trust import common

MARK = "outside-marker"
ROOT = Path(__file__).resolve().parents[2]
_OPENED = re.compile(r'(?:openat|open|creat)\((?:AT_FDCWD|\d+)?,? ?"([^"]*)", (O_[A-Z_|]+)')
_OWN_WRITES = ("/dev/", "/proc/", "/sys/")
"""Where a process writes that is no file: devices, and its own limits and name spaces."""


def names(folder: Path, every: int) -> list[str]:
    """Each `every`th way of leaving; `folder` holds the data folder, and MARK beside it."""
    away = f"{folder}/{MARK}/stolen"
    return [
        f"../{MARK}/stolen", f"../../{MARK}/stolen", f"../../../../../../..{away}", away,
        f"./../{MARK}/stolen", f"originals/../../{MARK}/stolen", f"....//{MARK}/stolen",
        f"..\\{MARK}\\stolen", f"C:\\{MARK}\\stolen", f"\\\\host\\{MARK}\\stolen",
        f"file://{away}", f"..%2f{MARK}%2fstolen", f"%2e%2e/{MARK}/stolen", f"..%252f{MARK}",
        f"..%c0%af{MARK}/stolen", f"{MARK}\0.txt", f"../{MARK}/stolen\0.txt", f"~/{MARK}",
        f"$HOME/{MARK}", f"/proc/self/cwd/{MARK}", f"{MARK}:stream", f"CON.{MARK}",
        f"{MARK}/" * 200, f"{MARK}{'a' * 5_000}.txt", f"{MARK}/.", f"{MARK}/..", f" ../{MARK}",
        f"..\u2215{MARK}", f"\uff0e\uff0e/{MARK}", f".{MARK}",
    ][::every]  # fmt: skip


def prepare(folder: Path, every: int) -> None:
    """A data folder with documents, a backup and an export of it, and changed copies of those."""
    from longleaf.api.backup import back_up
    from longleaf.api.transfer import exporting
    from longleaf.core.catalog import Catalog

    home = folder / "home"
    common.put(home, [1, 2])
    (folder / MARK).mkdir()
    (folder / MARK / "stolen").write_text("what must not be read\n")
    back_up(home, folder / "backup")
    catalog = Catalog(home)
    try:
        exporting.export(catalog, folder / "export", exporting.Options())
    finally:
        catalog.close()
    for number, name in enumerate(names(folder, every)):
        _change_backup(folder, number, name)
        if "\0" not in name:
            (folder / f"import-{number}.tar").write_bytes(_tar(name, folder))
    for number, part in enumerate(("originals", "token-vectors", "export.json")):
        changed = shutil.copytree(folder / "export", folder / f"import-folder-{number}")
        found = sorted(each for each in changed.rglob("*") if part in str(each) and each.is_file())
        for each in found[:1]:
            each.unlink()
            each.symlink_to(folder / MARK / "stolen")


def _change_backup(folder: Path, number: int, name: str) -> None:
    changed = shutil.copytree(folder / "backup", folder / f"backup-{number}")
    manifest = json.loads((changed / "manifest.json").read_text())
    kind = ("originals", "segments")[number % 2]
    entry = 5 if kind == "originals" else manifest["catalog"]
    manifest[kind][name] = entry
    (changed / "manifest.json").write_text(json.dumps(manifest))
    if number < 3:  # what the manifest names is a link that leads away
        shutil.copy(folder / "backup" / "manifest.json", changed)
        victim = next(each for each in (changed / "originals").rglob("*") if each.is_file())
        victim.unlink()
        if number == 2:
            os.link(folder / MARK / "stolen", victim)
        else:
            victim.symlink_to(folder / MARK / "stolen")


def _tar(name: str, folder: Path) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:", format=tarfile.PAX_FORMAT) as tar:
        for member, data in (
            ("export.json", (folder / "export" / "export.json").read_bytes()), (name, b"evil"),
        ):  # fmt: skip
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            link = tarfile.TarInfo(f"originals/aa/{'a' * 62}{kind.decode()}")
            link.type, link.linkname = kind, f"{folder}/{MARK}/stolen"
            tar.addfile(link)
    return out.getvalue()


def _package(name: str, first: str) -> bytes:
    """A ZIP that has `first` and then an entry of this name, once as a file and once as a link."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as package:
        package.writestr(first, "<w/>")
        package.writestr(name.replace("\0", "_"), b"evil")
        link = zipfile.ZipInfo(f"word/{MARK}")
        link.external_attr = 0o120777 << 16
        package.writestr(link, f"../../{MARK}/stolen")
    return out.getvalue()


def attack(folder: Path, every: int) -> dict[str, Any]:
    """Meet all of them; {"tries": by kind, "ended": by status or error, "seen": paths by hook}."""
    seen: list[str] = []
    sys.addaudithook(lambda event, arguments: _note(seen, event, arguments))
    tries: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    for kind, one in _attempts(folder, every):
        tries[kind] += 1
        try:
            ended[f"{kind}: {one()}"] += 1
        except Exception as error:
            ended[f"{kind}: {type(error).__name__}"] += 1
    return {"tries": tries, "ended": ended, "seen": seen}


def _note(seen: list[str], event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" or event.startswith(("os.", "shutil.", "sqlite3.", "glob.", "pathlib.")):
        seen += [f"{event} {each}" for each in map(str, arguments) if MARK in each]


def _attempts(folder: Path, every: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    from longleaf.api.restoring import restore
    from longleaf.api.transfer.opening import import_into

    yield from _requests(folder, every)
    for number, path in enumerate(sorted(folder.glob("backup-*"))):
        yield "restore", lambda path=path, n=number: restore(path, folder / f"restored-{n}")
    settings = common.settings_of(folder / "imported")
    for path in sorted(folder.glob("import-*")):
        yield (
            "import",
            lambda path=path: import_into(
                settings, path, replace=False, embed=False, tell=lambda _: None,
                show=lambda *_: None,
            ),
        )  # fmt: skip


def _requests(folder: Path, every: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    from tests.api.conftest import Client, a_worker

    from longleaf.api.app import create_app
    from longleaf.api.wire import open_runtime

    runtime = open_runtime(common.settings_of(folder / "home"), follow=False)
    try:
        with a_worker(runtime):
            client = Client(create_app(runtime))

            def sent(name: str, data: bytes, **form: Any) -> int:
                fields = {"collection": common.COLLECTION} | form
                return client.upload(name, data, **fields).status_code

            for name in names(folder, every):
                quoted = quote(name, safe="")
                text = f"A text of its own: {ascii(name)[:80]}".encode()
                yield "name", lambda n=name, t=text: sent(n, t)
                yield "key", lambda n=name, t=text: sent("a.txt", t, key=n)
                yield "collection", lambda n=name, t=text: sent("a.txt", t, collection=n)
                for first, of in (("word/document.xml", "a.docx"), ("mimetype", "a.epub")):
                    yield "archive", lambda n=name, f=first, o=of: sent(o, _package(n, f))
                yield "archive", lambda n=name: sent("a.zip", _package(n, "a.txt"))
                for path in (
                    f"/static/{quoted}", f"/static/../{quoted}", f"/documents/{quoted}",
                    f"/v1/documents/{quoted}/original", f"/v1/collections/{quoted}",
                ):  # fmt: skip
                    yield "path", lambda p=path: client.get(p).status_code
                body = {"name": name}
                made = lambda b=body: client.post("/v1/collections", json=b).status_code  # noqa: E731
                yield "new collection", made
    finally:
        runtime.close()


def may_trace() -> bool:
    """Whether strace is here and may look at a process."""
    if shutil.which("strace") is None:
        return False
    asked = ["strace", "-f", "-qq", "-o", os.devnull, "true"]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


def run(traced: bool, every: int) -> common.Outcome:
    """The attack in a process of its own, traced or with the audit hook alone."""
    with common.scratch() as folder:
        how, made = common.apart(lambda: prepare(folder, every))
        assert how == "returned", made
        (folder / "tmp").mkdir()
        trace = folder / "trace"
        strace = ["strace", "-f", "-qq", "-s", "4096", "-e", "trace=%file", "-o", str(trace)]
        done = subprocess.run(
            [*(strace if traced else []), sys.executable, "-m", "benchmarks.trust.paths",
             "--attack", str(folder), str(every)],
            cwd=ROOT, capture_output=True, text=True, check=False,
            env={**os.environ, "TMPDIR": str(folder / "tmp")},
        )  # fmt: skip
        if done.returncode:
            return common.Outcome(26, "paths", "the attack ended", False, [done.stderr[-2000:]])
        told = json.loads(done.stdout.splitlines()[-1])
        wrong, calls = list(told["seen"]), 0
        if traced:
            with trace.open(errors="replace") as lines:
                for line in lines:
                    calls += 1
                    wrong += _wrong(line, folder)
        tries = sum(told["tries"].values())
        looked = f"strace saw {calls:,} calls with paths" if traced else "seen by audit hook alone"
        figure = f"{tries} tries of {len(told['tries'])} kinds, {looked}: {len(wrong)} led outside"
        missing = {"restore", "import", "archive", "name"} - set(told["tries"])
        return common.Outcome(26, "paths", figure, not wrong and not missing, wrong[:40])


def _wrong(line: str, folder: Path) -> list[str]:
    if MARK in line and "execve(" not in line:
        return [line.strip()[:300]]
    found = _OPENED.search(line)
    if found is None or not re.search(r"O_(WRONLY|RDWR|CREAT|TRUNC)", found[2]):
        return []
    path = found[1]
    inside = path.startswith((str(folder), *_OWN_WRITES)) or not path.startswith("/")
    return [] if inside or "= -1" in line else [line.strip()[:300]]


def main() -> int:
    if sys.argv[1:2] == ["--attack"]:
        told = attack(Path(sys.argv[2]), int(sys.argv[3]))
        print(json.dumps(told))
        return 0
    chosen = common.options(__doc__ or "", traced=1, every=1)
    return common.finish(
        run(bool(chosen.traced) and may_trace(), chosen.every), as_json=chosen.json
    )


if __name__ == "__main__":
    raise SystemExit(main())
