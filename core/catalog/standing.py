"""How the work stands: jobs by state, and the files of jobs by how they ended.

For whoever watches a server (`/metrics`), in whole numbers and without any name. It reads the row
of every file that is kept, 40 ms for 100,000 of them: right for a question every 15 seconds, and no
index would pay for itself at every write.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from longleaf.core.catalog.jobs import JobState
from longleaf.core.catalog.schema import job_files, jobs
from longleaf.core.types import Outcome


@dataclass(frozen=True, slots=True)
class Standing:
    """Counts of everything that is kept; every state and outcome is there, if only as 0.

    Files that were unchanged have no row, so `files` does not count them.
    """

    jobs: Mapping[JobState, int]
    files: Mapping[Outcome, int]


def standing(connection: Connection) -> Standing:
    state, outcome = jobs.c.state, job_files.c.outcome
    by_state = select(state, func.count()).group_by(state)
    by_outcome = select(outcome, func.count()).where(outcome.is_not(None)).group_by(outcome)
    states = {row[0]: int(row[1]) for row in connection.execute(by_state)}
    outcomes = {row[0]: int(row[1]) for row in connection.execute(by_outcome)}
    return Standing(
        {each: states.get(each.value, 0) for each in JobState},
        {each: outcomes.get(each.value, 0) for each in Outcome},
    )
