"""Goal 29: no package with a known advisory, none under a licence that nobody looked at; an SBOM.

Looks at what is installed beside the Python that runs this, and needs no network: licences are what
the packages say of themselves (pip-licenses), the SBOM is made from the environment (cyclonedx-py),
and advisories come from a copy of OSV's files that you name (pip-audit asks it through
`advisories`). Without such a copy the goal is NOT MEASURED HERE, and licences are looked at all the
same.

    python -m benchmarks.trust.dependencies --advisories all.zip --sbom longleaf.cdx.json
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.trust import advisories
from benchmarks.trust.common import Outcome, finish
from benchmarks.trust.run import NOT_HERE

ALLOWED = frozenset(
    {
        "0bsd", "2-clause bsd license", "3-clause bsd license", "apache 2.0 license", "apache-2.0",
        "apache-2.0 with llvm-exception", "apache software license", "bsd", "bsd license",
        "bsd-2-clause", "bsd-3-clause", "bsl-1.0", "cc0-1.0", "cnri-python", "isc",
        "isc license (iscl)", "mit", "mit license", "mit-0", "mit-cmu", "psf-2.0",
        "python software foundation license", "zlib",
    }
)  # fmt: skip
"""Ask for no more than to be named, in SPDX's words and in those of PyPI's classifiers."""

_MPL = "MPL-2.0 asks for the source of changed files only, and we change none"
EXCEPTIONS: Mapping[str, tuple[str, str]] = {
    "axe-playwright-python": ("unknown", "MIT by its repository; tests only, never shipped"),
    "certifi": ("mozilla public license 2.0 (mpl 2.0)", _MPL),
    "dirtyjson": ("academic free license (afl)", "AFL or MIT, as its author says: MIT is taken"),
    "fqdn": ("mpl-2.0", f"{_MPL}; tests only"),
    "hypothesis": ("mpl-2.0", f"{_MPL}; tests only"),
    "orjson": ("mpl-2.0", f"{_MPL}; frameworks' packages only"),
    "pathspec": ("mozilla public license 2.0 (mpl 2.0)", f"{_MPL}; tests only"),
    "psycopg": ("lgpl-3.0-only", "the extra postgres; imported unchanged, replaceable by its user"),
    "psycopg-binary": ("lgpl-3.0-only", "as psycopg"),
    "pypdfium2": ("dependency licenses", "of pdfium's own parts (BSD, MIT, Zlib): in its wheel"),
    "tiktoken": ("mit license copyright", "the whole text of MIT stands where its name should"),
    "tqdm": ("mpl-2.0", _MPL),
}
"""Package -> what its licence says beside the allowed, and why that is taken."""


def unknown_licences(packages: Sequence[Mapping[str, str]]) -> list[str]:
    """Packages whose licence is neither allowed nor an exception, with what it says."""
    found = []
    for package in packages:
        name, said = package["Name"], " ".join(package["License"].lower().split())
        known, _ = EXCEPTIONS.get(name.lower().replace("_", "-"), ("", ""))
        if known == "mit license copyright" and said.startswith("mit license copyright"):
            continue
        groups = re.split(r" and |; |, ", said.replace("(apache-2.0 or mit)", "apache-2.0"))
        left = [each for each in groups if not _is_allowed(each) and each != known]
        if left:
            found.append(f"{name} {package['Version']}: {', '.join(left)[:100]}")
    return found


def _is_allowed(licence: str) -> bool:
    return any(each.strip(" ()") in ALLOWED or each in ALLOWED for each in licence.split(" or "))


def installed() -> list[dict[str, str]]:
    """Name, Version and License of every package of this environment."""
    told = _run("piplicenses", "--format=json", "--from=mixed", "--with-system")
    packages: list[dict[str, str]] = json.loads(told.stdout)
    return [each for each in packages if each["Name"].lower() != "longleaf"]


def known_advisories(place: Path, where: Path | None = None) -> tuple[list[str], int]:
    """What of the installed packages (of the folder `where`, if given) has an advisory in `place`,
    and how many it holds."""
    only = () if where is None else (f"--path={where}",)
    held = advisories.read(place)
    with advisories.serving(held) as url, tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        _run(
            "pip_audit", "--vulnerability-service=osv", f"--osv-url={url}", "--skip-editable",
            "--format=json", f"--output={report}", f"--cache-dir={scratch}/cache",
            "--progress-spinner=off", *only, ends=(0, 1),
        )  # fmt: skip
        told: dict[str, Any] = json.loads(report.read_text("utf-8"))
    skipped = [
        f"{each['name']}: not looked at: {each['skip_reason']}"
        for each in told["dependencies"]
        if "skip_reason" in each and each["name"].lower() != "longleaf"
    ]
    found = [
        f"{each['name']} {each['version']}: {one['id']}, fixed in "
        f"{', '.join(one['fix_versions']) or 'no version yet'}"
        for each in told["dependencies"]
        for one in each.get("vulns", ())
    ]
    return [*found, *skipped], len({each["id"] for some in held.values() for each in some})


def write_sbom(file: Path) -> int:
    """Write what is installed as CycloneDX JSON; returns how many components. Its library makes the
    form; checking that against the schema as well takes a minute of one core."""
    _run(
        "cyclonedx_py", "environment", "--output-format=JSON", "--output-reproducible",
        "--no-validate", f"--output-file={file.absolute()}", sys.executable,
    )  # fmt: skip
    return len(json.loads(file.read_text("utf-8"))["components"])


def _run(module: str, *words: str, ends: Sequence[int] = (0,)) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", module, *words],
        capture_output=True, text=True, check=False, env={**os.environ, "NO_PROXY": "127.0.0.1"},
    )  # fmt: skip
    if done.returncode not in ends:
        raise SystemExit(f"{module} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--advisories", type=Path, help="OSV's files of PyPI: folder or zip")
    parser.add_argument("--sbom", type=Path, help="write a CycloneDX SBOM here")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    packages = installed()
    unknown = unknown_licences(packages)
    figure = f"{len(packages)} packages, {len(unknown)} under licences that nobody looked at"
    if chosen.sbom is not None:
        figure += f"; {write_sbom(chosen.sbom)} components in {chosen.sbom}"
    if chosen.advisories is None:
        if unknown:
            return finish(Outcome(29, "dependencies", figure, False, unknown), as_json=chosen.json)
        print(f"{figure}; no copy of OSV's advisories was named (--advisories)")
        return NOT_HERE
    found, held = known_advisories(chosen.advisories)
    figure += f"; {len(found)} findings of {held:,} advisories"
    outcome = Outcome(29, "dependencies", figure, not unknown and not found, [*unknown, *found])
    return finish(outcome, as_json=chosen.json)


if __name__ == "__main__":
    raise SystemExit(main())
