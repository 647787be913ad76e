//! Past the API: what tests make or look at without asking a surface, for what no surface can do yet.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use shared::app::auth::ensure_superadmin;
use shared::app::password;
use shared::domain::audit::AuditEntry;
use shared::domain::message::{Author, Message};
use shared::domain::usage::{KeySource, UsageEvent};
use shared::domain::user::{StaffRole, UserStatus};
use shared::domain::webhook::{Delivery, DeliveryStatus, Replay, ReplayStatus};
use shared::domain::whatsapp::{File, FileKind};
use shared::domain::{Agent, Conversation, Event, Membership, Role, Session, User, Workspace};
use shared::http::gate::BoxFuture;
use shared::kernel::secret::hmac_sha256;
use shared::kernel::{Id, Secret};
use shared::ports::objects::Objects;
use shared::store;
use shared::table::{AttributeValue, Item, Unit};
use uuid::Uuid;

use crate::personas::PASSWORD;
use crate::{ENGINE, Owner, Persona, TestApp};

/// Every item of a table, by its key, as JSON with sorted fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dump(pub BTreeMap<String, Value>);

impl Dump {
    /// Whether a text is in any key or field.
    #[must_use]
    pub fn contains(&self, text: &str) -> bool {
        self.0.iter().any(|(key, item)| key.contains(text) || item.to_string().contains(text))
    }

    /// The items of an entity type.
    pub fn of(&self, et: &str) -> impl Iterator<Item = &Value> {
        self.0.values().filter(move |item| item["et"] == et)
    }

    /// What was added, changed or removed since an earlier dump: the keys.
    #[must_use]
    pub fn changes_since(&self, earlier: &Self) -> Vec<String> {
        let keys = self.0.keys().chain(earlier.0.keys());
        let changed = keys.filter(|key| self.0.get(*key) != earlier.0.get(*key)).cloned();
        changed.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }
}

/// Reads a whole table.
pub(crate) type Scan = Box<dyn Fn() -> BoxFuture<'static, Vec<Item>> + Send + Sync>;

/// A reader of everything in a table.
pub(crate) fn scan(table: String) -> Scan {
    let client = LazyLock::new(|| ENGINE.client());
    Box::new(move || {
        let (client, table) = (LazyLock::force(&client).clone(), table.clone());
        Box::pin(async move {
            let (mut items, mut start) = (Vec::new(), None);
            loop {
                let scan = client.scan().table_name(&table).consistent_read(true).set_exclusive_start_key(start);
                let page = scan.send().await.expect("the table is read");
                items.extend(page.items.unwrap_or_default());
                start = page.last_evaluated_key;
                if start.is_none() {
                    return items;
                }
            }
        })
    })
}

/// Sees what changes in a table. Looking costs time, so it looks only when something was written.
pub struct Watch<'a> {
    test: &'a TestApp,
    seen: Dump,
}

impl Watch<'_> {
    /// The keys of the items that changed since the last look.
    pub async fn changes(&mut self) -> Vec<String> {
        let wrote = self.test.app.table.meter().take().iter().any(|call| call.write > 0.0);
        let changes = if wrote {
            let now = self.test.db_dump().await;
            let changes = now.changes_since(&self.seen);
            self.seen = now;
            changes
        } else {
            Vec::new()
        };
        self.test.app.table.meter().record();
        changes
    }
}

