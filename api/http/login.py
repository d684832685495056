"""The page's door: a key opens a session, a cookie that no script can read and no other site sends.

The cookie holds a random token of its own and not the key, ends with the key, and is `Secure`
beyond this machine: without TLS a browser then keeps none. A form of another site is refused by its
Origin (guard.py), and `SameSite=Lax` keeps the cookie from it.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from longleaf.api.http.access import ANONYMOUS, SECURE_COOKIE, cookie_name, credentials
from longleaf.api.http.html import render
from longleaf.api.http.service import Served
from longleaf.core.access import LOCAL

router = APIRouter(include_in_schema=False)

SESSION_SECONDS = 12 * 3600.0
_MAX_KEY_CHARS = 200


@router.get("/login")
async def show_login(
    service: Served, next_path: Annotated[str, Query(alias="next", max_length=8000)] = "/"
) -> Response:
    """Asks for a key; who needs none is sent on."""
    if service.caller is not ANONYMOUS:
        return RedirectResponse(_local(next_path), 303)
    return _page(next_path)


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
        return _page(next_path, "This key opens nothing (any more).", 401)
    gate.admit(caller)  # a session is a row, and nobody has counted this request yet
    answer = RedirectResponse(_local(next_path), 303)
    if caller is not LOCAL:
        token = await service.write(lambda: keys.open_session(caller, SESSION_SECONDS))
        _set_cookie(request, answer, token, int(SESSION_SECONDS))
    return answer


@router.post("/logout")
async def log_out(request: Request, service: Served) -> Response:
    """Ends the session, here and at every other server of this catalog."""
    _, session = credentials(request.headers, request.cookies)
    if session:
        await service.write(lambda: service.runtime.catalog.keys.close_session(session))
    answer = RedirectResponse("/login", 303)
    _set_cookie(request, answer, "", 0)
    return answer


def _page(next_path: str, problem: str = "", status: int = 200) -> Response:
    page = render("login.html", next=_local(next_path), problem=problem)
    return HTMLResponse(page, status, {"Cache-Control": "no-store"})


def _set_cookie(request: Request, answer: Response, token: str, seconds: int) -> None:
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


def _local(path: str) -> str:
    """A path of this server, never another site's: browsers take `//` and a backslash for one."""
    plain = path.startswith("/") and not path.startswith("//") and "\\" not in path
    return path if plain and path.isprintable() else "/"
