"""Steps: each is told when it begins, timed, and named when it fails."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


class Failure(Exception):
    """Something is not as it should be. `look` says what to look at."""

    def __init__(self, what: str, look: str = "") -> None:
        super().__init__(what)
        self.look = look


@dataclass
class Steps:
    """What was done, and how long it took."""

    took: list[tuple[str, str, float]] = field(default_factory=list)
    # Which part of the trial it is, and which step of it.
    part: str = "before"
    current: str = ""

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """One step."""
        began, self.current = time.monotonic(), name
        print(f"   {name} ...", end=" ", flush=True)
        try:
            yield
        finally:
            self.took.append((self.part, name, time.monotonic() - began))
            print(f"{self.took[-1][2]:.1f} s", flush=True)

    def summary(self) -> str:
        """All steps with their times."""
        lines = [f"{seconds:8.1f} s  {part}: {name}" for part, name, seconds in self.took]
        total = sum(seconds for _, _, seconds in self.took)
        return "\n".join([*lines, f"{total:8.1f} s  in all"])


def expect(holds: bool, what: str, look: str = "") -> None:
    """Fails unless it holds."""
    if not holds:
        raise Failure(what, look)


def eventually(what: str, ask: Callable[[], T | None], patience: float, look: str = "") -> T:
    """Asks until there is an answer."""
    until = time.monotonic() + patience
    while True:
        answer = ask()
        if answer is not None:
            return answer
        if time.monotonic() > until:
            raise Failure(f"{what} (waited {patience:.0f} s)", look)
        time.sleep(0.2)
