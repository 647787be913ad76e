"""What the functions log, as the emulator keeps it: it is gone with the emulator, so it is put aside first."""

from pathlib import Path

from trial.deploy import Stack

PLATFORM = ("START RequestId", "END RequestId", "REPORT RequestId")


def lines(stack: Stack, containing: str = "") -> list[str]:
    """The functions' log lines, without those that the platform writes itself."""
    logs, group = stack.client("logs"), stack.physical["FunctionLogs"]
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group)
    found = [event["message"] for page in pages for event in page["events"]]
    return [line for line in found if not line.startswith(PLATFORM) and containing in line]


def put_aside(stack: Stack, file: Path) -> None:
    """Keeps them for whoever looks for what went wrong."""
    file.write_text("".join(f"{line}\n" for line in lines(stack)))
