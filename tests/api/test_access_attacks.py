"""What was tried against keys and sessions and once worked; none of it may again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.api.keyed import Site, keyed_site

from longleaf.api.http.access import NEEDS, needed
from longleaf.core.access import Role


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with keyed_site(tmp_path_factory.mktemp("keys")) as made:
        yield made


LOOKS = sorted(
    route.partition(" ")[2]
    for route, role in NEEDS.items()
    if route.startswith("GET ") and role is not Role.READ
)


@pytest.mark.parametrize("behind", ["%0A", "%0a", "%0D", "%00", "%7F", "%0A%0A"])
def test_the_end_of_a_line_behind_a_path_opens_nothing(site: Site, behind: str) -> None:
    """The router took /v1/jobs%0A for /v1/jobs, the table of what it needs did not."""
    reader = site.client("reader")
    opened = {}
    for route in LOOKS:
        for method in ("GET", "HEAD"):
            path = (
                route.replace("{document_id}", site.documents["open"])
                .replace("{job_id}", site.jobs["open"])
                .replace("{name}", "law")
                .replace("{evaluation_id}", "none")
            )
            answer = reader.request(method, path + behind, follow_redirects=False)
            if answer.status_code != 403:
                opened[f"{method} {route}"] = answer.status_code
    assert opened == {}
    assert needed("GET", "/v1/jobs\n")[1] is Role.ADMIN
