//! A tenant that is handed out, and erased: nothing of it is left, nothing of others is touched, wherever it breaks off.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use shared::app::deliver::{self, Task};
use shared::app::tenant::{self, Erase, Erased, SETTLES_IN, Storage};
use shared::app::{App, clock, projector, relay};
use shared::domain::user::{StaffRole, UserStatus};
use shared::domain::{Role, User, Workspace};
use shared::kernel::secret::Sealed;
use shared::kernel::{Code, Id, Rng};
use shared::ports::objects::Objects;
use shared::ports::queue::QueueName;
use shared::store;
use shared::table::fault::Faults;
use shared::table::{Key, Row, Unit};
use tests::{Agent, Dump, Ledger, Options, Owner, PASSWORD, Persona, ScriptedModel, TestApp};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::usage::{claim, report_all, used};

const LATER: Duration = Duration::from_secs(3_600);
const AT_ONCE: Erase = Erase { with_bills: false, settles_in: Duration::ZERO };

/// Two tenants with everything that can be made.
struct Bench {
    test: TestApp,
    ours: Everything,
    other: Everything,
    _server: MockServer,
}

/// A tenant, and what must be found nowhere when it is gone.
struct Everything {
    owner: Owner,
    key: Persona,
    workspace: Workspace,
    agent: Agent,
    /// The visitor's conversation.
    handle: String,
    /// Texts of its people and visitors, names and slugs.
    texts: Vec<String>,
    /// Secrets as they were given or shown.
    secrets: Vec<String>,
    /// What was said.
    messages: Vec<String>,
}

impl Bench {
    async fn new() -> Self {
        let (server, model) = (MockServer::start().await, ScriptedModel::new());
        Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&server).await;
        let test = TestApp::with(Options { llm: Some(Arc::new(model.clone())), ..Options::default() }).await;
        let ours = everything(&test, &model, &server, "zelda").await;
        let other = everything(&test, &model, &server, "quentin").await;
        Self { test, ours, other, _server: server }
    }

    fn id(&self) -> Id<Workspace> {
        self.ours.workspace.id
    }

    fn at(&self) -> Storage<'_> {
        at(&self.test.app, &self.test.app.objects)
    }

    async fn suspend(&self) {
        tenant::suspend(self.at(), self.id(), false).await.unwrap();
    }

    async fn erase(&self, command: Erase) -> Erased {
        tenant::erase(self.at(), self.id(), command).await.unwrap()
    }

    /// What is left names the tenant nowhere but in its bill, and nothing but the tenant's is gone.
    async fn check_gone(&self, before: &Dump) {
        let after = self.test.db_dump_all().await;
        for (key, item) in &after.0 {
            if !key.starts_with("B#") {
                let text = format!("{key} {item}");
                let named = self.ours.names().into_iter().find(|name| text.contains(name));
                assert!(named.is_none(), "{named:?} is left in {text}");
            }
            assert_eq!(Some(item), before.0.get(key), "{key} was changed");
        }
        let theirs = self.other.names();
        for (key, item) in before.0.iter().filter(|(key, _)| !after.0.contains_key(*key)) {
            let text = format!("{key} {item}");
            assert!(!theirs.iter().any(|name| text.contains(name)), "{text} is the other's");
        }
        assert!(self.test.app.objects.list(self.id(), 10).await.unwrap().is_empty());
        assert_eq!(self.test.app.objects.list(self.other.workspace.id, 10).await.unwrap().len(), 2);
    }
}

fn at<'a>(app: &'a App, objects: &'a Objects) -> Storage<'a> {
    Storage { table: &app.table, objects: Some(objects), clock: &*app.clock }
}

impl Everything {
    /// All that tells of the tenant: ids in each of their faces, and texts.
    fn names(&self) -> Vec<String> {
        let owner: Id<User> = Id::from_int(self.owner.user_id).unwrap();
        let ids = [self.workspace.id.key(), self.workspace.id.int().to_string(), owner.key(), owner.int().to_string()];
        let given =
            [self.owner.email.clone(), self.workspace.slug.clone(), self.agent.slug.clone(), self.handle.clone()];
        ids.into_iter().chain(given).chain(self.texts.clone()).collect()
    }
}