impl TestApp {
    /// Watches the table from now on.
    pub async fn db_watch(&self) -> Watch<'_> {
        let seen = self.db_dump().await;
        self.app.table.meter().record();
        Watch { test: self, seen }
    }

    /// Every item of the table, but for the windows of rate limits, which every call may move.
    ///
    /// # Panics
    /// When the table cannot be read.
    pub async fn db_dump(&self) -> Dump {
        let mut dump = self.db_dump_all().await;
        dump.0.retain(|key, _| !key.starts_with("RL#"));
        dump
    }

    /// Every item of the table.
    ///
    /// # Panics
    /// When the table cannot be read.
    pub async fn db_dump_all(&self) -> Dump {
        let items = (self.scan)().await.into_iter().map(|item| {
            let item = plain(&AttributeValue::M(item));
            let part = |name: &str| item[name].as_str().expect("a key is text").to_owned();
            (format!("{} / {}", part("pk"), part("sk")), item)
        });
        Dump(items.collect())
    }

    /// What the table's stream has told of new events, one record each, as Lambda is given them.
    ///
    /// # Panics
    /// When the table cannot be read.
    pub async fn db_stream(&self) -> Vec<Value> {
        let events =
            (self.scan)().await.into_iter().filter(|item| item.get("et") == Some(&AttributeValue::S("event".into())));
        let record = |(number, item): (usize, Item)| {
            let keys: Item = item.iter().filter(|(name, _)| ["pk", "sk"].contains(&name.as_str())).map(owned).collect();
            json!({"eventID": number.to_string(), "eventName": "INSERT", "eventSource": "aws:dynamodb",
                "awsRegion": "eu-west-1", "dynamodb": {
                    "ApproximateCreationDateTime": self.app.now().seconds(), "SequenceNumber": number.to_string(),
                    "StreamViewType": "NEW_AND_OLD_IMAGES", "SizeBytes": 500, "Keys": image(&keys), "NewImage": image(&item)}})
        };
        events.enumerate().map(record).collect()
    }

    /// The workspace of an owner.
    ///
    /// # Panics
    /// When it is not there.
    pub async fn db_workspace(&self, owner: &Owner) -> Workspace {
        let user = Id::from_int(owner.user_id).expect("an id");
        let user = store::user::get(&self.app.table, user).await.expect("readable").expect("the user exists");
        store::workspace::get(&self.app.table, user.default_workspace_id).await.expect("the workspace exists").body
    }

    /// Somebody with a role in an owner's workspace, logged in.
    ///
    /// # Panics
    /// When the table refuses them.
    pub async fn db_member(&self, owner: &Owner, role: Role) -> Persona {
        let (workspace, now) = (self.db_workspace(owner).await, self.app.now());
        let id: Id<User> = self.app.ids().id();
        let secret = Secret::new(PASSWORD);
        let hash = password::hash(&self.app.rng, &secret);
        let user = User {
            id,
            email: format!("{}@example.com", id.text()),
            password_hash: hash.await.expect("a hash"),
            name: format!("{role:?}"),
            email_verified: false,
            status: UserStatus::Active,
            staff_role: None,
            default_workspace_id: workspace.id,
            billing_account_id: workspace.billing_account_id,
            created_at: now,
            updated_at: now,
        };
        let membership = Membership::new(workspace.id, user.id, role, now);
        let mut unit = Unit::new();
        store::user::create(&mut unit, &user).expect("serialises");
        store::workspace::add_member(&mut unit, &membership).expect("serialises");
        self.app.commit(unit).await.expect("the member is written");
        self.db_session(&workspace, user.id, role, None).await
    }

    /// A session of a user in a workspace, with whatever role it should have.
    ///
    /// # Panics
    /// When the table refuses it.
    pub async fn db_session(
        &self,
        workspace: &Workspace,
        user: Id<User>,
        role: Role,
        staff_role: Option<StaffRole>,
    ) -> Persona {
        let now = self.app.now();
        let session = Session {
            sid: format!("{:032x}", u128::from_be_bytes(self.app.rng.bytes::<16>())),
            user_id: user,
            workspace_id: workspace.id,
            billing_account_id: workspace.billing_account_id,
            owner_user_id: workspace.owner_user_id,
            role,
            staff_role,
            impersonator: None,
            created_at: now,
            expires_at: now + shared::domain::session::LIFETIME,
        };
        let mut unit = Unit::new();
        store::session::create(&mut unit, &session).expect("serialises");
        self.app.commit(unit).await.expect("the session is written");
        self.anonymous().with_bearer(&self.token(&session).await)
    }

    /// A session's token, signed as the product signs it.
    async fn token(&self, session: &Session) -> String {
        let keys = self.app.keys().await.expect("keys");
        let (key_id, key) = keys.session.current();
        let claims = json!({
            "sub": session.user_id.text(),
            "sid": session.sid,
            "ws": session.workspace_id.text(),
            "kind": "user",
            "iat": session.created_at.seconds(),
            "exp": session.expires_at.seconds(),
        });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&json!({"alg": "HS256", "typ": "JWT", "kid": key_id})), part(&claims));
        let signature = URL_SAFE_NO_PAD.encode(hmac_sha256(key, &[signed.as_bytes()]));
        format!("{signed}.{signature}")
    }

    /// The operator of the installation, logged in.
    ///
    /// # Panics
    /// When they cannot be made.
    pub async fn superadmin(&self) -> Persona {
        // Few log-ins a minute are allowed, so a session is used as long as it lasts.
        let mut kept = self.root.lock().await;
        if let Some(root) = kept.as_ref()
            && root.get("/api/auth/me").await.status == 200
        {
            return root.clone();
        }
        let (email, password) = ("root@example.com", Secret::new(PASSWORD));
        ensure_superadmin(&self.app, email, &password).await.expect("a superadmin");
        let anybody = self.anonymous();
        let login = anybody.post("/api/auth/login", json!({"email": email, "password": PASSWORD})).await.expect(200);
        kept.insert(anybody.with_bearer(login["access_token"].as_str().expect("a token"))).clone()
    }

    /// A delivery to a webhook that was given up.
    ///
    /// # Panics
    /// When the table refuses it.
    pub async fn db_failed_delivery(&self, owner: &Owner, webhook: u64) -> Uuid {
        let (workspace, now, event_id) = (self.db_workspace(owner).await, self.app.now(), self.app.ids().uuid());
        let webhook_id = Id::from_int(webhook).expect("an id");
        let delivery = Delivery {
            id: Delivery::id_for(webhook_id, event_id),
            workspace_id: workspace.id,
            webhook_id,
            event_id,
            event: "agent.created".into(),
            payload: "{}".into(),
            status: DeliveryStatus::Failed,
            attempt: 6,
            tries: 6,
            lost: 0,
            claimed_until: 0,
            request_id: None,
            claim: None,
            reason: None,
            replay: None,
            attempts: Vec::new(),
            next_at: None,
            deferrals: 0,
            created_at: now,
            updated_at: now,
        };
        let mut unit = Unit::new();
        store::delivery::create(&mut unit, &delivery).expect("serialises");
        self.app.commit(unit).await.expect("the delivery is written");
        delivery.id
    }

    /// A replay to a webhook that was done.
    ///
    /// # Panics
    /// When the table refuses it.
    pub async fn db_replay(&self, owner: &Owner, webhook: u64) {
        let (workspace, now) = (self.db_workspace(owner).await, self.app.now());
        let replay = Replay {
            id: self.app.ids().uuid(),
            workspace_id: workspace.id,
            webhook_id: Id::from_int(webhook).expect("an id"),
            event_ids: Vec::new(),
            since: Some(now),
            until: Some(now),
            include_delivered: false,
            after: String::new(),
            before: None,
            queued: 0,
            status: ReplayStatus::Done,
            started_at: now,
            moved_at: now,
            ended_at: Some(now),
        };
        let mut unit = Unit::new();
        store::replay::begin(&mut unit, &replay, None).expect("serialises");
        self.app.commit(unit).await.expect("the replay is written");
    }
}

