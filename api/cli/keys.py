"""`longleaf keys`: who may come in over the network; `longleaf audit`: what they changed."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from longleaf.api.cli.opening import opened_catalog
from longleaf.api.cli.output import console, print_json, quiet_logs
from longleaf.core.access import Role

if TYPE_CHECKING:
    from longleaf.core.catalog import Catalog
    from longleaf.core.catalog.keys import Key

keys = typer.Typer(
    name="keys",
    help="Make, list and revoke API keys, and end sessions. From the first key on, every request "
    "needs one.",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    app.add_typer(keys)
    app.command("audit")(audit)


_Home = Annotated[Path | None, typer.Option(help="The data folder.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_DAY_SECONDS = 86_400.0
_MINUTE = "%Y-%m-%d %H:%M"


@keys.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Whose it is, or what for: stands in the audit log.")],
    role: Annotated[
        Role,
        typer.Option(
            help="read: search and read. write: also upload and delete documents. "
            "admin: also make and delete collections."
        ),
    ] = Role.READ,
    collection: Annotated[
        list[str] | None, typer.Option(help="Only these collections; repeat it for more.")
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(help="Only documents of these access groups, or of none; repeat it for more."),
    ] = None,
    no_groups: Annotated[
        bool, typer.Option("--no-groups", help="Only documents without access groups.")
    ] = False,
    days: Annotated[
        float | None, typer.Option(help="It expires after so many days.", min=0.001)
    ] = None,
    per_minute: Annotated[
        int | None, typer.Option("--requests-per-minute", help="No more than so many.", min=1)
    ] = None,
    max_body_bytes: Annotated[
        int | None, typer.Option(help="No request larger than this.", min=1)
    ] = None,
    home: _Home = None,
    as_json: _Json = False,
) -> None:
    """Make a key and show it, this once: only a hash of it is kept."""
    quiet_logs()
    from longleaf.core.catalog.keys import KeyWrite
    from longleaf.core.errors import InvalidRequest
    from longleaf.core.types import Scope

    if no_groups and group:
        raise InvalidRequest("--no-groups and --group contradict each other.", "Give one of them.")
    wanted = KeyWrite(
        name,
        role,
        tuple(collection) if collection else None,
        () if no_groups else (tuple(group) if group else None),
        None if days is None else time.time() + days * _DAY_SECONDS,
        per_minute,
        max_body_bytes,
    )
    with opened_catalog(home) as catalog:
        catalog.collection_languages(Scope.all(), wanted.collections)  # each must be there
        key, token = catalog.keys.create(wanted)
        _note(catalog, "keys create", key.id)
    if as_json:
        print_json(asdict(key) | {"key": token})
        return
    out = console()
    out.print(f"Key {key.id} for {name}, {_said(key)}. It is shown this once:", markup=False)
    out.print(token, markup=False, soft_wrap=True, highlight=False)


@keys.command("list")
def list_keys(home: _Home = None, as_json: _Json = False) -> None:
    """List keys, those that open nothing any more as well."""
    quiet_logs()
    with opened_catalog(home) as catalog:
        found = catalog.keys.all()
    if as_json:
        print_json({"keys": [asdict(key) for key in found]})
        return
    out = console()
    if not found:
        out.print("There are no keys: whoever sits at this machine may do everything.")
    for key in found:
        out.print(f"{key.id}  {key.name}: {_said(key)}", markup=False, highlight=False)


@keys.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(help="The key's id, as `longleaf keys list` shows it.")],
    home: _Home = None,
    as_json: _Json = False,
) -> None:
    """End a key and the sessions that were opened with it, from the next request on."""
    quiet_logs()
    with opened_catalog(home) as catalog:
        key = catalog.keys.revoke(key_id)
        _note(catalog, "keys revoke", key.id)
    if as_json:
        print_json(asdict(key))
    else:
        console().print(f"Key {key.id} of {key.name} opens nothing any more.", markup=False)


@keys.command("sessions")
def list_sessions(home: _Home = None, as_json: _Json = False) -> None:
    """List who is signed in at the page, by a key or through an identity provider."""
    quiet_logs()
    with opened_catalog(home) as catalog:
        found = catalog.keys.sessions()
    if as_json:
        print_json({"sessions": [asdict(session) for session in found]})
        return
    out = console()
    if not found:
        out.print("Nobody is signed in at the page.")
    for session in found:
        way = f"key {session.key_id}" if session.key_id else "identity provider"
        begun, over = (_date(at, _MINUTE) for at in (session.created_at, session.expires_at))
        line = f"{session.id}  {session.name}: {session.role}; {way}; since {begun}, until {over}"
        out.print(line, markup=False, highlight=False, soft_wrap=True)


@keys.command("end-session")
def end_session(
    session_id: Annotated[str, typer.Argument(help="Its id: `longleaf keys sessions`.")],
    home: _Home = None,
    as_json: _Json = False,
) -> None:
    """End a session, from the next request on. Who may sign in can do so again."""
    quiet_logs()
    with opened_catalog(home) as catalog:
        session = catalog.keys.end_session(session_id)
        _note(catalog, "keys end-session", f"{session.id} of {session.name}")
    if as_json:
        print_json(asdict(session))
    else:
        console().print(f"The session of {session.name} has ended.", markup=False)


def audit(
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
    home: _Home = None,
    as_json: _Json = False,
) -> None:
    """Show who changed what, newest first: writes over the network, and what was done to keys."""
    quiet_logs()
    from longleaf.core.config import load_settings

    keep_days = load_settings({"home": home}).settings.audit.keep_days
    with opened_catalog(home) as catalog:
        found = catalog.audit.newest(limit)
    if as_json:
        print_json({"keep_days": keep_days, "acts": [asdict(each) for each in found]})
        return
    out = console()
    kept = f"for {keep_days:g} days (audit.keep_days)" if keep_days else "for ever"
    out.print(f"Rows are kept {kept}.")
    if not found:
        out.print("Nothing was changed over the network yet, and no key was made.")
    for each in found:
        when = _date(each.at, "%Y-%m-%d %H:%M:%S")
        who = each.caller if each.key_id is None else f"{each.caller} ({each.key_id})"
        line = f"{when}  {each.status or '-'}  {who}: {each.act} {each.target}"
        out.print(line, markup=False, highlight=False, soft_wrap=True)


def _note(catalog: Catalog, act: str, target: str) -> None:
    from longleaf.core.access import LOCAL
    from longleaf.core.catalog.audit import AuditWrite

    catalog.audit.put(AuditWrite(LOCAL.name, None, act, target, 0))


def _said(key: Key) -> str:
    """What a key opens, in words."""
    parts = [str(key.role)]
    if key.collections is not None:
        parts.append(f"collections {', '.join(key.collections)}")
    if key.groups is not None:
        parts.append(f"groups {', '.join(key.groups)}" if key.groups else "no groups")
    if key.revoked_at is not None:
        parts.append(f"revoked on {_date(key.revoked_at)}")
    elif key.expires_at is not None:
        verb = "expires" if key.is_good(time.time()) else "expired"
        parts.append(f"{verb} on {_date(key.expires_at)}")
    used = key.last_used_at
    parts.append("never used" if used is None else f"last used on {_date(used)}")
    return "; ".join(parts)


def _date(at: float, form: str = "%Y-%m-%d") -> str:
    """UTC, as everything that is kept."""
    return time.strftime(form, time.gmtime(at))
