"""Signing in through an OpenID Connect provider: what is asked of it, and what is believed.

`handshake.py` is what a browser keeps of a sign-in under way, `provider.py` asks the provider (with
`kept.py` for what is asked seldom), `tokens.py` says whether a token is its own, `people.py` who it
is about and what they may do, and `openid.py` joins them. The routes are in `api/http/oidc.py`.
Signatures and claims are checked by joserfc and authlib (extra `longleaf[oidc]`), imported when
they are needed.
"""
