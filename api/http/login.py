"""The page's door: a key opens a session, a cookie that no script can read and no other site sends.
(The door beside it, for an identity provider's people: oidc.py.)

The cookie holds a random token of its own and not the key, ends with the key, and is `Secure`
beyond this machine: without TLS a browser then keeps none. A form of another site is refused by its
Origin (guard.py), and `SameSite=Lax` keeps the cookie from it.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import structlog
from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from longleaf.api.http.access import ANONYMOUS, SECURE_COOKIE, cookie_name, credentials
from longleaf.api.http.html import ASKING, render
from longleaf.api.http.service import Served, Service
from longleaf.core.access import LOCAL
from longleaf.core.catalog.audit import AuditWrite
from longleaf.core.errors import LongleafError

_log = structlog.get_logger(__name__)
router = APIRouter(include_in_schema=False)

SESSION_SECONDS = 12 * 3600.0
_MAX_KEY_CHARS = 200


@router.get("/login")
async def show_login(
    service: Served, next_path: Annotated[str, Query(alias="next", max_length=8000)] = "/"
) -> Response:
    """Asks for a key; who needs none is sent on."""
    if service.caller is not ANONYMOUS:
        return RedirectResponse(local_path(next_path), 303)
    return login_page(service, next_path)


@router.post("/login")
async def log_in(
    request: Request,
    service: Served,
    key: Annotated[str, Form(max_length=_MAX_KEY_CHARS)] = "",
    next_path: Annotated[str, Form(alias="next", max_length=8000)] = "/",
) -> Response:
    """Opens a session with a key."""
    gate, keys = service.gate, service.runtime.catalog.keys
    caller = await service.at_the_door(lambda: gate.caller(key.strip() or "-"))
    if caller is None:
        return login_page(service, next_path, "This key opens nothing (any more).", 401)
    gate.admit(caller)  # a session is a row, and nobody has counted this request yet
    answer = RedirectResponse(local_path(next_path), 303)
    if caller is not LOCAL:
        token = await service.write(lambda: keys.open_session(caller, SESSION_SECONDS))
        await note_act(request, service, caller.name, caller.key_id, "sign in", 303)
        set_session_cookie(request, answer, token, int(SESSION_SECONDS))
    return answer


@router.post("/logout")
async def log_out(request: Request, service: Served) -> Response:
    """Ends the session, here and at every other server of this catalog; whoever came from an
    identity provider is sent on to log out there as well."""
    caller, (_, session) = service.caller, credentials(request.headers, request.cookies)
    if session:
        await service.write(lambda: service.runtime.catalog.keys.close_session(session))
        if caller not in (ANONYMOUS, LOCAL):
            await note_act(request, service, caller.name, caller.key_id, "sign out", 303)
    elsewhere = await _logout_elsewhere(request, service)
    answer: Response = RedirectResponse("/login", 303)
    if elsewhere:
        ASKING.set(ANONYMOUS)
        answer = _uncached(render("logged_out.html", elsewhere=elsewhere))
    set_session_cookie(request, answer, "", 0)
    return answer


async def note_act(
    request: Request, service: Service, name: str, key_id: str | None, act: str, status: int
) -> None:
    """A row of the audit log for a sign-in or its end. Those of nobody who is known get none: no
    limit counts strangers, who could fill the disk with rows."""
    request_id = str(getattr(request.state, "request_id", ""))
    row = AuditWrite(name, key_id, act, request.url.path, status, request_id)
    try:
        await service.write(lambda: service.runtime.catalog.audit.put(row))
    except LongleafError as error:
        _log.error("audit.not_kept", act=act, status=status, reason=error.code)


async def _logout_elsewhere(request: Request, service: Service) -> str:
    """Where the caller can log out at their provider; "" for nowhere."""
    openid = service.openid
    if service.caller.person is None or openid is None:
        return ""
    try:
        return await service.at_the_provider(request, openid.provider.end_session_url)
    except LongleafError as error:  # logging out here does not depend on it
        _log.warning("oidc.logout_not_passed_on", why=error.message)
        return ""


def login_page(service: Service, next_path: str, problem: str = "", status: int = 200) -> Response:
    """The page that asks who it is, with what went wrong the last time."""
    provider = service.openid.settings.name if service.openid else ""
    local = local_path(next_path)
    page = render(
        "login.html",
        next=local,
        problem=problem,
        provider=provider,
        sign_in=f"/login/oidc?next={quote(local, safe='')}",
    )
    return _uncached(page, status)


def _uncached(page: str, status: int = 200) -> Response:
    return HTMLResponse(page, status, {"Cache-Control": "no-store"})


def set_session_cookie(request: Request, answer: Response, token: str, seconds: int) -> None:
    """Give the browser a session to keep for so many seconds; 0: take it away."""
    name = cookie_name(request.headers)
    answer.set_cookie(
        name,
        token,
        max_age=seconds,
        path="/",
        secure=name == SECURE_COOKIE,
        httponly=True,
        samesite="lax",
    )


def local_path(path: str) -> str:
    """A path of this server, never another site's: browsers take `//` and a backslash for one."""
    plain = path.startswith("/") and not path.startswith("//") and "\\" not in path
    return path if plain and path.isprintable() else "/"