/// Makes everything that the API makes, and what only other tests' ways make.
async fn everything(test: &TestApp, model: &ScriptedModel, server: &MockServer, who: &str) -> Everything {
    let owner = register(test, who).await;
    let (key, raw) = key(&owner, &format!("{who}'s program")).await;
    let revoked = owner.session.post("/api/developers/api-keys", json!({"name": "gone"})).await.expect(201);
    owner.session.delete(&format!("/api/developers/api-keys/{}", revoked["id"])).await.expect(204);
    let (agent, model_key, header) = agents(&owner, who).await;
    let hooks = webhooks(test, &owner, server).await;
    let (handle, messages) = conversation(test, model, &owner, &agent, who).await;
    test.db_member(&owner, Role::Editor).await;
    owner.opens("UTC", json!({"title": format!("a visit to {who}")})).await;
    let booking = json!({"start": "2040-03-08T10:00", "agent_id": agent.id, "notes": format!("a friend of {who} comes"),
        "email": format!("guest@{who}.example")});
    owner.session.post("/api/appointments", booking).await.expect(201);
    let event = json!({"event": "order.paid", "agent_id": agent.id, "data": {"note": format!("{who}'s order")}});
    let once = [("idempotency-key", who)];
    key.call("POST", "/api/developers/events", &once, Some(event)).await.expect(201);
    test.workers().run().await;
    let (webhook, _) = hooks[0];
    owner.session.post(&format!("/api/developers/webhooks/{webhook}/test"), json!({})).await.expect(200);
    let replay = json!({"since": test.now_text()});
    owner.session.post(&format!("/api/developers/webhooks/{webhook}/replay"), replay).await.expect(200);
    test.workers().run().await;
    test.db_failed_delivery(&owner, webhook).await;
    test.db_parked_usage(&owner, agent.id).await;
    let workspace = test.db_workspace(&owner).await;
    for name in ["menu.pdf", "deep/photo.png"] {
        let key = format!("{}/{name}", Objects::of(workspace.id));
        test.app.objects.put(&key, format!("{who}'s file"), "text/plain").await.unwrap();
    }
    let mut secrets = vec![raw, model_key, header, PASSWORD.to_owned(), owner.token.clone()];
    secrets.extend(hooks.into_iter().map(|(_, secret)| secret));
    let texts = vec![who.to_owned()];
    Everything { owner, key, workspace, agent, handle, texts, secrets, messages }
}

async fn register(test: &TestApp, who: &str) -> Owner {
    let email = format!("{who}@example.com");
    let (anybody, body) =
        (test.anonymous(), json!({"email": email, "password": PASSWORD, "name": format!("{who} Doe")}));
    let answer = anybody.post("/api/auth/register", body).await.expect(201);
    let token = answer["access_token"].as_str().unwrap().to_owned();
    let session = anybody.with_bearer(&token);
    let owner = Owner { session, user_id: answer["user"]["id"].as_u64().unwrap(), email, token };
    test.db_set_plan(&owner, shared::domain::plan::PlanKey::Agency).await;
    owner
}

async fn key(owner: &Owner, name: &str) -> (Persona, String) {
    let made = owner.session.post("/api/developers/api-keys", json!({"name": name})).await.expect(201);
    let raw = made["key"].as_str().unwrap().to_owned();
    (owner.session.with_bearer(&raw), raw)
}

