"""Keys and sessions: only the right token opens, and only as long as it should."""

from __future__ import annotations

import string
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.conftest import Clock

from longleaf.core.access import LOCAL, Caller, Person, Role
from longleaf.core.catalog import Catalog
from longleaf.core.catalog.audit import KEEPER, Audit, AuditWrite
from longleaf.core.catalog.keys import MAX_SESSIONS, Keys, KeyWrite
from longleaf.core.catalog.schema import api_keys, sessions
from longleaf.core.errors import InvalidRequest, NotFound
from longleaf.core.types import Scope

ANNE = KeyWrite("Anne", Role.READ, ("law", "leases"), ("partners",))


@pytest.fixture
def keys(catalog: Catalog, clock: Clock) -> Keys:
    return Keys(catalog.database, clock)


def secret(token: str) -> str:
    """What only its holder knows: all behind the second underscore (it may hold more of them)."""
    return token.split("_", 2)[2]


def test_a_key_brings_its_role_and_scope(keys: Keys) -> None:
    key, token = keys.create(replace(ANNE, requests_per_minute=30, max_body_bytes=1000))
    assert token.startswith(f"ll_{key.id}_")
    scope = Scope(frozenset({"law", "leases"}), frozenset({"partners"}))
    assert keys.caller(token) == Caller("Anne", Role.READ, scope, key.id, 30, 1000)
    assert keys.all() == [key]


def test_all_and_nothing_are_told_apart(keys: Keys) -> None:
    _, everything = keys.create(KeyWrite("all", Role.READ))
    _, nothing = keys.create(KeyWrite("nothing", Role.READ, (), ()))
    seen = [keys.caller(token) for token in (everything, nothing)]
    assert [each and each.scope for each in seen] == [
        Scope.all(),
        Scope(frozenset(), frozenset()),
    ]


def test_no_row_holds_a_token(keys: Keys, catalog: Catalog) -> None:
    key, token = keys.create(ANNE)
    caller = keys.caller(token)
    assert caller is not None
    session = keys.open_session(caller, 60.0)
    with catalog.database.reading() as connection:
        rows = [*connection.execute(api_keys.select()), *connection.execute(sessions.select())]
    stored = repr([tuple(row) for row in rows])
    for each in (token, session):
        assert secret(each) not in stored
    assert key.id in stored


def test_two_keys_of_one_name_are_two(keys: Keys) -> None:
    (one, first), (two, second) = keys.create(ANNE), keys.create(ANNE)
    assert one.id != two.id and first != second
    keys.revoke(one.id)
    assert keys.caller(first) is None
    assert keys.caller(second) is not None


def test_what_is_not_the_token_opens_nothing(keys: Keys) -> None:
    key, token = keys.create(ANNE)
    _, other = keys.create(ANNE)
    mine = secret(token)
    wrong = [
        "", token[:-1], token + "A", token.upper(), f" {token}", f"{token}\n", key.id, mine,
        f"lls_{key.id}_{mine}", f"ll_{key.id}_{secret(other)}",
        f"ll_aaaaaaaa_{mine}", f"ll_{key.id}_{'A' * 43}", token + "\x00", "ll_é_" + mine,
    ]  # fmt: skip
    assert [each for each in wrong if keys.caller(each) is not None] == []


@given(
    st.text(max_size=80) | st.from_regex(r"ll(s)?_[a-z2-7]{8}_[A-Za-z0-9_-]{43}", fullmatch=True)
)
def test_no_word_opens_an_empty_catalog(
    tmp_path_factory: pytest.TempPathFactory, word: str
) -> None:
    folder = tmp_path_factory.getbasetemp() / "no-keys"
    catalog = Catalog(folder)
    try:
        assert catalog.keys.caller(word) is None
    finally:
        catalog.close()


def test_expired_and_revoked_open_nothing_and_keys_still_exist(keys: Keys, clock: Clock) -> None:
    assert not keys.exist()
    key, token = keys.create(replace(ANNE, expires_at=clock.now + 10))
    clock.now += 9.5
    assert keys.caller(token) is not None
    clock.now += 0.5
    assert keys.caller(token) is None
    revoked = keys.revoke(key.id)
    assert revoked.revoked_at == clock.now
    clock.now += 5
    assert keys.revoke(key.id) == revoked  # the second time changes nothing
    assert keys.exist()


def test_a_session_ends_by_itself_by_hand_and_with_its_key(keys: Keys, clock: Clock) -> None:
    key, token = keys.create(ANNE)
    caller = keys.caller(token)
    assert caller is not None
    first, second, third = (keys.open_session(caller, 60.0) for _ in range(3))
    assert keys.caller(first) == caller
    keys.close_session(first)
    assert keys.caller(first) is None
    assert keys.caller(second) == caller
    clock.now += 60
    assert keys.caller(second) is None
    fourth = keys.open_session(caller, 60.0)
    keys.revoke(key.id)
    assert keys.caller(third) is None
    assert keys.caller(fourth) is None


def test_a_session_without_a_key_is_as_it_was_opened(keys: Keys) -> None:
    caller = Caller("anne@example.org", Role.READ, Scope(frozenset({"law"}), frozenset()))
    assert keys.caller(keys.open_session(caller, 60.0)) == caller


def test_a_person_stays_who_they_are(keys: Keys, clock: Clock) -> None:
    person = Person("https://id.example", "anne-1", "Anne", ("clerks", "judges"), "a@works.example")
    caller = Caller("Anne (anne-1)", Role.READ, Scope(frozenset({"law"}), None), person=person)
    token = keys.open_session(caller, 60.0)
    assert keys.caller(token) == caller
    [session] = keys.sessions()
    assert (session.person, session.key_id, session.collections) == (person, None, ("law",))
    assert keys.end_session(session.id) == session
    assert keys.caller(token) is None
    for over in (session.id, "", "nul\x00", "half \ud800"):
        with pytest.raises(NotFound):
            keys.end_session(over)
    keys.open_session(caller, 60.0)
    clock.now += 60
    assert keys.sessions() == []


