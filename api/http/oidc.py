"""The door beside the key's: a browser goes to the identity provider and comes back with a code.

What is said to a browser of a sign-in that failed is a sentence of ours; the log has the reason. A
session that is opened here is new, whatever the browser brought, and is one of those that keys open
(login.py): same cookie, same end at all servers.
"""

from __future__ import annotations

from typing import Annotated

import structlog
from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from longleaf.api.http.access import credentials
from longleaf.api.http.login import local_path, login_page, note_act, set_session_cookie
from longleaf.api.http.service import Served, Service
from longleaf.api.oidc.handshake import LASTS_SECONDS, Handshake
from longleaf.api.oidc.openid import NotLetIn, OpenId, SignedIn
from longleaf.api.oidc.people import shown_name
from longleaf.api.oidc.provider import CALLBACK
from longleaf.api.oidc.tokens import Refused
from longleaf.core.errors import (
    InvalidRequest,
    NotFound,
    RemoteRefused,
    RemoteUnavailable,
)

_log = structlog.get_logger(__name__)
router = APIRouter(include_in_schema=False)

COOKIE = "longleaf_sign_in"
_AWAY = "The identity provider does not answer as it should. Try again later, or use a key."
_PARTS = frozenset({"state", "code", "iss", "error"})


@router.get("/login/oidc")
async def begin(
    request: Request,
    service: Served,
    next_path: Annotated[str, Query(alias="next", max_length=8000)] = "/",
) -> Response:
    """Sends the browser to the identity provider."""
    openid = _openid(service)
    try:
        url, cookie = await service.at_the_provider(
            request, lambda: openid.begin(local_path(next_path))
        )
    except (RemoteUnavailable, RemoteRefused) as error:
        return _failed(service, error.message, _AWAY, 503, next_path)
    answer = RedirectResponse(url, 303, {"Cache-Control": "no-store"})
    _set_cookie(openid, answer, cookie, int(LASTS_SECONDS))
    return answer


@router.get(CALLBACK)
async def finish(request: Request, service: Served) -> Response:
    """Takes the provider's answer and opens a session."""
    openid = _openid(service)
    parts = [pair for pair in request.query_params.multi_items() if pair[0] in _PARTS]
    given = dict(parts)
    cookie = request.cookies.get(_cookie_name(openid), "")
    try:
        if len(given) != len(parts):
            raise Refused("the answer says something twice")
        begun = await service.at_the_provider(request, lambda: openid.recognise(given, cookie))
    except Refused as refused:
        return _failed(service, refused.why, refused.said, refused.status)
    try:
        signed_in = await service.at_the_provider(request, lambda: openid.finish(given, begun))
        service.gate.admit(signed_in.caller)
        answer = await _opened(request, service, signed_in, begun)
    except NotLetIn as refused:
        name = shown_name(refused.person)
        await note_act(request, service, name, None, "sign in", refused.status)
        answer = _failed(service, refused.why, refused.said, refused.status, begun.next_path)
    except Refused as refused:
        answer = _failed(service, refused.why, refused.said, refused.status, begun.next_path)
    except (RemoteUnavailable, RemoteRefused) as error:
        answer = _failed(service, error.message, _AWAY, 503, begun.next_path)
    except InvalidRequest as error:
        answer = _failed(service, error.message, str(error), 401, begun.next_path)
    _set_cookie(openid, answer, "", 0)
    return answer


async def _opened(
    request: Request, service: Service, signed_in: SignedIn, begun: Handshake
) -> Response:
    keys = service.runtime.catalog.keys
    _, before = credentials(request.headers, request.cookies)

    def open_session() -> str:
        if before:
            keys.close_session(before)
        sign_in = (begun.state, begun.until)
        return keys.open_session(signed_in.caller, signed_in.seconds, sign_in)

    token = await service.write(open_session)
    await note_act(request, service, signed_in.caller.name, None, "sign in", 303)
    answer = RedirectResponse(local_path(begun.next_path), 303, {"Cache-Control": "no-store"})
    set_session_cookie(request, answer, token, int(signed_in.seconds))
    return answer


def _failed(service: Service, why: str, said: str, status: int, next_path: str = "/") -> Response:
    _log.warning("oidc.not_signed_in", why=why)
    return login_page(service, next_path, said, status)


def _openid(service: Service) -> OpenId:
    if service.openid is None:
        raise NotFound("No identity provider is set up here.", "Log in with a key: /login.")
    return service.openid


def _cookie_name(openid: OpenId) -> str:
    """Where TLS is spoken, one that no other host of the domain can have set."""
    return f"__Host-{COOKIE}" if _is_tls(openid) else COOKIE


def _is_tls(openid: OpenId) -> bool:
    return openid.settings.public_url.startswith("https://")


def _set_cookie(openid: OpenId, answer: Response, value: str, seconds: int) -> None:
    """`Lax`: the provider's answer comes from another site, as a page that the browser goes to."""
    answer.set_cookie(
        _cookie_name(openid),
        value,
        max_age=seconds,
        path="/",
        secure=_is_tls(openid),
        httponly=True,
        samesite="lax",
    )
