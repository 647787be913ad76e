"""The trial, from the template to the teardown. `tests/aws/run` starts it."""

import argparse
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trial import build, deploy, faults, logs, policies, samples, template
from trial.deploy import Stack
from trial.emulator import Emulator, is_loopback
from trial.job import Job
from trial.outside import Outside
from trial.places import WORK, shown
from trial.policies import REMOVALS, Removal
from trial.steps import Failure, Steps, expect

RUNS = WORK / "runs"


def main() -> int:
    """Runs it; the exit code says how it went."""
    options = _options()
    # A plain `kill` tears down as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    shutil.rmtree(RUNS, ignore_errors=True)
    RUNS.mkdir(parents=True)
    steps = Steps()
    try:
        _trial(options, steps)
    except Failure as failure:
        print(f"\nFAILED at “{steps.current}”: {failure}", file=sys.stderr)
        if failure.look:
            print(f"Look at: {failure.look}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; everything that was started has ended.", file=sys.stderr)
        return 130
    print(f"\n{steps.summary()}\n\nEverything went as it should.")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/aws/run", description=__doc__)
    known = ", ".join(str(removal) for removal in REMOVALS)
    parser.add_argument("--lint", action="store_true", help="expand and lint the template, nothing else")
    parser.add_argument("--quick", action="store_true", help="leave out the deployments that lack a policy")
    parser.add_argument("--without-policy", metavar="FUNCTION:POLICY", help=f"deploy without one policy only: {known}")
    return parser.parse_args()


def _trial(options: argparse.Namespace, steps: Steps) -> None:
    with steps.step("expand and lint the template"):
        count = template.lint(RUNS)
    print(f"   {count} resources of at most {template.MOST_RESOURCES}")
    if options.lint:
        return
    removals = [policies.named(options.without_policy)] if options.without_policy else REMOVALS
    with steps.step("build the functions"):
        binaries = [template.binary(one) for one in template.functions(template.read()).values()]
        built = build.build(binaries)
    with steps.step("strip and pack them"):
        (WORK / "code").mkdir(exist_ok=True)
        code = build.package(built, WORK / "code")
    if not options.without_policy:
        _everything_works(code, steps)
    if not options.quick:
        for removal in removals:
            _fails_without(removal, code, steps)


def _everything_works(code: dict[str, Path], steps: Steps) -> None:
    with _deployed("the whole", code, None, steps) as job:
        job.whole()
        with steps.step("a poisoned message"):
            faults.poisoned_message(job)
        with steps.step("a record that does not read"):
            faults.unreadable_record(job)
        with steps.step("each function takes its sample event"):
            samples.each_function_takes_its_sample(job.stack)
        with steps.step("logs are JSON"):
            lines = faults.logs_are_json(job)
        print(f"   {lines} lines of log")
        with steps.step("nothing listens beyond loopback"):
            _listens_on_loopback_only(job.stack.emulator)


def _listens_on_loopback_only(emulator: Emulator) -> None:
    listening = emulator.listening()
    expect(emulator.port in {port for _, port in listening}, "The emulator's own port is not found: nothing would be")
    beyond = [(address, port) for address, port in listening if not is_loopback(address)]
    expect(not beyond, f"Something listens beyond loopback: {beyond}")


def _fails_without(removal: Removal, code: dict[str, Path], steps: Steps) -> None:
    with _deployed(f"without {removal}", code, removal, steps) as job:
        complaint = policies.job_fails_without(removal, job)
    print(f"   as it should be, the main job fails at its step “{removal.fails}”: {complaint}")


@contextmanager
def _deployed(name: str, code: dict[str, Path], removal: Removal | None, steps: Steps) -> Iterator[Job]:
    """A deployed system in an emulator of its own, which ends with this block however it ends."""
    print(f"== {name}")
    steps.part = name
    folder = RUNS / re.sub(r"\W+", "-", name)
    folder.mkdir()
    outside = Outside()
    emulator: Emulator | None = None
    stack: Stack | None = None
    try:
        with steps.step("start the emulator"):
            emulator = Emulator(folder)
        with steps.step("deploy"):
            without = (removal.function, removal.policy) if removal else None
            stack = deploy.deploy(emulator, template.trial_copy(code, without), outside)
        with steps.step("add the routes and the secret"):
            deploy.add_routes(stack)
            deploy.put_secret(stack)
        yield Job(stack, outside, steps)
    finally:
        try:
            if stack is not None:
                logs.put_aside(stack, folder / "functions.log")
        finally:
            outside.stop()
            if emulator is not None:
                emulator.stop()
        print(f"   ended; its logs are in {shown(folder)}")


if __name__ == "__main__":
    sys.exit(main())