/// A live agent, one with a key of its owner's, one that was deleted, and the secrets among them.
async fn agents(owner: &Owner, who: &str) -> (Agent, String, String) {
    let tools = ["capture_lead", "send_whatsapp_handoff"];
    let body = json!({"name": format!("{who} desk"), "system_prompt": format!("You work for {who}."), "tools": tools,
        "publish": true});
    let agent = owner.agent_with(body).await;
    let (model_key, header) = (format!("sk-of-{who}-4f9a8b7c"), format!("Bearer tok-of-{who}"));
    let config = json!({"ai": {"api_key": model_key}, "kapso": {"api_key": format!("kapso-of-{who}")}});
    let own = owner.agent_with(json!({"name": format!("{who} own key"), "publish": true, "config": config})).await;
    let config = json!({"allowed_hosts": ["api.example.com"], "headers": {"authorization": header}});
    let tool = json!({"name": "http_request", "config": config});
    for id in [agent.id, own.id] {
        owner.session.post(&format!("/api/agents/{id}/tools"), tool.clone()).await.expect(201);
        owner.session.post(&format!("/api/agents/{id}/publish"), json!({})).await.expect(200);
    }
    let gone = owner.agent_with(json!({"name": format!("{who} gone"), "publish": true})).await;
    let path = format!("/api/agents/{}", gone.id);
    owner.session.call("DELETE", &path, &[], Some(json!({"confirmation": gone.name}))).await.expect(204);
    (agent, model_key, header)
}

/// Endpoints that take what they are told, that fail, and whose secret was replaced.
async fn webhooks(test: &TestApp, owner: &Owner, server: &MockServer) -> Vec<(u64, String)> {
    let good = owner.webhook(&server.uri(), Value::Null).await;
    let bad = owner.webhook("http://127.0.0.1:9/in", Value::Null).await;
    test.clock.advance(Duration::from_secs(1));
    let path = format!("/api/developers/webhooks/{}/rotate", good.0);
    let rotated = owner.session.post(&path, json!({})).await.expect(200);
    vec![(good.0, rotated["secret"].as_str().unwrap().to_owned()), good, bad]
}

/// A conversation with a lead, a wish for a person and their answer.
async fn conversation(
    test: &TestApp,
    model: &ScriptedModel,
    owner: &Owner,
    agent: &Agent,
    who: &str,
) -> (String, Vec<String>) {
    let mut visitor = test.visitor(agent);
    let said = ["opens", "wants a table", "wants a person"].map(|what| format!("a visitor of {who} {what}"));
    model.says(&format!("At nine, says {who}."));
    visitor.says(&said[0]).await;
    let lead = json!({"name": format!("friend of {who}"), "email": format!("friend@{who}.example"), "phone": null});
    model.calls("capture_lead", lead);
    model.says("Noted.");
    let id = format!("{who}-client-message-1");
    visitor.send_as(&said[1], Some(&id)).await.expect(200);
    model.calls("send_whatsapp_handoff", json!({"reason": format!("{who} is needed")}));
    model.says("A person will write.");
    visitor.says(&said[2]).await;
    let handle = visitor.handle.clone().unwrap();
    let form = json!({"name": format!("aunt of {who}"), "phone": "+351 210 000 111", "conversation_id": handle});
    visitor.persona.post(&format!("/api/public/agents/{}/leads", agent.slug), form).await.expect(201);
    let conversation = owner.conversations(agent).await[0]["id"].as_u64().unwrap();
    owner.takeover(agent, conversation, true).await;
    let answer = format!("{who} answers in person");
    let path = format!("/api/clients/me/agents/{}/conversations/{conversation}/messages", agent.id);
    owner.session.post(&path, json!({"content": answer})).await.expect(201);
    let replies = [format!("At nine, says {who}."), "Noted.".into(), "A person will write.".into(), answer];
    (handle, said.into_iter().chain(replies).collect())
}

/// Everything that an export hands out.
async fn exported(at: Storage<'_>, id: Id<Workspace>) -> Vec<Value> {
    let mut lines = Vec::new();
    let hand = |line: &Value| {
        lines.push(line.clone());
        Ok(())
    };
    tenant::export(at, id, hand).await.unwrap();
    lines
}