def test_a_sign_in_opens_one_session(keys: Keys, clock: Clock) -> None:
    caller = Caller("anne", Role.READ, Scope.all())
    keys.open_session(caller, 60.0, ("state", clock.now + 600))
    for _ in range(2):
        with pytest.raises(InvalidRequest):
            keys.open_session(caller, 60.0, ("state", clock.now + 600))
    keys.open_session(caller, 60.0, ("another", clock.now + 600))
    assert len(keys.sessions()) == 2


def test_the_session_of_one_ends_no_other(keys: Keys) -> None:
    caller = Caller("anne", Role.READ, Scope.all())
    mine, yours = keys.open_session(caller, 60.0), keys.open_session(caller, 60.0)
    forged = f"{yours[:12]}_{secret(mine)}"
    keys.close_session(forged)
    keys.close_session("nonsense")
    assert keys.caller(yours) == caller


def test_use_is_kept_to_ten_minutes(keys: Keys, clock: Clock) -> None:
    key, _ = keys.create(ANNE)
    keys.note_use(key.id)
    first = clock.now
    clock.now += 599
    keys.note_use(key.id)
    assert [each.last_used_at for each in keys.all()] == [first]
    clock.now += 2
    keys.note_use(key.id)
    assert [each.last_used_at for each in keys.all()] == [clock.now]


@pytest.mark.parametrize(
    "wanted",
    [
        KeyWrite("", Role.READ),
        KeyWrite("x" * 101, Role.READ),
        KeyWrite("new\nline", Role.READ),
        KeyWrite("nul\x00", Role.READ),
        KeyWrite("half \ud800", Role.READ),
        KeyWrite("a", Role.READ, (" ",)),
        KeyWrite("a", Role.READ, None, tuple(map(str, range(1_001)))),
        KeyWrite("a", Role.READ, expires_at=1.0),
        KeyWrite("a", Role.READ, expires_at=float("nan")),
        KeyWrite("a", Role.WRITE, groups=("clerks",)),
        KeyWrite("a", Role.ADMIN, groups=()),
        KeyWrite("a", Role.READ, requests_per_minute=0),
        KeyWrite("a", Role.READ, max_body_bytes=1 << 31),
    ],
)
def test_a_key_that_makes_no_sense_is_refused(keys: Keys, wanted: KeyWrite) -> None:
    with pytest.raises(InvalidRequest):
        keys.create(wanted)
    assert not keys.exist()


@pytest.mark.parametrize("key_id", ["", "aaaaaaaa", "nul\x00", "half \ud800"])
def test_a_key_that_is_not_there_cannot_be_revoked(keys: Keys, key_id: str) -> None:
    with pytest.raises(NotFound):
        keys.revoke(key_id)


def test_each_role_may_do_what_those_before_it_may() -> None:
    assert [[a.includes(b) for b in Role] for a in Role] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


def test_the_audit_log_keeps_acts_and_forgets_old_ones(catalog: Catalog, clock: Clock) -> None:
    log = Audit(catalog.database, clock)
    act = "DELETE /v1/documents/{document_id}"
    for number in range(5):
        log.put(AuditWrite("Anne", "abc", act, f"/v1/documents/{number}", 204, f"r{number}"))
        clock.now += 10
    newest = log.newest(2)
    assert [(each.target, each.at) for each in newest] == [
        ("/v1/documents/4", 1_040.0),
        ("/v1/documents/3", 1_030.0),
    ]
    assert [each.request_id for each in log.newest(9, before=newest[-1].id)] == ["r2", "r1", "r0"]
    assert log.forget(25.0) == 3  # those of 50, 40 and 30 seconds ago
    told, *kept = log.newest(9)
    assert [each.request_id for each in kept] == ["r4", "r3"]
    assert (told.caller, told.act, told.at) == (KEEPER, "audit forget", 1_050.0)
    assert told.target == "3 rows before 1970-01-01T00:17:05Z"
    assert log.forget(25.0) == 0  # and nothing is written where nothing goes
    assert len(log.newest(9)) == 3


def test_the_audit_log_takes_any_text(catalog: Catalog) -> None:
    catalog.audit.put(AuditWrite("\x00" + string.printable, None, "a", "\ud800" + "x" * 9_000, 0))
    [kept] = catalog.audit.newest(9)
    assert "\x00" not in kept.caller
    assert len(kept.target) == 500
    assert LOCAL.scope == Scope.all()


def test_of_too_many_sessions_the_oldest_end(keys: Keys, clock: Clock) -> None:
    callers = []
    for name in ("Anne", "Bob"):
        _, token = keys.create(replace(ANNE, name=name))
        callers.append(keys.caller(token))
    for subject in ("1", "2"):
        person = Person("https://id.example", subject, "Carol")
        callers.append(Caller(f"Carol ({subject})", Role.READ, Scope.all(), person=person))
    opened = []
    for _ in range(MAX_SESSIONS + 3):
        clock.now += 1
        opened.append([keys.open_session(each, 9_999.0) for each in callers if each is not None])
    for ended in opened[:3]:
        assert [keys.caller(each) for each in ended] == [None] * 4
    for still in opened[3:]:
        assert [getattr(keys.caller(each), "name", None) for each in still] == [
            "Anne", "Bob", "Carol (1)", "Carol (2)",
        ]  # fmt: skip