impl TestApp {
    /// Adds drafts beside an agent that is there.
    ///
    /// # Panics
    /// When the table refuses them.
    pub async fn db_drafts(&self, owner: &Owner, like: u64, count: usize) {
        let (table, workspace) = (&self.app.table, self.db_workspace(owner).await.id);
        let like = store::agent::get(table, workspace, Id::from_int(like).expect("an id")).await.expect("there").body;
        for number in 0..count {
            let agent = Agent { id: self.app.ids().id(), slug: format!("draft-{number}"), ..like.clone() };
            let mut unit = Unit::new();
            store::agent::create(&mut unit, &agent).expect("serialises");
            self.app.commit(unit).await.expect("the draft is written");
        }
    }

    /// Adds a message of an operator with a file to a conversation, and gives the file's id.
    ///
    /// # Panics
    /// When the table refuses it.
    pub async fn db_file(&self, owner: &Owner, conversation: u64) -> u64 {
        let (workspace, bytes) = (self.db_workspace(owner).await.id, "We open at 9.");
        let (id, name) = (self.app.ids().id(), Some("notes.txt".to_owned()));
        let (key, mime) = (format!("{}/whatsapp/notes", Objects::of(workspace)), "text/plain");
        self.app.objects.put(&key, bytes, mime).await.expect("the object is kept");
        let kind = FileKind::Document;
        let (size, mime, object) = (Some(bytes.len() as u64), Some(mime.to_owned()), Some(key));
        let message = Message {
            id,
            conversation_id: Id::from_int(conversation).expect("an id"),
            author: Author::Operator,
            content: "[document: notes.txt]".into(),
            client_message_id: None,
            reply: None,
            author_user_id: None,
            delivery: None,
            file: Some(File { kind, mime, name, bytes: size, object, missing: None }),
            created_at: self.app.now(),
        };
        let mut unit = Unit::new();
        store::conversation::add_message(&mut unit, workspace, &message).expect("serialises");
        self.app.commit(unit).await.expect("the message is written");
        id.int()
    }

