"""What the system calls, on loopback: a receiver of webhooks, a model and a billing provider."""

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

REPLY = "At nine, and the coffee is on us."


@dataclass(frozen=True)
class Call:
    """A request that came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Its body."""
        return json.loads(self.body)


@dataclass
class Outside:
    """One server for all of them, told apart by the path: `/hook/…`, `/v1/chat/completions`, `/v1/events/…`."""

    calls: list[Call] = field(default_factory=list)
    server: ThreadingHTTPServer = field(init=False)

    def __post_init__(self) -> None:
        outside = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                call = Call(self.command, self.path, headers, body)
                outside.calls.append(call)
                kind, answer = outside.answer(call)
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def stop(self) -> None:
        """Ends it."""
        self.server.shutdown()
        self.server.server_close()

    def to(self, path: str) -> list[Call]:
        """The calls to a path."""
        return [call for call in list(self.calls) if call.path == path]

    def answer(self, call: Call) -> tuple[str, bytes]:
        """What a call is answered with."""
        if call.path == "/v1/chat/completions":
            return "text/event-stream", _model(call.json()["model"])
        if call.path == "/v1/events/ingest":
            return "application/json", json.dumps({"inserted": len(call.json()["events"]), "duplicates": 0}).encode()
        return "text/plain", b"ok"


def _model(model: str) -> bytes:
    """An answer in pieces, as Chat Completions streams it."""
    half = len(REPLY) // 2
    pieces: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": REPLY[:half]}}]},
        {"choices": [{"index": 0, "delta": {"content": REPLY[half:]}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"prompt_tokens": 50, "completion_tokens": 9}},
    ]
    lines = [json.dumps({"object": "chat.completion.chunk", "model": model, **piece}) for piece in pieces]
    return "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"]).encode()
