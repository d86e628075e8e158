"""What tests of the studio share: a client of a server over a folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

TOKEN = "0123456789abcdef0123"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


class StudioClient:
    """Requests with the token; `self.project` is the address of the folder's project."""

    def __init__(self, client: TestClient, folder: Path) -> None:
        self.client = client
        self.folder = folder
        self.project = f"/api/projects/{self.call('GET', '/api/projects')['default']}"

    def request(self, method: str, address: str, **kwargs: Any) -> Any:
        return self.client.request(method, address, headers={**HEADERS, **kwargs.pop("headers", {})}, **kwargs)

    def call(self, method: str, address: str, status: int = 200, **kwargs: Any) -> Any:
        """The JSON of an answer with this status."""
        response = self.request(method, address, **kwargs)
        assert response.status_code == status, response.text
        return response.json() if response.content else None

    def get(self, name: str, status: int = 200, **params: Any) -> Any:
        return self.call("GET", f"{self.project}/{name}", status, params=params)

    def refuse(self, method: str, address: str, status: int, **kwargs: Any) -> str:
        """The sentence of a refusal."""
        detail = self.call(method, address, status, **kwargs)["detail"]
        assert isinstance(detail, str)
        return detail


def wait_until(condition: Callable[[], Any], seconds: float = 120.0) -> Any:
    """The first true value of `condition`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)
    return value