    /// Puts so many entries into the workspace's audit log.
    ///
    /// # Panics
    /// When they cannot be written.
    pub async fn db_audit(&self, owner: &Owner, count: usize) {
        let workspace_id = self.db_workspace(owner).await.id;
        for some in (0..count).collect::<Vec<_>>().chunks(100) {
            let mut unit = Unit::new();
            for number in some {
                let entry = AuditEntry {
                    id: self.app.ids().uuid(),
                    workspace_id,
                    actor: "system".into(),
                    impersonator: None,
                    reason: None,
                    action: "made_up".into(),
                    target: format!("/made/up/{number}"),
                    ip: None,
                    at: self.app.now(),
                };
                store::audit::create(&mut unit, &entry).expect("serialises");
            }
            self.app.commit(unit).await.expect("the entries are written");
        }
    }

    /// Adds messages of an operator to a conversation: `0`, `1` and so on.
    ///
    /// # Panics
    /// When the table refuses them.
    pub async fn db_messages(&self, owner: &Owner, conversation: u64, count: usize) {
        let workspace = self.db_workspace(owner).await;
        let numbers: Vec<usize> = (0..count).collect();
        for some in numbers.chunks(100) {
            let mut unit = Unit::new();
            for number in some {
                let message = Message {
                    id: self.app.ids().id(),
                    conversation_id: Id::from_int(conversation).expect("an id"),
                    author: Author::Operator,
                    content: number.to_string(),
                    client_message_id: None,
                    reply: None,
                    author_user_id: None,
                    delivery: None,
                    file: None,
                    created_at: self.app.now(),
                };
                store::conversation::add_message(&mut unit, workspace.id, &message).expect("serialises");
            }
            self.app.commit(unit).await.expect("the messages are written");
        }
    }
}

fn owned((name, value): (&String, &AttributeValue)) -> (String, AttributeValue) {
    (name.clone(), value.clone())
}

/// An item as the protocol of DynamoDB has it.
fn image(item: &Item) -> Value {
    item.iter().map(|(name, value)| (name.clone(), typed(value))).collect::<Map<_, _>>().into()
}

