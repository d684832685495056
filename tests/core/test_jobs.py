"""Jobs: leases, tries, cancelling, and a worker that comes back late and may write nothing."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.core.conftest import Clock

from longleaf.core.catalog.database import Database
from longleaf.core.catalog.job_traces import forget_key
from longleaf.core.catalog.jobs import (
    LEASE_SECONDS,
    MAX_TRIES,
    Job,
    JobFile,
    Jobs,
    JobState,
    LeaseLost,
    Progress,
    active_originals,
    end_files,
)
from longleaf.core.errors import Conflict, NotFound
from longleaf.core.store_settings import CatalogSettings
from longleaf.core.types import Outcome, Scope

ALL = Scope.all()


@pytest.fixture
def database(tmp_path: Path, catalog_settings: CatalogSettings) -> Iterator[Database]:
    opened = Database.open(tmp_path, catalog_settings.url)
    yield opened
    opened.close()


@pytest.fixture
def jobs(database: Database, clock: Clock) -> Jobs:
    return Jobs(database, clock)


def taken(jobs: Jobs, owner: str) -> Job:
    job = jobs.claim(owner)
    assert job is not None
    return job


def test_the_oldest_is_worked_on_first_and_by_one_worker(jobs: Jobs) -> None:
    first = jobs.create("folder", "law", {"paths": ["/a"]})
    second = jobs.create("folder", "law", {"paths": ["/b"]})
    assert taken(jobs, "one").public_id == first.public_id
    assert taken(jobs, "two").public_id == second.public_id
    assert jobs.claim("three") is None
    with pytest.raises(LeaseLost):
        jobs.heartbeat(first, "two", Progress())


def test_many_workers_asking_at_once_get_one_job_each(jobs: Jobs) -> None:
    made = {jobs.create("folder", "law", {}).public_id for _ in range(8)}
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: jobs.claim(f"worker {n}"), range(16)))
    assert sorted(job.public_id for job in found if job) == sorted(made)


def test_a_lease_that_is_renewed_is_kept_and_one_that_is_not_is_lost(
    jobs: Jobs, clock: Clock
) -> None:
    jobs.create("folder", "law", {})
    job = taken(jobs, "one")
    clock.now += LEASE_SECONDS - 1
    assert jobs.heartbeat(job, "one", Progress()) is False
    clock.now += LEASE_SECONDS - 1
    assert jobs.claim("two") is None
    clock.now += 2
    assert taken(jobs, "two").public_id == job.public_id
    for late in (
        lambda: jobs.heartbeat(job, "one", Progress()),
        lambda: jobs.end(job, "one", JobState.DONE, {}),
    ):
        with pytest.raises(LeaseLost):
            late()


def test_a_late_workers_transaction_writes_nothing(
    jobs: Jobs, database: Database, clock: Clock
) -> None:
    jobs.create("folder", "law", {})
    job = taken(jobs, "one")
    clock.now += LEASE_SECONDS + 1
    taken(jobs, "two")
    ended = JobFile("/a", "ended", outcome=Outcome.INDEXED)
    with pytest.raises(LeaseLost), database.writing() as connection:
        end_files(connection, job, "one", [ended])
    assert jobs.files(job) == []
    with database.writing() as connection:
        end_files(connection, job, "two", [ended])
    assert [file.outcome for file in jobs.files(job)] == [Outcome.INDEXED]


def test_a_file_that_kills_its_workers_is_to_blame_and_the_job_goes_on(
    jobs: Jobs, clock: Clock
) -> None:
    jobs.create("folder", "law", {})
    for death in range(1, MAX_TRIES + 1):
        job = taken(jobs, f"worker {death}")
        assert job.tries == 0
        jobs.heartbeat(job, f"worker {death}", Progress(under_way=[("/bad.pdf", "parse", 1, 9)]))
        clock.now += LEASE_SECONDS + 1
    job = taken(jobs, "last but one")
    assert (job.tries, jobs.tries(job)) == (0, {"/bad.pdf": MAX_TRIES})
    # Who dies now has not read it: that is the job's.
    clock.now += LEASE_SECONDS + 1
    job = taken(jobs, "last")
    assert (job.tries, jobs.tries(job)) == (1, {"/bad.pdf": MAX_TRIES})


def test_a_job_that_kills_its_workers_with_no_file_under_way_fails(
    jobs: Jobs, clock: Clock
) -> None:
    made = jobs.create("folder", "law", {})
    for number in range(MAX_TRIES):
        taken(jobs, f"worker {number}")
        clock.now += LEASE_SECONDS + 1
    assert jobs.claim("last") is None
    job = jobs.get(made.public_id, ALL)
    assert job.state is JobState.FAILED
    assert f"died {MAX_TRIES} times" in job.error


def test_getting_on_forgives_earlier_deaths(jobs: Jobs, clock: Clock) -> None:
    jobs.create("folder", "law", {})
    for number in range(3 * MAX_TRIES):
        job = taken(jobs, f"worker {number}")
        jobs.heartbeat(job, f"worker {number}", Progress(counts={"indexed": number + 1}))
        clock.now += LEASE_SECONDS + 1


def test_waiting_in_line_is_never_taken_for_a_stalled_job(jobs: Jobs, clock: Clock) -> None:
    made = jobs.create("folder", "law", {})
    clock.now += 1_000_000
    assert jobs.get(made.public_id, ALL).state is JobState.QUEUED
    assert taken(jobs, "one").tries == 0


def test_a_heartbeat_that_comes_late_does_not_undo_an_ending(
    jobs: Jobs, database: Database
) -> None:
    jobs.create("folder", "law", {})
    job = taken(jobs, "one")
    jobs.heartbeat(job, "one", Progress(under_way=[("/a", "parse", 1, 9)]))
    with database.writing() as connection:
        end_files(connection, job, "one", [JobFile("/a", "ended", outcome=Outcome.INDEXED)])
    jobs.heartbeat(job, "one", Progress(under_way=[("/a", "embed", 2, 9), ("/b", "ocr", 3, 4)]))
    assert [(file.key, file.phase, file.outcome) for file in jobs.files(job)] == [
        ("/a", "ended", Outcome.INDEXED),
        ("/b", "ocr", None),
    ]


def test_cancelling(jobs: Jobs, clock: Clock) -> None:
    waiting = jobs.create("folder", "law", {})
    assert jobs.cancel(waiting.public_id, ALL).state is JobState.CANCELLED
    with pytest.raises(Conflict):
        jobs.cancel(waiting.public_id, ALL)
    assert jobs.claim("one") is None

    jobs.create("folder", "law", {})
    running = taken(jobs, "one")
    assert jobs.cancel(running.public_id, ALL).state is JobState.RUNNING
    assert jobs.heartbeat(running, "one", Progress(under_way=[("/a", "parse", 0, 0)])) is True
    jobs.end(running, "one", JobState.CANCELLED, {"indexed": 2})
    job = jobs.get(running.public_id, ALL)
    assert (job.state, job.counts, job.lease_owner) == (JobState.CANCELLED, {"indexed": 2}, None)
    assert jobs.files(job) == [], "what was under way is not among the ended files"

    jobs.create("folder", "law", {})
    dead = taken(jobs, "one")
    clock.now += LEASE_SECONDS + 1
    assert jobs.cancel(dead.public_id, ALL).state is JobState.CANCELLED


def test_a_cancelled_job_whose_worker_died_is_not_taken_up_again(jobs: Jobs, clock: Clock) -> None:
    made = jobs.create("folder", "law", {})
    taken(jobs, "one")
    jobs.cancel(made.public_id, ALL)
    clock.now += LEASE_SECONDS + 1
    assert jobs.claim("two") is None
    assert jobs.get(made.public_id, ALL).state is JobState.CANCELLED


def test_an_ended_job_can_be_tried_again_from_the_start(jobs: Jobs, database: Database) -> None:
    made = jobs.create("folder", "law", {"paths": ["/a"]}, owner="one")
    assert made.state is JobState.RUNNING
    with pytest.raises(Conflict):
        jobs.retry(made.public_id, ALL)
    with database.writing() as connection:
        end_files(connection, made, "one", [JobFile("/a", "ended", outcome=Outcome.REJECTED)])
    jobs.end(made, "one", JobState.FAILED, {"rejected": 1}, "why")
    assert jobs.get(made.public_id, ALL).error == "why"
    jobs.retry(made.public_id, ALL)
    again = taken(jobs, "two")
    assert (again.public_id, again.spec, again.counts) == (made.public_id, {"paths": ["/a"]}, {})
    assert jobs.files(again) == []


def test_jobs_of_other_collections_are_not_there(jobs: Jobs) -> None:
    made = jobs.create("folder", "law", {})
    jobs.create("folder", "science", {})
    science = Scope(frozenset({"science"}))
    assert [job.collection for job in jobs.newest(science)] == ["science"]
    assert len(jobs.newest(ALL)) == 2
    for look in (jobs.get, jobs.cancel, jobs.retry):
        with pytest.raises(NotFound):
            look(made.public_id, science)


def test_lists_come_in_pages_and_by_state_and_outcome(jobs: Jobs, database: Database) -> None:
    made = [jobs.create("folder", "law", {}).id for _ in range(5)]
    first = jobs.newest(ALL, limit=2)
    assert [job.id for job in first] == made[:-3:-1]
    assert [job.id for job in jobs.newest(ALL, before=first[-1].id)] == made[2::-1]
    job = taken(jobs, "one")
    assert [each.id for each in jobs.newest(ALL, states=[JobState.RUNNING])] == [job.id]
    assert jobs.open_count() == 5
    with database.writing() as connection:
        ends = [
            JobFile(f"/{n}", "ended", outcome=Outcome.REJECTED if n % 2 else Outcome.INDEXED)
            for n in range(6)
        ]
        end_files(connection, job, "one", ends)
    assert [file.key for file in jobs.files(job, after="/1", limit=2)] == ["/2", "/3"]
    rejected = jobs.files(job, outcomes=[Outcome.REJECTED])
    assert [file.key for file in rejected] == ["/1", "/3", "/5"]
    with database.writing() as connection:
        forget_key(connection, "science", ["/3"])
        forget_key(connection, "law", ["/1"])
    assert [file.key for file in jobs.files(job, outcomes=[Outcome.REJECTED])] == ["/3", "/5"]


def test_an_open_upload_keeps_its_original(jobs: Jobs, database: Database) -> None:
    made = jobs.create("upload", "law", {"original": "ab" * 32})
    with database.reading() as connection:
        assert active_originals(connection) == {"ab" * 32}
    jobs.cancel(made.public_id, ALL)
    with database.reading() as connection:
        assert active_originals(connection) == set()


def test_old_finished_jobs_are_forgotten(jobs: Jobs, clock: Clock) -> None:
    old = jobs.create("folder", "law", {}, owner="one")
    jobs.end(old, "one", JobState.DONE, {})
    still_open = jobs.create("folder", "law", {})
    clock.now += 31 * 24 * 3600.0
    jobs.create("folder", "law", {})
    with pytest.raises(NotFound):
        jobs.get(old.public_id, ALL)
    assert jobs.get(still_open.public_id, ALL).state is JobState.QUEUED
