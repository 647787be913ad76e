"""What goes wrong in production: messages and records that do not read. They must not take others along."""

import copy
import json
import secrets
import time
import uuid
from typing import Any

from trial.client import Client
from trial.job import Job
from trial.logs import lines
from trial.places import REGION, shown
from trial.steps import eventually, expect

POISON = '{"task": "none that there is"}'


def poisoned_message(job: Job) -> None:
    """A message that does not read ends among the dead letters, with the reason, and the operator sees and drops it."""
    stack, log = job.stack, shown(job.stack.emulator.folder)
    queues = stack.client("sqs")
    live, dead = stack.physical["DeliverQueue"], stack.physical["DeliverDeadLetters"]
    queues.send_message(QueueUrl=live, MessageBody=POISON)

    def buried() -> dict[str, Any] | None:
        asked = {"MessageAttributeNames": ["All"], "VisibilityTimeout": 0, "MaxNumberOfMessages": 10}
        found = queues.receive_message(QueueUrl=dead, **asked).get("Messages", [])
        return next((letter for letter in found if letter["Body"] == POISON), None)

    letter = eventually("The message is not among the dead letters", buried, job.patience, log)
    told = {name: value["StringValue"] for name, value in letter["MessageAttributes"].items()}
    expect("does not read" in told.get("reason", ""), f"The dead letter has no reason: {told}", log)
    expect(told.get("tries") == "1", f"It would be tried in vain again: {told}", log)

    admin = superadmin(job)
    listed = admin.get("/api/admin/dead-letters?queue=deliver")["items"]
    known = [one for one in listed if one["body"] == POISON]
    expect(len(known) == 1, f"The operator sees {listed}", log)
    admin.call("DELETE", f"/api/admin/dead-letters/deliver/{known[0]['id']}")
    expect(buried() is None, "The operator dropped the dead letter and it is still there", log)


def superadmin(job: Job) -> Client:
    """Somebody registers and is made superadmin in the table, as docs/OPERATIONS.md tells the operator to."""
    stack = job.stack
    email, password = f"operator-{secrets.token_hex(4)}@example.com", "correct horse battery"
    account = {"email": email, "password": password}
    Client(stack).post("/api/auth/register", account)
    table, name = stack.client("dynamodb"), stack.outputs["TableName"]
    guard = table.get_item(TableName=name, Key={"pk": {"S": f"EMAIL#{email}"}, "sk": {"S": "G"}})["Item"]
    table.update_item(
        TableName=name,
        Key={"pk": {"S": f"U#{guard['user_id']['S']}"}, "sk": {"S": "USER"}},
        UpdateExpression="SET staff_role = :role",
        ConditionExpression="attribute_exists(pk)",
        ExpressionAttributeValues={":role": {"S": "superadmin"}},
    )
    return Client(stack, Client(stack).post("/api/auth/login", account)["access_token"])


def unreadable_record(job: Job) -> None:
    """An event record that does not read comes through the stream, and others come behind it."""
    stack, log = job.stack, shown(job.stack.emulator.folder)
    bad = {**_keys(), "et": {"S": "event"}, "v": {"N": "1"}, "type": {"S": "message.reply"}}
    stack.client("dynamodb").put_item(TableName=stack.outputs["TableName"], Item=bad)
    event = _publish(job, "behind.a.bad.one")
    _await_event(job, event["id"], "An event behind a record that does not read was not delivered")
    eventually(
        "Relay and projector do not both say that a record does not read",
        lambda: len(lines(stack, "an event record does not read")) >= 2 or None,
        job.patience,
        log,
    )
    _nothing_is_asked_for_again(job, bad, event["id"])


def _nothing_is_asked_for_again(job: Job, bad: dict[str, Any], known: str) -> None:
    """The relay's answer wants no record again, and what lies behind the bad one in the batch is delivered. The emulator
    does not act on this answer, so it is asked for here."""
    stack = job.stack
    found = stack.client("dynamodb").scan(
        TableName=stack.outputs["TableName"],
        FilterExpression="et = :event AND id = :id",
        ExpressionAttributeValues={":event": {"S": "event"}, ":id": {"S": known}},
    )["Items"]
    expect(len(found) == 1, f"The outbox has {len(found)} events {known}")
    good = copy.deepcopy(found[0])
    # A later event of its kind: the last part of the id is random.
    fresh = known[:-12] + secrets.token_hex(6)
    good["id"] = good["sk"] = {"S": fresh}
    batch = {"Records": [_record(bad, "100"), _record(good, "200")]}
    answer = stack.client("lambda").invoke(FunctionName=stack.physical["Relay"], Payload=json.dumps(batch))
    response = json.loads(answer["Payload"].read())
    expect(
        response.get("batchItemFailures") == [],
        f"The relay answers {response} to a batch whose first record does not read",
    )
    _await_event(job, fresh, "What lay behind a bad record in its batch was not delivered")


def _keys() -> dict[str, Any]:
    return {"pk": {"S": time.strftime("OUT#%Y%m%d#0", time.gmtime())}, "sk": {"S": str(uuid.uuid4())}}


def _record(image: dict[str, Any], number: str) -> dict[str, Any]:
    change = {
        "ApproximateCreationDateTime": int(time.time()),
        "Keys": {name: image[name] for name in ("pk", "sk")},
        "NewImage": image,
        "SequenceNumber": number,
        "SizeBytes": 300,
        "StreamViewType": "NEW_AND_OLD_IMAGES",
    }
    return {"eventID": number, "eventName": "INSERT", "eventSource": "aws:dynamodb", "awsRegion": REGION, "dynamodb": change}


def _publish(job: Job, name: str) -> dict[str, Any]:
    return job.ana.key.post("/api/developers/events", {"event": name, "data": {"total": 12.5}})


def _await_event(job: Job, event: str, otherwise: str) -> None:
    log = shown(job.stack.emulator.folder)
    eventually(otherwise, lambda: job.delivered(job.ana).get(event), job.patience, log)


def logs_are_json(job: Job) -> int:
    """Every line that a function wrote is JSON with time, level and message, as alarms and filters need it."""
    found = lines(job.stack)
    expect(bool(found), "The functions wrote no log", shown(job.stack.emulator.folder))
    for line in found:
        try:
            entry = json.loads(line)
            # What the journal writes is flat, since its lines are metrics too.
            whole = {"timestamp", "level"} <= set(entry) and "message" in entry.get("fields", entry)
        except (ValueError, TypeError):
            whole = False
        expect(whole, f"A function logs what is no JSON entry: {line[:300]}", shown(job.stack.emulator.folder))
    return len(found)
