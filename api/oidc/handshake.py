"""A sign-in under way, as the browser that began it keeps it: a signed cookie of ten minutes.

The server keeps nothing of it, so strangers who begin sign-ins by the million write no row, and
any replica can end what another began. It binds the answer to the browser (state), the ID token to
the sign-in (nonce) and the code to us (PKCE verifier). Signed, so that its end and where it leads
are ours; not encrypted, because it is its reader's own. That an answer opens one session only is
kept in the catalog, once it is known to be good (`Keys.open_session`).

Format: JSON, signed as `sealing` does it.
"""

from __future__ import annotations

import hmac
import json
import secrets
from dataclasses import asdict, dataclass

from longleaf.api.oidc.tokens import Refused
from longleaf.api.sealing import sealed, unsealed

LASTS_SECONDS = 600.0
MAX_NEXT_CHARS = 2_000
"""A longer path does not fit into a cookie; then a sign-in leads to the first page."""
_MAX_CHARS = 4_000
_PURPOSE = b"longleaf oidc handshake 1\0"
LOST = "This sign-in did not begin in this browser, or took longer than ten minutes. Begin again."


@dataclass(frozen=True, slots=True)
class Handshake:
    """`until`: seconds since the epoch; `next_path`: a path of this server."""

    state: str
    nonce: str
    verifier: str
    next_path: str
    until: float

    @classmethod
    def begin(cls, next_path: str, now: float) -> Handshake:
        """A new one: three times 256 random bits."""
        kept_path = next_path if len(next_path) <= MAX_NEXT_CHARS else "/"
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        return cls(state, nonce, verifier, kept_path, now + LASTS_SECONDS)

    def sealed(self, key: bytes) -> str:
        """The cookie."""
        body = json.dumps(asdict(self), separators=(",", ":")).encode()
        return sealed(body, key, _PURPOSE)


def opened(cookie: str, key: bytes, *, state: str, now: float) -> Handshake:
    """The handshake that an answer with `state` belongs to. Raises Refused."""
    body = unsealed(cookie, key, _PURPOSE) if len(cookie) <= _MAX_CHARS else None
    if body is None:
        raise Refused("the browser brought no handshake of ours", LOST)
    handshake = Handshake(**json.loads(body))
    if not hmac.compare_digest(handshake.state.encode(), state.encode("utf-8", "replace")):
        raise Refused("the answer's state is another than the browser's", LOST)
    if now >= handshake.until:
        raise Refused("the handshake is over", LOST)
    return handshake
