"""Tokens that the server gives away and must know again: signed, and not encrypted.

Format: base64url without padding of HMAC-SHA256 (RFC 2104) over purpose and body, and the body. The
signature is checked before anybody reads the body.
"""

from __future__ import annotations

import base64
import binascii
import hmac

_DIGEST_BYTES = 32


def sealed(body: bytes, key: bytes, purpose: bytes = b"") -> str:
    """The token. One that was made for a purpose is good for no other."""
    token = base64.urlsafe_b64encode(hmac.digest(key, purpose + body, "sha256") + body)
    return token.rstrip(b"=").decode()


def unsealed(token: str, key: bytes, purpose: bytes = b"") -> bytes | None:
    """The body that `sealed` was given; None for what it did not make with this key and purpose."""
    try:
        signed = base64.b64decode(token + "=" * (-len(token) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    body = signed[_DIGEST_BYTES:]
    signature = hmac.digest(key, purpose + body, "sha256")
    return body if hmac.compare_digest(signed[:_DIGEST_BYTES], signature) else None