/// Every text in a value.
fn texts<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => found.push(text),
        Value::Array(values) => values.iter().for_each(|value| texts(value, found)),
        Value::Object(fields) => fields.values().for_each(|value| texts(value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn an_erased_tenant_is_named_nowhere_and_no_other_is_touched() {
    let bench = Bench::new().await;
    bench.suspend().await;
    let before = bench.test.db_dump_all().await;
    let survey = tenant::survey(bench.at(), bench.id()).await.unwrap();
    assert!(survey.is_there && survey.is_suspended && survey.objects == Some(2) && survey.read_units > 0.0);
    assert_eq!(bench.test.db_dump_all().await.changes_since(&before), [""; 0], "a dry run changes nothing");

    let Erased::Done { items, objects } = bench.erase(AT_ONCE).await else { panic!("the doors need no time") };
    assert_eq!((&items, objects), (&survey.items, Some(2)), "what was told is what went");
    bench.check_gone(&before).await;
    let left = bench.test.db_dump_all().await;
    assert!(left.of("usage").count() >= 8, "the bills stay");
    // Whoever looks again finds nothing.
    assert_eq!(bench.erase(AT_ONCE).await, Erased::Done { items: BTreeMap::new(), objects: Some(0) });
    assert_eq!(bench.test.db_dump_all().await, left);
    let other = bench.other.owner.session.get("/api/agents").await.expect(200);
    assert_eq!(other["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_bill_goes_when_that_is_wanted() {
    let bench = Bench::new().await;
    let account = bench.ours.workspace.billing_account_id.key();
    bench.suspend().await;
    let before = bench.test.db_dump_all().await;
    bench.erase(Erase { with_bills: true, ..AT_ONCE }).await;
    bench.check_gone(&before).await;
    let left = bench.test.db_dump_all().await;
    assert!(!left.contains(&account) && !left.contains(&bench.id().key()), "no bill and no timer of its account");
    assert!(left.contains(&bench.other.workspace.billing_account_id.key()));
}

/// Waits for the death of a process, and until what it had sent by then is carried out.
async fn carried_out(faults: &Faults) {
    faults.death().await;
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_erasure_that_breaks_off_anywhere_is_finished_by_doing_it_again() {
    let bench = Bench::new().await;
    bench.suspend().await;
    let before = bench.test.db_dump_all().await;
    let (mut calls, mut cuts, mut seed) = (1_u32, 0, 0);
    let mut items = before.0.len();
    loop {
        seed += 1;
        // Each run dies a little later than the last one that came to nothing, so that all places have their turn.
        let faults = Faults::new(Rng::seeded(seed));
        faults.die_after(calls, seed % 2 == 0);
        let app = bench.test.process_with(Rng::seeded(seed ^ 77), &faults, Arc::clone(&bench.test.queue) as _);
        let at = at(&app, &bench.test.app.objects);
        tokio::select! {
            biased;
            done = tenant::erase(at, bench.id(), AT_ONCE) => {
                done.unwrap();
                break;
            }
            () = carried_out(&faults) => {}
        }
        let left = bench.test.db_dump_all().await.0.len();
        cuts += usize::from(left < items);
        calls += u32::from(left == items);
        items = left;
    }
    assert!(cuts >= 60, "it was cut off in {cuts} places");
    bench.check_gone(&before).await;
}

#[tokio::test]
async fn an_owner_who_may_log_in_and_staff_are_not_erased() {
    let bench = Bench::new().await;
    let before = bench.test.db_dump().await;
    let refused = tenant::erase(bench.at(), bench.id(), AT_ONCE).await.unwrap_err();
    assert_eq!((refused.code(), refused.message().contains("Suspend")), (Code::Conflict, true));
    assert_eq!(bench.test.db_dump().await.changes_since(&before), [""; 0]);

    bench.suspend().await;
    assert_eq!(bench.ours.owner.session.get("/api/auth/me").await.code(401), "unauthenticated");
    let login = json!({"email": bench.ours.owner.email, "password": PASSWORD});
    assert_eq!(bench.test.anonymous().post("/api/auth/login", login.clone()).await.code(403), "forbidden");
    tenant::suspend(bench.at(), bench.id(), true).await.unwrap();
    bench.test.anonymous().post("/api/auth/login", login).await.expect(200);

    let user = Id::from_int(bench.ours.owner.user_id).unwrap();
    let user = store::user::get(&bench.test.app.table, user).await.unwrap().unwrap();
    let staff = User { staff_role: Some(StaffRole::Superadmin), status: UserStatus::Suspended, ..user };
    store::user::overwrite(&bench.test.app.table, &staff).await.unwrap();
    assert_eq!(tenant::erase(bench.at(), bench.id(), AT_ONCE).await.unwrap_err().code(), Code::Forbidden);
    assert_eq!(tenant::suspend(bench.at(), bench.id(), false).await.unwrap_err().code(), Code::Forbidden);
}

#[tokio::test]
async fn the_doors_are_closed_before_anything_goes() {
    let bench = Bench::new().await;
    bench.suspend().await;
    let slow = Erase { settles_in: SETTLES_IN, ..AT_ONCE };
    let until = bench.test.app.now() + SETTLES_IN;
    let Erased::Closed { until: told, items } = bench.erase(slow).await else { panic!("it takes its time") };
    assert_eq!((told, items["key_lookup"], items["public_slug"], items.get("message")), (until, 1, 2, None));
    // What processes remember of doors, they remember for five seconds.
    bench.test.clock.advance(Duration::from_secs(6));
    let (ours, anybody) = (&bench.ours, bench.test.anonymous());
    assert_eq!(ours.key.get("/api/agents").await.code(401), "unauthenticated");
    let chat = format!("/api/public/agents/{}/chat", ours.agent.slug);
    assert_eq!(anybody.post(&chat, json!({"message": "Hello?"})).await.status, 404);
    let goes_on = json!({"message": "Hello?", "conversation_id": ours.handle});
    assert_eq!(anybody.post(&chat, goes_on).await.status, 404);
    let messages = format!("/api/public/agents/{}/conversations/{}/messages", ours.agent.slug, ours.handle);
    assert_eq!(anybody.get(&messages).await.status, 404);
    assert_eq!(anybody.get(&format!("/{}", ours.agent.slug)).await.status, 404);
    assert_eq!(tenant::suspend(bench.at(), bench.id(), true).await.unwrap_err().code(), Code::Forbidden);
    let again = Erased::Closed { until, items: BTreeMap::new() };
    assert_eq!(bench.erase(slow).await, again, "asking again does not put it off");
    assert!(bench.test.db_dump().await.contains("a visitor of zelda"), "what is under way has its time");

    bench.test.clock.advance(SETTLES_IN);
    let before = bench.test.db_dump_all().await;
    assert!(matches!(bench.erase(slow).await, Erased::Done { .. }));
    bench.check_gone(&before).await;
    // The address is free, and whoever takes it finds nothing of before.
    let new = register(&bench.test, "zelda").await;
    assert_eq!(new.session.get("/api/agents").await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn what_workers_still_have_of_an_erased_tenant_does_no_harm() {
    let bench = Bench::new().await;
    let app = &bench.test.app;
    let note = json!({"event": "order.late", "data": {"note": "zelda's last order"}});
    bench.ours.key.post("/api/developers/events", note).await.expect(201);
    let events = bench.test.workers().events().await;
    let ours: Vec<_> = events.into_iter().filter(|event| event.workspace_id == bench.id()).collect();
    relay::fan_out(app, &ours).await.unwrap();
    let mut tasks: Vec<Task> = Vec::new();
    for message in bench.test.queue.take(QueueName::Deliver) {
        tasks.push(serde_json::from_str(&message.body).unwrap());
    }
    for (kind, least) in [("deliver", 10), ("mail", 1)] {
        assert!(tasks.iter().filter(|task| task.kind() == kind).count() >= least, "{kind}");
    }
    let (webhook_id, event) = tasks
        .iter()
        .find_map(|task| match task {
            Task::Deliver { webhook_id, event, .. } => Some((*webhook_id, event.clone())),
            _ => None,
        })
        .unwrap();
    let (workspace_id, event_id) = (bench.id(), event.id);
    tasks.push(Task::Attempt { workspace_id, webhook_id, event_id, attempt: 1, deferred: 0 });
    let step = deliver::replay::Step { workspace_id, webhook_id, replay_id: event_id, position: String::new() };
    tasks.push(Task::Replay(step));
    bench.suspend().await;
    let before = bench.test.db_dump_all().await;
    bench.erase(AT_ONCE).await;
    bench.test.clock.advance(Duration::from_secs(6));

    let mails = bench.test.mail.sent().len();
    for task in &tasks {
        deliver::run(app, QueueName::Deliver, task).await.unwrap();
    }
    assert_eq!(bench.test.mail.sent().len(), mails, "nobody gets mail of what is gone");
    bench.check_gone(&before).await;
    // The stream's readers, should they be so late.
    relay::fan_out(app, &ours).await.unwrap();
    assert!(bench.test.queue.take(QueueName::Deliver).iter().all(|message| !message.body.contains("\"deliver\"")));
    projector::project(app, &ours).await.unwrap();
    bench.test.clock.advance(LATER);
    clock::tick(app).await.unwrap();
    bench.test.workers().run_queues().await;
    // They counted for a tenant that is gone; doing it again takes that away.
    let Erased::Done { items, .. } = bench.erase(AT_ONCE).await else { panic!("nothing is open") };
    let kinds: BTreeSet<&str> = items.keys().map(String::as_str).collect();
    assert_eq!(kinds, BTreeSet::from(["rollup", "rollup_marker"]));
    let after = bench.test.db_dump_all().await;
    let bills = |key: &String| key.starts_with("B#");
    let named = after.0.iter().find(|(key, item)| !bills(key) && format!("{key} {item}").contains(&bench.id().key()));
    assert_eq!(named, None);
}

#[tokio::test]
async fn usage_of_an_erased_tenant_is_still_reported_unless_its_bill_went_too() {
    let (test, ledger) = Ledger::with_app().await;
    let at = at(&test.app, &test.app.objects);
    for (with_bills, reported) in [(false, 5), (true, 5)] {
        let (owner, _) = used(&test, 5).await;
        let id = test.db_workspace(&owner).await.id;
        let claimed = claim(&test, false).await;
        assert!(!claimed.is_empty());
        tenant::suspend(at, id, false).await.unwrap();
        tenant::erase(at, id, Erase { with_bills, ..AT_ONCE }).await.unwrap();
        report_all(&test, &claimed).await;
        test.clock.advance(LATER);
        clock::tick(&test.app).await.unwrap();
        report_all(&test, &claim(&test, true).await).await;
        assert_eq!(ledger.len(), reported, "with bills: {with_bills}");
    }
}

#[tokio::test]
async fn an_export_has_every_message_and_no_secret() {
    let bench = Bench::new().await;
    let lines = exported(bench.at(), bench.id()).await;
    assert_eq!((&lines[0]["kind"], &lines[0]["workspace_id"]), (&json!("export"), &json!(bench.id().text())));
    let said: BTreeSet<&str> = lines
        .iter()
        .filter(|line| line["kind"] == "message")
        .map(|line| line["item"]["content"].as_str().unwrap())
        .collect();
    assert_eq!(said, bench.ours.messages.iter().map(String::as_str).collect());
    let kinds: BTreeSet<&str> = lines.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    let wanted = [
        "workspace",
        "user",
        "membership",
        "agent",
        "section",
        "tool_binding",
        "live",
        "api_key",
        "webhook",
        "delivery",
        "conversation",
        "contact",
        "lead",
        "event",
        "audit",
        "usage",
        "billing_account",
        "object",
        "timer",
        "availability",
        "busy_day",
        "appointment",
    ];
    for kind in wanted {
        assert!(kinds.contains(kind), "{kind} is not among {kinds:?}");
    }
    let whole: String = lines.iter().map(|line| format!("{line}\n")).collect();
    for secret in &bench.ours.secrets {
        assert!(!whole.contains(secret.as_str()), "{secret} is handed out");
    }
    let dump = bench.test.db_dump_all().await;
    let mut stored = Vec::new();
    dump.0.values().for_each(|item| texts(item, &mut stored));
    let sealed: Vec<&str> = stored.into_iter().filter(|text| Sealed::is_like(text)).collect();
    assert!(sealed.len() >= 10, "what is looked for is there: {}", sealed.len());
    assert!(sealed.iter().all(|sealed| !whole.contains(sealed)), "something sealed is handed out");
    for (et, field) in [("user", "password_hash"), ("api_key", "hash"), ("session", "sid")] {
        assert!(dump.of(et).count() > 0, "{et}");
        assert!(dump.of(et).all(|item| !whole.contains(item[field].as_str().unwrap()) || item[field] == ""), "{field}");
    }
    let theirs = bench.other.names();
    assert!(!theirs.iter().any(|name| whole.contains(name)), "something is another tenant's");
}

#[tokio::test]
async fn a_tenant_larger_than_a_page_of_the_table_goes_as_a_whole() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let workspace = test.db_workspace(&owner).await;
    let pk = store::keys::conversations(workspace.id);
    for number in 0..24 {
        let mut unit = Unit::new();
        unit.put(Row::new(Key::new(&pk, number.to_string()), "large", &json!({"text": "x".repeat(100_000)})).unwrap());
        test.app.commit(unit).await.unwrap();
    }
    let at = at(&test.app, &test.app.objects);
    assert_eq!(exported(at, workspace.id).await.iter().filter(|line| line["kind"] == "large").count(), 24);
    let survey = tenant::survey(at, workspace.id).await.unwrap();
    assert!(survey.read_units >= 500.0, "a unit for 4 KB: {}", survey.read_units);
    tenant::suspend(at, workspace.id, false).await.unwrap();
    let Erased::Done { items, .. } = tenant::erase(at, workspace.id, AT_ONCE).await.unwrap() else { panic!("open") };
    assert_eq!(items["large"], 24);
    let dump = test.db_dump_all().await;
    assert_eq!(dump.of("large").count(), 0);
    assert!(!dump.0.iter().any(|(key, item)| !key.starts_with("B#") && item.to_string().contains(&workspace.id.key())));
}

#[tokio::test]
async fn somebody_who_belongs_elsewhere_too_stays() {
    let test = TestApp::new().await;
    let (owner, other) = (test.owner().await, test.owner().await);
    let (here, elsewhere) = (test.db_workspace(&owner).await, test.db_workspace(&other).await);
    let agent = other.agent("Soporte").await;
    // The owner of the other workspace is a member here, and has it as their usual one.
    let id = Id::from_int(other.user_id).unwrap();
    let user = store::user::get(&test.app.table, id).await.unwrap().unwrap();
    let member = shared::domain::Membership::new(here.id, id, Role::Editor, test.app.now());
    let mut unit = Unit::new();
    store::workspace::add_member(&mut unit, &member).unwrap();
    test.app.commit(unit).await.unwrap();
    store::user::overwrite(&test.app.table, &User { default_workspace_id: here.id, ..user }).await.unwrap();
    test.db_session(&here, id, Role::Editor, None).await;
    let at = at(&test.app, &test.app.objects);
    assert_eq!(tenant::find(at, &other.email).await.unwrap_err().code(), Code::NotFound, "they do not own it");
    assert_eq!(tenant::find(at, &owner.email.to_uppercase()).await.unwrap(), here.id);
    tenant::suspend(at, here.id, false).await.unwrap();
    tenant::erase(at, here.id, AT_ONCE).await.unwrap();
    let user = store::user::get(&test.app.table, id).await.unwrap().unwrap();
    assert_eq!((user.default_workspace_id, user.status), (elsewhere.id, UserStatus::Active));
    let login = json!({"email": other.email, "password": PASSWORD});
    let token = test.anonymous().post("/api/auth/login", login).await.expect(200)["access_token"].clone();
    let session = test.anonymous().with_bearer(token.as_str().unwrap());
    assert_eq!(session.get("/api/agents").await.expect(200)["items"][0]["id"], agent.id);
    let named = test.db_dump_all().await;
    assert!(!named.0.iter().any(|(key, item)| !key.starts_with("B#") && item.to_string().contains(&here.id.key())));
}
