"""The emulator: started on loopback with nothing of this shell's environment, and ended with all that it started."""

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3

from trial.places import BIN, REGION, shown
from trial.steps import Failure

# Who deploys: the emulator's own root. Functions get sessions of their roles instead.
ROOT_KEY = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


# The kernel's words: the state of a socket that listens, and loopback's addresses, the last byte first.
LISTENS = "0A"
LOOPBACK6 = "00000000000000000000000001000000"


def is_loopback(address: str) -> bool:
    """Whether an address, as the kernel writes it, is this machine's own."""
    return address.endswith("7F") or address == LOOPBACK6


@dataclass
class Emulator:
    """A running emulator in a folder of its own."""

    folder: Path
    port: int = field(init=False)
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        for name in ("tmp", "home", "s3"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "S3_DATA_DIR": str(self.folder / "s3"),
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(self.port),
            "MINISTACK_REGION": REGION,
            "LAMBDA_EXECUTOR": "local",
            "AUTH": "true",
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            # What functions are told: this one runs them as processes with its own environment.
            "AWS_ENDPOINT_URL": self.url,
            **ROOT_KEY,
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [BIN / "ministack"], env=environment, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
        self._await_health()

    @property
    def log(self) -> Path:
        """What the emulator says."""
        return self.folder / "emulator.log"

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def _await_health(self) -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/_ministack/health", timeout=2) as answer:
                    if answer.status == 200:
                        return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        self.stop()
        raise Failure("The emulator does not start", shown(self.log))

    def environment(self) -> dict[str, str]:
        """The environment of a tool that is to talk to it and to nothing else."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder / "home"),
            "AWS_ENDPOINT_URL": self.url,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "SAM_CLI_TELEMETRY": "0",
            **ROOT_KEY,
        }

    def client(self, service: str) -> Any:
        """A client of one of its services."""
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=ROOT_KEY["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=ROOT_KEY["AWS_SECRET_ACCESS_KEY"],
        )

    def processes(self) -> set[int]:
        """It and what it started."""
        parents = {pid: parent for pid in _pids() if (parent := _parent(pid)) is not None}
        found = {self.process.pid}
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return found

    def listening(self) -> list[tuple[str, int]]:
        """The addresses and ports on which it and its functions listen, as the kernel writes addresses."""
        sockets = set[str]()
        for pid in self.processes():
            try:
                sockets |= {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()}
            except OSError:
                continue
        found = []
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                local, state, inode = (part := line.split())[1], part[3], part[9]
                if state == LISTENS and f"socket:[{inode}]" in sockets:
                    address, port = local.split(":")
                    found.append((address, int(port, 16)))
        return found

    def stop(self) -> None:
        """Ends it, and what it started."""
        started = self.processes() - {self.process.pid}
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        # A function whose parent is gone: its id was ours a moment ago.
        for pid in started & set(_pids()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _parent(pid: int) -> int | None:
    try:
        # The name of the program is in parentheses, and may have blanks.
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except (OSError, IndexError):
        return None
