"""The main job over the deployed API: from registration to the bill, for two tenants who must not meet."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from trial.client import Client
from trial.deploy import OPENAI_KEY, POLAR_TOKEN, Stack
from trial.outside import REPLY, Call, Outside
from trial.places import STACK, shown
from trial.steps import Steps, eventually, expect

PROMPT = "You are Sol.\nQ: When do you open? A: At nine."
# A picture of one pixel.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
TOLD = {"agent.created", "agent.published", "agent.message.created", "agent.reply.created"}


@dataclass
class Tenant:
    """Somebody with an account here."""

    name: str
    email: str = ""
    person: Client | None = None
    program: Client | None = None
    webhook_secret: str = ""
    agent: dict[str, Any] = field(default_factory=dict)

    @property
    def hook(self) -> str:
        """The path of their receiver."""
        return f"/hook/{self.name}"

    @property
    def user(self) -> Client:
        """They themselves."""
        assert self.person is not None, "registered first"
        return self.person

    @property
    def key(self) -> Client:
        """Their program, with a developer key."""
        assert self.program is not None, "the key is made first"
        return self.program


@dataclass
class Job:
    """The main job, step by step. `patience` is for what happens behind the scenes."""

    stack: Stack
    outside: Outside
    steps: Steps
    patience: float = 60.0
    ana: Tenant = field(default_factory=lambda: Tenant("ana"))
    bob: Tenant = field(default_factory=lambda: Tenant("bob"))
    replies: int = 0

    def until_delivered(self) -> None:
        """All of it up to the webhooks: what a visitor and an owner see at once."""
        self._step("site", self.site)
        self._step("register", lambda: [self.register(tenant) for tenant in (self.ana, self.bob)])
        self._step("api key", lambda: [self.make_key(tenant) for tenant in (self.ana, self.bob)])
        self._step("webhook", lambda: [self.make_webhook(tenant) for tenant in (self.ana, self.bob)])
        self._step("agent", self.make_agents)
        self._step("upload", self.upload)
        self._step("publish", lambda: [self.publish(tenant) for tenant in (self.ana, self.bob)])
        self._step("chat", self.chat)
        self._step("delivery", self.await_deliveries)

    def whole(self) -> None:
        """All of it."""
        self.until_delivered()
        self._step("tenants apart", self.tenants_are_apart)
        self._step("counters", self.await_counters)
        self._step("usage", self.await_usage)

    def _step(self, name: str, work: Callable[[], object]) -> None:
        with self.steps.step(f"job: {name}"):
            work()

    @property
    def _log(self) -> str:
        return shown(self.stack.emulator.folder)

    def site(self) -> None:
        """What needs no secret."""
        visitor = Client(self.stack)
        expect("openapi" in visitor.get("/openapi/studio.json"), "The API does not describe itself", self._log)
        page = visitor.ask("GET", "/no-such-agent")
        expect(page.status == 404, f"The page of no agent is answered with {page.status}", self._log)

    def register(self, tenant: Tenant) -> None:
        """A person registers."""
        tenant.email = f"{tenant.name}-{secrets.token_hex(4)}@example.com"
        account = {"email": tenant.email, "password": "correct horse battery", "name": tenant.name.title()}
        token = Client(self.stack).post("/api/auth/register", account)["access_token"]
        tenant.person = Client(self.stack, token)
        expect(tenant.user.get("/api/auth/me")["email"] == tenant.email, "The token is somebody else's", self._log)

    def make_key(self, tenant: Tenant) -> None:
        """They make a key for their programs."""
        key = tenant.user.post("/api/developers/api-keys", {"name": "trial"})["key"]
        expect(key.startswith("chatia_"), "The key does not look like one")
        tenant.program = Client(self.stack, key)

    def make_webhook(self, tenant: Tenant) -> None:
        """Their program asks to be told."""
        body = {"name": "trial", "url": self.outside.url + tenant.hook}
        tenant.webhook_secret = tenant.key.post("/api/developers/webhooks", body)["secret"]

    def make_agents(self) -> None:
        """Ana's agent answers with the installation's model, Bob's without any."""
        body = {"name": "Sol", "system_prompt": PROMPT, "tools": ["capture_lead"]}
        self.ana.agent = self.ana.key.post("/api/developers/agents", body)
        self.bob.agent = self.bob.user.post("/api/agents", {**body, "name": "Luna", "provider": "offline"})

    def upload(self) -> None:
        """Ana uploads a picture for the builder, which is kept in the bucket until she deletes it."""
        bucket = {"Bucket": self.stack.physical["Objects"]}
        keys = lambda: [one["Key"] for one in self.stack.client("s3").list_objects_v2(**bucket).get("Contents", [])]
        kept = self.ana.user.post("/api/builder/uploads", {"data_url": f"data:image/png;base64,{PIXEL}"})
        expect(len(keys()) == 1, f"The bucket holds {keys()}", self._log)
        held = self.stack.client("s3").get_object(**bucket, Key=keys()[0])
        same = held["Body"].read() == base64.b64decode(PIXEL) and held["ContentType"] == "image/png"
        expect(same, "The bucket holds something else than what was uploaded", self._log)
        self.ana.user.call("DELETE", f"/api/builder/uploads/{kept['id']}")
        expect(keys() == [], f"What was deleted is still there: {keys()}", self._log)

    def publish(self, tenant: Tenant) -> None:
        """Their agent goes live, and has a page."""
        path = f"/api/agents/{tenant.agent['id']}/publish"
        tenant.agent = tenant.user.post(path)
        page = Client(self.stack).ask("GET", f"/{tenant.agent['public_slug']}")
        is_page = page.status == 200 and page.headers["content-type"].startswith("text/html")
        expect(is_page, f"The agent's page is answered with {page.status}", self._log)

    def chat(self) -> None:
        """Visitors ask, twice in one conversation."""
        for tenant, wanted in ((self.ana, REPLY), (self.bob, "At nine.")):
            path = f"/api/public/agents/{tenant.agent['public_slug']}/chat"
            first = Client(self.stack).post(path, {"message": "When do you open?"})
            expect(first["reply"] == wanted, f"The reply is {first['reply']!r}, not {wanted!r}", self._log)
            again = {"message": "When do you open?", "conversation_id": first["conversation_id"]}
            second = Client(self.stack).post(path, again)
            expect(second["reply"] == wanted, f"The second reply is {second['reply']!r}", self._log)
            self.replies += 2
        asked = self.outside.to("/v1/chat/completions")
        keys = {call.headers.get("authorization") for call in asked}
        expect(keys == {f"Bearer {OPENAI_KEY}"}, f"The model was asked with the keys {keys}", self._log)
        expect(len(asked) == 2, f"The model was asked {len(asked)} times for two messages")

    def delivered(self, tenant: Tenant) -> dict[str, Call]:
        """What a tenant's receiver got, by the event's id; each call's signatures are checked."""
        calls = self.outside.to(tenant.hook)
        for call in calls:
            verify(tenant.webhook_secret, call)
        return {call.headers["x-chatia-event-id"]: call for call in calls}

    def await_deliveries(self) -> None:
        """Everybody is told of what happened at theirs."""
        for tenant in (self.ana, self.bob):
            eventually(
                f"The receiver of {tenant.name} was not told of everything",
                lambda tenant=tenant: TOLD <= {c.headers["x-chatia-event"] for c in self.delivered(tenant).values()} or None,
                self.patience,
                self._log,
            )

    def tenants_are_apart(self) -> None:
        """Neither sees what is the other's."""
        for mine, theirs in ((self.ana, self.bob), (self.bob, self.ana)):
            agent = theirs.agent["id"]
            for path in (f"/api/agents/{agent}", f"/api/clients/me/agents/{agent}/conversations"):
                status = mine.user.ask("GET", path).status
                expect(status == 404, f"{mine.name} is answered with {status} for {theirs.name}'s {path}", self._log)
            listed = [one["id"] for one in mine.user.get("/api/agents")["items"]]
            expect(listed == [mine.agent["id"]], f"{mine.name} has the agents {listed}", self._log)
        both = set(self.delivered(self.ana)) & set(self.delivered(self.bob))
        expect(not both, f"Both tenants were told of {both}", self._log)

    def await_counters(self) -> None:
        """The projector has counted."""
        for tenant in (self.ana, self.bob):
            path = f"/api/agents/{tenant.agent['id']}"
            eventually(
                f"The conversation of {tenant.name}'s agent is not counted",
                lambda path=path, tenant=tenant: tenant.user.get(path)["conversation_count"] == 1 or None,
                self.patience,
                self._log,
            )

    def await_usage(self) -> None:
        """The schedule comes, and each reply is reported once. It comes every minute here."""
        eventually(
            f"{self.replies} replies are not reported by the schedule {STACK}-usage-batch",
            lambda: len({event["external_id"] for event in self.usage()}) >= self.replies or None,
            self.patience + 90,
            self._log,
        )
        events = self.usage()
        expect(len(events) == self.replies, f"{len(events)} usage events were posted for {self.replies} replies")
        expect({event["name"] for event in events} == {"ai_message"}, "A usage event has another name")
        keys = {call.headers.get("authorization") for call in self.outside.to("/v1/events/ingest")}
        expect(keys == {f"Bearer {POLAR_TOKEN}"}, f"Usage was reported with the tokens {keys}", self._log)
        customers = {event["external_customer_id"] for event in events}
        expect(len(customers) == 2, f"The replies of two tenants are billed to {len(customers)}")

    def usage(self) -> list[dict[str, Any]]:
        """What the billing provider was told."""
        return [event for call in self.outside.to("/v1/events/ingest") for event in call.json()["events"]]


def verify(secret: str, call: Call) -> None:
    """Checks both signatures of a webhook, by what docs and contract say and not by the product's code."""
    at, body = call.headers["x-chatia-timestamp"], call.body
    ours = hmac.new(secret.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()
    expect(hmac.compare_digest(ours, call.headers["x-chatia-signature"]), f"x-chatia-signature of {call.path} is wrong")
    ident, stamp = call.headers["webhook-id"], call.headers["webhook-timestamp"]
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = hmac.new(key, f"{ident}.{stamp}.".encode() + body, hashlib.sha256).digest()
    wanted = "v1," + base64.b64encode(signed).decode()
    expect(wanted in call.headers["webhook-signature"].split(" "), f"webhook-signature of {call.path} is wrong")