fn typed(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::S(text) => json!({"S": text}),
        AttributeValue::N(number) => json!({"N": number}),
        AttributeValue::Bool(bool) => json!({"BOOL": bool}),
        AttributeValue::Null(_) => json!({"NULL": true}),
        AttributeValue::L(list) => json!({"L": list.iter().map(typed).collect::<Vec<_>>()}),
        AttributeValue::M(map) => json!({"M": image(map)}),
        other => panic!("an event has no {other:?}"),
    }
}

/// An attribute as JSON; maps sorted, so that equal items are equal texts.
fn plain(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::S(text) => json!(text),
        AttributeValue::N(number) => json!({"n": number}),
        AttributeValue::Bool(bool) => json!(bool),
        AttributeValue::L(list) => list.iter().map(plain).collect(),
        AttributeValue::M(map) => {
            let sorted: BTreeMap<_, _> = map.iter().collect();
            let sorted: Map<_, _> = sorted.into_iter().map(|(name, value)| (name.clone(), plain(value))).collect();
            Value::Object(sorted)
        }
        other => json!(format!("{other:?}")),
    }
}

impl TestApp {
    /// Stores usage events with these ids as if an agent had answered, each with the event that tells of it, and
    /// gives both. Every third is with the customer's key, every fifth is included.
    ///
    /// # Panics
    /// When the table refuses them.
    pub async fn db_use(&self, owner: &Owner, agent: u64, ids: &[Uuid]) -> Vec<(UsageEvent, Event)> {
        let (account, workspace) = (self.db_account(owner).await, self.db_workspace(owner).await);
        let agent_id = Id::from_int(agent).expect("an id");
        let (conversation, now): (Id<Conversation>, _) = (self.app.ids().id(), self.app.now());
        let head: Conversation = serde_json::from_value(json!({
            "id": conversation, "workspace_id": workspace.id, "agent_id": agent_id, "agent_name": "", "channel": "webchat",
            "status": "open", "last_message_at": now, "listed_at": now, "created_at": now,
        }))
        .expect("a head");
        let mut made = Vec::new();
        for (number, id) in ids.iter().enumerate() {
            let key_source = if number % 3 == 0 { KeySource::Byok } else { KeySource::Managed };
            let usage = UsageEvent {
                id: *id,
                billing_account_id: account.id,
                workspace_id: workspace.id,
                agent_id,
                conversation_id: head.id,
                message_id: self.app.ids().id(),
                key_source,
                unit_cost: key_source.unit_cost(),
                included: number % 5 == 0,
                at: self.app.now(),
                reported_at: None,
                parked: None,
                parked_at: None,
                put_back_at: None,
            };
            let event = self.app.events().message_reply(&head, account.id, usage.message_id, Some(&usage));
            made.push((usage, event));
        }
        for some in made.chunks(50) {
            let mut unit = Unit::new();
            for (usage, event) in some {
                store::usage::create(&mut unit, usage).expect("serialises");
                shared::events::emit(&mut unit, event).expect("serialises");
            }
            self.app.commit(unit).await.expect("the usage is written");
        }
        made
    }

    /// A usage event that Polar refused.
    ///
    /// # Panics
    /// When the table refuses it.
    pub async fn db_parked_usage(&self, owner: &Owner, agent: u64) -> Uuid {
        let (usage, _) = self.db_use(owner, agent, &self.event_ids(1, None)).await.remove(0);
        store::usage::park(&self.app.table, &usage, "Polar answered 422", self.app.now()).await.expect("it is parked");
        usage.id
    }

    /// Fresh ids for [`Self::db_use`]; `shard` puts them all into one shard.
    #[must_use]
    pub fn event_ids(&self, count: usize, shard: Option<u8>) -> Vec<Uuid> {
        let mut ids: Vec<Uuid> = (0..count).map(|_| self.app.ids().uuid()).collect();
        if let Some(shard) = shard {
            for id in &mut ids {
                let mut bytes = id.into_bytes();
                bytes[15] = shard;
                *id = Uuid::from_bytes(bytes);
            }
        }
        ids.sort_unstable();
        ids
    }
}
