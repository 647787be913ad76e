"""Policies that are needed: without each of these the main job fails at its step, and the log says that it was denied."""

from dataclasses import dataclass

from trial.job import Job
from trial.logs import lines
from trial.places import shown
from trial.steps import Failure, expect

# Long enough for what goes well: it takes a second or two.
PATIENCE = 12.0


@dataclass(frozen=True)
class Removal:
    """A function's policy that is left out of the template."""

    function: str
    policy: str
    # The step of the main job that fails then.
    fails: str

    def __str__(self) -> str:
        return f"{self.function}:{self.policy}"


REMOVALS = [
    Removal("StudioAuth", "ReadSecret", "register"),
    Removal("StudioAgents", "KeepObjects", "upload"),
    Removal("StudioChat", "WriteTable", "chat"),
    Removal("Relay", "SendDeliveries", "delivery"),
    Removal("Deliver", "ReadSecret", "delivery"),
]


def named(text: str) -> Removal:
    """`Function:Policy`, of those that are tried."""
    for removal in REMOVALS:
        if text == str(removal):
            return removal
    known = ", ".join(str(removal) for removal in REMOVALS)
    raise Failure(f"{text} is none of {known}", "tests/aws/trial/policies.py, to add one with the step that must fail")


def job_fails_without(removal: Removal, job: Job) -> str:
    """Does the main job, which must fail where it is said; gives its complaint."""
    log = shown(job.stack.emulator.folder)
    job.patience = PATIENCE
    try:
        job.until_delivered()
    except Failure as failure:
        failed, complaint = job.steps.current, str(failure)
    else:
        raise Failure(f"The main job goes well without {removal}: the policy is not needed, or not enforced", log)
    expect(failed == f"job: {removal.fails}", f"Without {removal} the main job fails at {failed!r}: {complaint}", log)
    denied = lines(job.stack, "AccessDenied")
    expect(bool(denied), f"Without {removal} it fails with {complaint!r}, but no log says that it was denied", log)
    return complaint
