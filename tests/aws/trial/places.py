"""Where things lie, and what they are called."""

import platform
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
WORK = ROOT / "target" / "aws"
BIN = WORK / "venv" / "bin"
TEMPLATE = ROOT / "template.yaml"
LINT = ROOT / "tests" / "aws" / "lint.yaml"
SAMCONFIG = ROOT / "samconfig.toml"
EVENTS = ROOT / "events"

REGION = "eu-west-1"
ACCOUNT = "000000000000"
STACK = "chatia-trial"
# The emulator runs the binaries of this machine.
ARCHITECTURE = "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"


def shown(path: Path) -> str:
    """A path for people."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
