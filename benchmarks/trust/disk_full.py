"""Goal 6: a disk that is full at any stage refuses writes by name, answers searches, and recovers.

A server runs on a file system of its own in memory (a mount namespace that ends with this script;
needs root). A ballast file takes all room but some, from none to enough for the upload and not for
its index; then documents are uploaded and searched for. A write must be refused with 507 (or be
taken: 2xx), every search must be answered with 200; when the ballast is gone, what was taken must
be found and uploads must work again within 30 s, untouched by hand; at the end the doctor's deep
look must find nothing. Then the same with a limit on the size of a file instead of the disk's
(RLIMIT_FSIZE), on `longleaf index`.

    python -m benchmarks.trust.disk_full
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path

from benchmarks.trust import common
from benchmarks.trust.serving import LONGLEAF, Server, environment, served, until

DISK_MIB = 192
ROOMS_KIB = (0, 4, 12, 32, 64, 128, 256, 512, 1024, 2048)
FILE_LIMITS_KIB = (16, 64, 128, 256, 512, 1024)
WAIT_SECONDS = 8.0
BACK_SECONDS = 30.0
_INSIDE = "TRUST_MOUNTED"


def fill(ballast: Path, room_kib: int) -> None:
    """Leave so much room on the file system."""
    with ballast.open("wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 16))
        file.truncate(max(0, file.tell() - room_kib * 1024))


def one_room(server: Server, ballast: Path, room_kib: int, first: int) -> tuple[list[str], str]:
    """Upload until it is full, search meanwhile, free it; what was wrong, and what was answered."""
    wrong: list[str] = []
    said: Counter[str] = Counter()
    taken: list[int] = []
    fill(ballast, room_kib)
    for number in range(first, first + 4):
        answer = server.upload(number, sentences=40, wait=WAIT_SECONDS)
        code = answer.json().get("code", "") if answer.status_code >= 400 else ""
        said[f"{answer.status_code} {code}".strip()] += 1
        if answer.status_code in (200, 201, 202):
            taken.append(number)
        elif answer.status_code != 507:
            wrong.append(f"an upload was answered {answer.status_code}: {answer.text[:200]}")
        found = server.search("who pays the rent?")
        if found.status_code != 200 or not found.json()["hits"]:
            wrong.append(f"a search was answered {found.status_code}: {found.text[:200]}")
    ballast.unlink()
    lost = [n for n in taken if until(partial(server.is_seen, n), BACK_SECONDS) is None]
    wrong += [f"document {n} was taken and is not found {BACK_SECONDS:.0f} s after" for n in lost]
    back = until(lambda: server.upload(first, wait=BACK_SECONDS).status_code < 202, BACK_SECONDS)
    if back is None:
        wrong.append("an upload was still refused 30 s after there was room again")
    words = ", ".join(f"{count} x {what}" for what, count in said.items())
    return [f"{room_kib} KiB left: {each}" for each in wrong], words


def full_disk(folder: Path, rooms: tuple[int, ...]) -> list[str]:
    """Every room on a mount of its own."""
    disk = folder / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(disk)]
    subprocess.run(command, check=True)
    home, ballast = disk / "home", disk / "ballast"
    wrong: list[str] = []
    with served(home, folder / "server.log") as server:
        assert server.upload(0, sentences=40, wait=300.0).status_code == 201
        assert until(lambda: server.is_seen(0), BACK_SECONDS) is not None
        for number, room in enumerate(rooms):
            found, words = one_room(server, ballast, room, 10 * (number + 1))
            common.log(f"{room} KiB left: {words}; {len(found)} wrong")
            wrong += found
    found = common.surely(lambda: common.problems(home))
    wrong += [f"afterwards: {each}" for each in found if not each.startswith("disk: ")]
    subprocess.run(["umount", str(disk)], check=True)
    return wrong


def limited_files(folder: Path, limits: tuple[int, ...]) -> list[str]:
    """`longleaf index` under RLIMIT_FSIZE: EFBIG, which is named as a full disk is."""
    wrong: list[str] = []
    documents = folder / "documents"
    documents.mkdir()
    for number in range(6):
        (documents / f"{number}.txt").write_text(common.text_of(number, 40))
    home = folder / "limited"
    for limit in limits:

        def limit_files(limit: int = limit) -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit * 1024, limit * 1024))

        done = subprocess.run(
            [LONGLEAF, "index", str(documents), "--collection", common.COLLECTION, "--json",
             "--home", str(home)],
            env=environment(), preexec_fn=limit_files, capture_output=True, text=True, check=False,
        )  # fmt: skip
        common.log(f"files of {limit} KiB: exit {done.returncode}, {done.stderr.strip()[-150:]!r}")
        if done.returncode < 0 or "Traceback" in done.stderr:
            wrong.append(f"files of {limit} KiB: {done.returncode} {done.stderr.strip()[-300:]}")
    done = subprocess.run(
        [LONGLEAF, "index", str(documents), "--collection", common.COLLECTION, "--json",
         "--home", str(home)],
        env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        wrong.append(f"without a limit: {done.returncode} {done.stderr.strip()[-300:]}")
    ended = [json.loads(line) for line in done.stdout.splitlines() if '"key"' in line]
    if len(ended) != 6:
        wrong.append(f"without a limit: {len(ended)} files ended of 6")
    return wrong + [f"limited: {each}" for each in common.surely(lambda: common.problems(home))]


def run(rooms: tuple[int, ...], limits: tuple[int, ...]) -> common.Outcome:
    """Both."""
    common.load_models()
    with common.scratch() as folder:
        wrong = full_disk(folder, rooms) + limited_files(folder, limits)
    figure = f"{len(rooms)} fillings of a disk, {len(limits)} file limits; {len(wrong)} wrong"
    return common.Outcome(6, "disk full", figure, not wrong, wrong)


def main() -> int:
    chosen = common.options(__doc__ or "", rooms=len(ROOMS_KIB), limits=len(FILE_LIMITS_KIB))
    if _INSIDE not in os.environ:
        if os.geteuid() != 0:
            print("NOT MEASURED HERE: goal 6, disk full: mounting a small disk needs root")
            return 2
        # A fresh name space of mounts: nothing is left of them, however this ends.
        os.environ[_INSIDE] = "1"
        again = [sys.executable, "-m", "benchmarks.trust.disk_full", *sys.argv[1:]]
        os.execvp("unshare", ["unshare", "-m", "--propagation", "private", *again])
    rooms, limits = ROOMS_KIB[: chosen.rooms], FILE_LIMITS_KIB[: chosen.limits]
    return common.finish(run(rooms, limits), as_json=chosen.json)


if __name__ == "__main__":
    raise SystemExit(main())
