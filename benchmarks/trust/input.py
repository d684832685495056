"""Goal 22: what nobody of good will would send, at an app with content: no 5xx, no stack trace.

Schemathesis with all its checks, over our own OpenAPI document: every case that the description
gives rise to, invented ones, and sequences of calls; without keys first, then with an admin's. Then
each naughty string (tests/api/naughty.py, and the public list where it is at hand) in each field of
every route that takes text, pages, forms and MCP included.

    python -m benchmarks.trust.input --passes 2 --examples 10
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any

import structlog
from benchmarks.trust import common
from benchmarks.trust.schema_cases import HOST, Found, ran

_INVENTED = ("examples", "fuzzing", "stateful")


def cases(site: Any, passes: int, examples: int, every: int, seed: int) -> Found:
    """Schemathesis at an open app, and then at the same with keys. `every`: of how many paths one
    has all cases that its description gives rise to."""
    from longleaf.api.app import create_app

    found = Found()
    for number in range(passes):
        if number == passes // 2:
            from tests.api.keyed import made_keys

            site = replace(site, keys=made_keys(site.runtime.catalog.keys))
        app = create_app(site.runtime, allowed_hosts=[HOST])
        token = site.keys.get("admin", "")
        turn = seed + number
        found.add(
            ran(app, seed=turn, examples=examples, phases=["coverage"], every=every, token=token)
        )
        found.add(ran(app, seed=turn, examples=examples, phases=_INVENTED, token=token))
    return found


def strings(site: Any, most: int) -> tuple[int, int, dict[str, str]]:
    """(requests, fields, what was wrong): up to `most` strings in each field."""
    from tests.api import naughty

    fields = naughty.all_places()
    tries = naughty.tries(fields, naughty.strings(), most)
    return len(tries), len(fields), asyncio.run(naughty.asked(site, tries))


def run(passes: int, examples: int, every: int, most: int, seed: int, least: int) -> common.Outcome:
    """Both parts, each over a data folder of its own. With fewer than `least` cases, none in
    sequence, or less than a third of the operations ever done, nothing was shown."""
    from tests.api.keyed import open_site
    from tests.remote.chat import chatting

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with chatting("The rent is due on the first day. [1]") as chat, common.scratch() as folder:
        flags = {"answer.url": chat.url, "answer.model": "any"}
        with open_site(folder / "cases", **flags) as site:
            found = cases(site, passes, examples, every, seed)
        requests, fields, wrong = 0, 0, {}
        if most:
            with open_site(folder / "strings", **flags) as site:
                requests, fields, wrong = strings(site, most)
    details = [f"{' '.join(key)}: {said}" for key, said in sorted(found.failures.items())]
    details += [f"{place}: {why}" for place, why in sorted(wrong.items())]
    errors = sum(count for status, count in found.statuses.items() if status >= 500)
    figure = (
        f"{found.cases.total():,} cases ({found.cases['stateful']:,} of them in sequences) at "
        f"{len(found.asked)} operations ({len(found.succeeded)} done), {len(found.checks)} checks "
        f"done {found.checks.total():,} times: {len(found.failures)} failures, {errors} answers "
        f"of 5xx; {requests:,} requests with naughty strings in {fields} fields: {len(wrong)} wrong"
    )
    if found.cases.total() < least or not found.cases["stateful"]:
        details.append(f"{least:,} cases were to be tried, and some of them in sequences")
    if 3 * len(found.succeeded) < len(found.asked):
        details.append(f"only {len(found.succeeded)} operations were ever done")
    ok = not details and not errors
    return common.Outcome(22, "hostile input", figure, ok, details)


def main() -> int:
    chosen = common.options(
        __doc__ or "", passes=2, examples=10, every=1, strings=1_000, least=10_000
    )
    made = run(
        chosen.passes, chosen.examples, chosen.every, chosen.strings, chosen.seed, chosen.least
    )
    return common.finish(made, as_json=chosen.json)


if __name__ == "__main__":
    raise SystemExit(main())
