"""What `make trust` makes of a goal's command: OK, red, or not measured here."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.trust.run import Goal, _tests, measure


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("def test_it():\n    pass\n", "OK"),
        ("def test_it():\n    assert False\n", "RED"),
        ("import nowhere_at_all\n", "RED"),
        ("import pytest\n\ndef test_it():\n    pytest.skip('not here')\n", "NOT MEASURED HERE"),
        ("", "NOT MEASURED HERE"),
    ],
)
def test_goals_that_tests_reach(tmp_path: Path, text: str, mark: str) -> None:
    file = tmp_path / "test_something.py"
    file.write_text(text)
    assert measure(Goal(0, "some", _tests(str(file)), (), ()), short=True)[0] == mark


@pytest.mark.parametrize(
    ("text", "mark"),
    [("print('well')", "OK"), ("raise SystemExit(1)", "RED"),
     ("print('too late'); raise SystemExit(2)", "NOT MEASURED HERE")],
)  # fmt: skip
def test_goals_that_a_script_reaches(tmp_path: Path, text: str, mark: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(text)
    assert measure(Goal(0, "some", (str(script),), (), ()), short=True)[0] == mark
