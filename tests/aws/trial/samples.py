"""The sample events: each function is given its own, as `sam local invoke` would."""

import json

from trial.deploy import Stack
from trial.places import EVENTS, shown
from trial.steps import expect
from trial.template import binary, functions, read


def each_function_takes_its_sample(stack: Stack) -> int:
    """Invokes each function once; none may fail."""
    known = functions(read())
    for name, function in known.items():
        file = EVENTS / f"{binary(function)}.json"
        expect(file.exists(), f"{name} has no sample event", shown(EVENTS))
        answer = stack.client("lambda").invoke(FunctionName=stack.physical[name], Payload=file.read_bytes())
        body = answer["Payload"].read().decode(errors="replace")
        fault = answer.get("FunctionError")
        expect(fault is None, f"{name} fails with {shown(file)}: {body[:300]}", shown(stack.emulator.folder))
        if file.name.startswith(("studio-", "hooks-")) and body.startswith('{"statusCode"'):
            status = json.loads(body.split("\0", 1)[0])["statusCode"]
            expect(status < 500, f"{name} answers {shown(file)} with {status}: {body[:300]}", shown(stack.emulator.folder))
    return len(known)
