"""Who may use the studio: an ASGI middleware that every request passes.

A request needs the server's token, in the cookie that `GET /?token=...` sets or as `Authorization: Bearer`. Its Host must be
this machine (or a name of `--allowed-hosts`), so that no other page reaches the server by a name of its own (DNS rebinding).
Its Origin, where there is one, must be that same host, so that no other page acts with the cookie. Every answer carries the
headers that confine the page: nothing is loaded from elsewhere, no inline script runs, no other page may frame it.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

OPEN_PATHS = ("/api/health",)
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_SECURITY_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


@dataclass(frozen=True)
class AccessRules:
    """Who is let in: those with the token, under a name of this machine or one of `allowed_hosts`."""

    token: str = field(repr=False)
    host: str
    port: int
    allowed_hosts: tuple[str, ...] = ()


class AccessControl:
    """The middleware."""

    def __init__(self, app: ASGIApp, rules: AccessRules) -> None:
        self.app = app
        self.rules = rules
        self.cookie_name = f"muybridge_studio_{rules.port}"  # cookies do not distinguish ports
        names = ("localhost", socket.gethostname(), rules.host, *rules.allowed_hosts)
        self.host_names = frozenset(name.strip("[]").lower() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        if refusal := self._find_refusal(scope, headers):
            await refuse_request(scope, receive, send, *refusal)
        elif scope["path"] == "/" and self._is_token(query.get("token", [""])[0]):
            await self._set_cookie(scope, send)
        elif scope["path"] not in OPEN_PATHS and not self._has_token(headers):
            sentence = "this server needs its token; open the address that it printed when it was started"
            await refuse_request(scope, receive, send, 401, sentence)
        else:
            await self.app(scope, receive, _add_headers(send))

    def _find_refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if not self._is_own_host(host):
            return 403, "this server does not answer to that host name; start it with --allowed-hosts NAME"
        origin = headers.get("origin")
        if origin is not None and not _is_same_origin(origin, host):
            return 403, "the request comes from another page; use the studio's own"
        if headers.get("sec-fetch-site", "none") in ("cross-site", "same-site") and scope["path"] != "/":
            return 403, "the request comes from another page; use the studio's own"
        return None

    def _is_own_host(self, host: str) -> bool:
        name = _split_host(host)
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self.host_names
        return True  # a name that another page controls is never a number

    def _has_token(self, headers: Headers) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._is_token(token.strip())
        cookies: Mapping[str, str] = cookie_parser(headers.get("cookie", ""))
        return self._is_token(cookies.get(self.cookie_name, ""))

    def _is_token(self, token: str) -> bool:
        return hmac.compare_digest(token.encode("utf-8", "surrogatepass"), self.rules.token.encode())

    async def _set_cookie(self, scope: Scope, send: Send) -> None:
        secure = "; Secure" if scope.get("scheme") == "https" else ""
        cookie = f"{self.cookie_name}={self.rules.token}; HttpOnly; SameSite=Strict; Path=/{secure}"
        headers = [(b"location", b"/"), (b"set-cookie", cookie.encode()), (b"content-length", b"0")]
        send = _add_headers(send)
        await send({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


def _split_host(host: str) -> str:
    """The name of a Host header without its port, lower case."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return name.lower().rstrip(".")


def _is_same_origin(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()


def _add_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("cache-control", "no-store")
        await send(message)

    return send_with_headers


async def refuse_request(scope: Scope, receive: Receive, send: Send, status: int, sentence: str) -> None:
    """Answer with an error. The body of the request is not read: its connection is closed."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": sentence[:100]})
        return
    body = json.dumps({"detail": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if "content-length" in Headers(scope=scope) or "transfer-encoding" in Headers(scope=scope):
        headers.append((b"connection", b"close"))
    send = _add_headers(send)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
