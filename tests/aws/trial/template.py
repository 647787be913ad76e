"""The template: read, expanded as AWS expands it, linted, and copied for the trial with what differs there."""

import copy
import json
import logging
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

from trial.places import ACCOUNT, BIN, LINT, REGION, TEMPLATE, shown
from trial.steps import Failure, expect

# A stack may have 500 resources: there must be room for what comes.
MOST_RESOURCES = 400

Document = dict[str, Any]

# The translator's last words are about statistics that nobody here keeps.
logging.getLogger("samtranslator").setLevel(logging.ERROR)


def read() -> Document:
    """The template with CloudFormation's tags in their long form."""
    return yaml_parse(TEMPLATE.read_text())


def functions(template: Document) -> dict[str, Document]:
    """Its functions by logical name."""
    resources = template["Resources"]
    return {name: one for name, one in resources.items() if one["Type"] == "AWS::Serverless::Function"}


def binary(function: Document) -> str:
    """The binary of a function."""
    return function["Metadata"]["BuildProperties"]["Binary"]


class _NoManagedPolicies:
    """Names of AWS's own policies, which the translator would look up: the template uses none."""

    def load(self) -> Mapping[str, str]:
        return {}


def expand(template: Document) -> Document:
    """What the stack will be made of."""
    whole = copy.deepcopy(template)
    # The code is uploaded before AWS expands a template; where to is no matter here.
    whole["Globals"]["Function"]["CodeUri"] = "s3://bucket/key"
    given = {"AWS::Region": REGION, "AWS::AccountId": ACCOUNT, "AWS::Partition": "aws"}
    for name, parameter in whole.get("Parameters", {}).items():
        given[name] = parameter.get("Default", "https://api.example.com")
    try:
        return transform(whole, given, _NoManagedPolicies())
    except Exception as error:
        raise Failure(f"{shown(TEMPLATE)} does not expand: {error}") from error


def lint(folder: Path) -> int:
    """Expands and lints the template; says how many resources it has.

    The linter also gets the template with a known mistake: one that finds nothing there would find nothing anywhere.
    """
    template = read()
    wrong = copy.deepcopy(template)
    wrong["Globals"]["Function"]["Runtime"] = "provided.al2024"
    expanded = expand(template)
    found = _lint(expanded, folder / "expanded.json")
    expect(not found, f"The expanded template has faults:\n{found}", f"{shown(LINT)} says how an exception is written")
    bitten = _lint(expand(wrong), folder / "expanded-wrong.json")
    expect("provided.al2024" in bitten, "The linter did not find a runtime that does not exist", shown(LINT))
    count = len(expanded["Resources"])
    expect(count <= MOST_RESOURCES, f"The stack has {count} resources, more than {MOST_RESOURCES}; AWS takes 500")
    return count


def _lint(expanded: Document, file: Path) -> str:
    file.write_text(json.dumps(expanded, indent=1))
    command = [BIN / "cfn-lint", "--config-file", LINT, "--format", "parseable", "-t", file]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip() or ("" if done.returncode == 0 else f"cfn-lint ended with {done.returncode}")


def trial_copy(code: dict[str, Path], without: tuple[str, str] | None) -> Document:
    """The template as the trial deploys it. It differs in these points only:

    - the code is what was built before, so there is no build method;
    - functions may call receivers on loopback, which production refuses;
    - usage is reported every minute;
    - the secret is named by `GetAtt Id`, which on AWS is the same ARN as `Ref`: the emulator's `Ref` gives its name,
      which is no resource of a policy;
    - policies on queues name the batch actions too, see BATCHED;
    - the bucket may be reached by plain http, which is all that the emulator speaks;
    - a function has one policy less, when the trial is to show that it needs it.
    """
    template = read()
    template["Globals"]["Function"]["Environment"]["Variables"]["CHATIA_EGRESS_ALLOW"] = "127.0.0.0/8"
    for name, function in functions(template).items():
        function["Properties"]["CodeUri"] = str(code[binary(function)])
        del function["Metadata"]
        if without is not None and without[0] == name:
            policies = function["Properties"]["Policies"]
            expect({"Ref": without[1]} in policies, f"{name} has no policy {without[1]}", shown(TEMPLATE))
            policies.remove({"Ref": without[1]})
    del template["Resources"]["ObjectsPolicy"]
    schedule = template["Resources"]["UsageBatch"]["Properties"]["Events"]["Tick"]["Properties"]
    schedule["ScheduleExpression"] = "rate(1 minute)"
    if without is not None:
        expect(without[0] in functions(template), f"{without[0]} is no function", shown(TEMPLATE))
    _name_batches(template)
    return _with_arn_of_secret(template)


# What the emulator wants to be allowed apart; on AWS the action on one message covers a batch of them.
BATCHED = {"sqs:SendMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"}


def _name_batches(template: Document) -> None:
    policies = [one for one in template["Resources"].values() if one["Type"] == "AWS::IAM::ManagedPolicy"]
    for statement in (one for policy in policies for one in policy["Properties"]["PolicyDocument"]["Statement"]):
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        statement["Action"] = actions + [f"{action}Batch" for action in actions if action in BATCHED]


def _with_arn_of_secret(value: Any) -> Any:
    if value == {"Ref": "Secret"}:
        return {"Fn::GetAtt": ["Secret", "Id"]}
    if isinstance(value, dict):
        return {name: _with_arn_of_secret(one) for name, one in value.items()}
    return [_with_arn_of_secret(one) for one in value] if isinstance(value, list) else value
