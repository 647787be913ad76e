"""Somebody who calls the deployed HTTP API."""

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from trial.deploy import Stack
from trial.places import shown
from trial.steps import Failure


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Its body."""
        return json.loads(self.body or b"null")


@dataclass(frozen=True)
class Client:
    """A caller, with or without a credential."""

    stack: Stack
    token: str = ""

    def ask(self, method: str, path: str, body: Any = None) -> Answer:
        """Sends a request; any answer is an answer."""
        headers = {"host": self.stack.host, "content-type": "application/json"}
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.stack.emulator.url + path, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return Answer(answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, {k.lower(): v for k, v in error.headers.items()}, error.read())

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Sends a request that must go well."""
        answer = self.ask(method, path, body)
        if not 200 <= answer.status < 300:
            what = f"{method} {path} was answered with {answer.status}: {answer.body[:500].decode(errors='replace')}"
            raise Failure(what, shown(self.stack.emulator.folder))
        return answer.json()

    def get(self, path: str) -> Any:
        """What is there."""
        return self.call("GET", path)

    def post(self, path: str, body: Any = None) -> Any:
        """What came of it."""
        return self.call("POST", path, {} if body is None else body)
