"""The deployment: `sam deploy` with this repository's own configuration, and what the emulator leaves out of it."""

import base64
import json
import re
import secrets
import subprocess
from dataclasses import dataclass
from typing import Any

from trial.emulator import Emulator
from trial.outside import Outside
from trial.places import ACCOUNT, ARCHITECTURE, BIN, REGION, SAMCONFIG, STACK, shown
from trial.steps import Failure, expect
from trial.template import Document

OPENAI_KEY = "sk-of-the-trial"
POLAR_TOKEN = "polar_of_the_trial"


@dataclass(frozen=True)
class Stack:
    """What was deployed."""

    emulator: Emulator
    physical: dict[str, str]
    outputs: dict[str, str]

    def client(self, service: str) -> Any:
        """A client of a service, with all rights."""
        return self.emulator.client(service)

    @property
    def host(self) -> str:
        """The host of the HTTP API; the emulator tells APIs apart by it, as AWS does."""
        return f"{self.physical['ServerlessHttpApi']}.execute-api.localhost:{self.emulator.port}"


def deploy(emulator: Emulator, template: Document, outside: Outside) -> Stack:
    """Deploys the template and waits until the stack is complete."""
    file = emulator.folder / "template.json"
    file.write_text(json.dumps(template, indent=1))
    overrides = {
        "Stage": "trial",
        "Architecture": ARCHITECTURE,
        "PublicBaseUrl": emulator.url,
        "OriginSecret": secrets.token_hex(16),
        "DefaultProvider": "openai",
        "DefaultModel": "trial-1",
        "OpenAiBaseUrl": f"{outside.url}/v1",
        "PolarBaseUrl": outside.url,
        "PolarProducts": "starter=starter,pro=pro,studio=studio,agency=agency,payg=payg,seat=seat",
        "LogRetentionDays": "1",
    }
    command = [
        "sam", "deploy", "--template-file", str(file), "--config-file", str(SAMCONFIG), "--config-env", "dev",
        "--stack-name", STACK, "--region", REGION, "--no-progressbar",
        "--parameter-overrides", *(f"{name}={value}" for name, value in overrides.items()),
    ]  # fmt: skip
    environment = emulator.environment()
    environment["PATH"] = f"{BIN}:{environment['PATH']}"
    log = emulator.folder / "deploy.log"
    with log.open("wb") as out:
        done = subprocess.run(command, env=environment, cwd=emulator.folder, stdout=out, stderr=out, check=False)
    expect(done.returncode == 0, f"sam deploy ended with {done.returncode}", shown(log))
    return _read(emulator)


def _read(emulator: Emulator) -> Stack:
    cloud = emulator.client("cloudformation")
    stack = cloud.describe_stacks(StackName=STACK)["Stacks"][0]
    expect(stack["StackStatus"] == "CREATE_COMPLETE", f"The stack is {stack['StackStatus']}", shown(emulator.log))
    found = cloud.describe_stack_resources(StackName=STACK)["StackResources"]
    physical = {one["LogicalResourceId"]: one["PhysicalResourceId"] for one in found}
    outputs = {one["OutputKey"]: one["OutputValue"] for one in stack.get("Outputs", [])}
    return Stack(emulator, physical, outputs)


def add_routes(stack: Stack) -> int:
    """Makes the routes of the HTTP API, which the emulator leaves out: SAM writes them into the API's `Body`."""
    processed = stack.client("cloudformation").get_template(StackName=STACK, TemplateStage="Processed")["TemplateBody"]
    template: Document = processed if isinstance(processed, dict) else json.loads(processed)
    gateway, api = stack.client("apigatewayv2"), stack.physical["ServerlessHttpApi"]
    known = {route["RouteKey"] for route in gateway.get_routes(ApiId=api, MaxResults="500")["Items"]}
    paths = template["Resources"]["ServerlessHttpApi"]["Properties"]["Body"]["paths"]
    count = 0
    for path, methods in paths.items():
        for method, operation in methods.items():
            key = f"{'ANY' if method == 'x-amazon-apigateway-any-method' else method.upper()} {path}"
            count += 1
            if key in known:
                continue
            wanted = operation["x-amazon-apigateway-integration"]
            made = gateway.create_integration(
                ApiId=api,
                IntegrationType=wanted["type"].upper(),
                IntegrationUri=_function_arn(stack, wanted["uri"]),
                PayloadFormatVersion=wanted["payloadFormatVersion"],
                IntegrationMethod=wanted["httpMethod"],
            )
            gateway.create_route(ApiId=api, RouteKey=key, Target=f"integrations/{made['IntegrationId']}")
    return count


def _function_arn(stack: Stack, uri: Any) -> str:
    text = uri["Fn::Sub"] if isinstance(uri, dict) else uri
    name = re.search(r"\$\{(\w+)\.Arn\}", text)
    if name is None:
        raise Failure(f"An integration of the HTTP API names no function: {uri}")
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{stack.physical[name[1]]}"


def put_secret(stack: Stack) -> None:
    """Puts the installation's secrets, as docs/OPERATIONS.md asks for before the first request."""
    keyring = [{"id": "k1", "key": base64.b64encode(secrets.token_bytes(32)).decode()}]
    values = {
        "root_keyring": json.dumps(keyring),
        "openai_api_key": OPENAI_KEY,
        "polar_access_token": POLAR_TOKEN,
        "polar_webhook_secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    }
    arn = stack.outputs["SecretArn"]
    stack.client("secretsmanager").put_secret_value(SecretId=arn, SecretString=json.dumps(values))
