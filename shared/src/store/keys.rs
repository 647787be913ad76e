//! The map of the whole table. Nothing else in the project writes a key.
//!
//! `W` = `W#<workspace>`, `A` = `W#<workspace>#A#<agent>`, `C` = `W#<workspace>#C#<conversation>`,
//! `B` = `B#<billing account>`. Ids in keys are their eleven time-ordered characters; event ids are UUIDv7 text.
//!
//! | entity | pk | sk | gsi1 | gsi2 | read by |
//! | --- | --- | --- | --- | --- | --- |
//! | user | `U#<u>` | `USER` | `USERS` / id | | log-in, me, the operator's list |
//! | e-mail guard → user | `EMAIL#<lower>` | `G` | | | log-in |
//! | session | `SES#<sid>` | `S` | `U#<u>#SES` / created, sid | | every request with a session |
//! | workspace | `W` | `WS` | | | settings, compile |
//! | workspace slug guard | `WSLUG#<slug>` | `G` | | | uniqueness; goes with an erased workspace only |
//! | membership | `W` | `MEM#<u>` | `U#<u>#MEM` / W | | log-in, team, what is granted to a client |
//! | link to set a password anew | `RESET#<sha256>` | `G` | | | that call; 1 h |
//! | key, as its owner sees it | `W` | `KEY#<kind>#<id>` | | | lists |
//! | key look-up | `KEY#<sha256>` | `K` | | | every request with a key |
//! | keys, webhooks, clients of a workspace | `W` | `CNT#keys#<kind>`, `CNT#webhooks`, `CNT#clients` | | | making one: the limit holds also for many at once |
//! | agent head | `W` | `AG#<a>` | | | lists |
//! | agent slug guard | `W` | `AGSLUG#<slug>` | | | uniqueness |
//! | tool binding | `A` | `BIND#<tool>` | | | detail, compile |
//! | definition section | `A` | `DEF#<section>` | | | detail, compile |
//! | live snapshot | `A` | `LIVE` | | | **every turn** (cached ≤ 5 s) |
//! | agent secret | `A` | `SEC#<field>` | | | compile |
//! | version | `A` | `VER#<number, six digits>` | | | history, bringing back; the last 50 |
//! | public slug alias | `PUB#<slug>` | `G` | | | public chat and page (cached ≤ 5 s) |
//! | conversation head | `C` | `~` | `W#CV` / o or c, listed at, id | `A#CV` / listed at, id | thread (sorts behind its messages), lists |
//! | message | `C` | `M#<id>` | | | thread; nothing but `M#` and `~` lies in `C` |
//! | client message id → message | `A#CMID` | `<sha256 of scope and id>` | | | repeats; 48 h |
//! | WhatsApp number → agent | `WA#<number>` | `G` | | | callbacks (cached ≤ 5 s), sending; first come |
//! | WhatsApp person → conversation | `A#WAP` | `<sha256 of user id or phone>` | | | messages that come in |
//! | WhatsApp message id → message, or its parked status | `A#WAM` | `<sha256>` | | | repeats, statuses; 35 d |
//! | tool call result | `C#T` | `<message>#<index>-<digest>` | | | repeated turns; 30 d |
//! | contact | `W#CT` | `CT#<id>` | | | directory |
//! | contact guards | `W` | `CPH#<digits>`, `CEM#<e-mail>` | | | find by phone or e-mail |
//! | contact of a site's user | `W` | `CID#<agent>#<sha256 of user id>` | | | turns that bring a signed identity |
//! | lead | `A` | `LEAD#<id>` | `W#LEAD` / id | | lists |
//! | lead guard | `C#T` | `LEADG#<contact>` | | | one lead per contact and conversation |
//! | webhook endpoint | `W` | `WH#<id>` | | | relay, lists |
//! | how an endpoint fares | `W#WHH` | `<endpoint>` | | | every attempt; lists |
//! | last replay to an endpoint | `W` | `REPLAY#<endpoint>` | | | each step of it |
//! | delivery | `W#WH#<endpoint>` | `DL#<event>` | | waiting: `DUE#WH#<0-15>` / due, id; failed: `W#WH#<endpoint>#F` / `DL#<event>` | lists; one by id; due scan; failed ones; 35 d |
//! | mail that went out | `W#ML` | `<event>`, `<event>#<whom>` | | | each event mailed once to each; 35 d |
//! | invitation to an appointment | `W#ML` | `INV#<id>` | | | a cancellation goes to who was invited; until 35 d after |
//! | availability | `W` | `SCH#<u>` | | | slots, booking |
//! | what is held of a day | `W#CAL#<u>` | `DAY#<yyyy-mm-dd>` | | | slots; booking changes it by condition; until 35 d after |
//! | appointment | `W#AP` | `AP#<id>` | `W#APD` / start, id | | lists, changes |
//! | appointments of a conversation | `C#T` | `CNT#appointments` | | | booking in a chat: the limit |
//! | billing account | `B` | `ACC` | `ACCOUNTS` / id | | every turn; reconciliation |
//! | subscription | `B` | `SUB#<provider>#<its id>` | | | the provider's callbacks |
//! | call of a provider that was heard | `HOOK#<provider>#<its id>` | `H` | | | that call, come again; 30 d |
//! | allowance | `B` | `USE#<period>` | | | every turn: a plain conditional counter |
//! | alert that was sent | `B` | `ALERT#<period>#<of>#<percent>` | | | once a period; 400 d |
//! | published agents | `B` | `CNT#agents` | | | publish |
//! | usage event | `B#U#<yyyymm>` | `<id>` | unreported: `UNREP#<0-15>#<yyyymm>` / id; parked: `PARKED` / id | | bill, usage-batch |
//! | usage batch claim | `UB#<0-15>` | `<yyyymm>#<first>#<token>` | | | usage-batch, usage-report |
//! | head of a shard's claims | `UB#<0-15>` | `HEAD#<yyyymm>` | | | usage-batch: its version keeps two runs apart |
//! | how Polar stands | `POLAR` | `STATE` | | | usage-batch, usage-report |
//! | outbox event | `OUT#<yyyymmdd>#<0-15>` | `<id>` | `W#EV` / id | | relay, projector; the workspace's log, replays; 30 d |
//! | rollup of an agent | `W#RU` | `AGENT#<a>` | | | lists |
//! | rollup of usage | `B#RU` | `DAY#<yyyy-mm-dd>#<w>#<a>#<key source>` | | | account, usage by day |
//! | rollup marker | same as the rollup | `EV#<event>#<rollup>` | | | each event once per rollup; 35 d |
//! | timer | `TMR#<0-15>` | `<due>#<id>` | | | clock |
//! | builder thread | `W#BT#<t>` | `~` | `W#BT` / updated, id | | a run, each second of it; lists; 90 d |
//! | its messages, what waits for a confirmation | `W#BT#<t>` | `M#<id>`, `X#<id>` | | | the thread, runs, confirmations; 90 d |
//! | what was told of a run | `W#BT#<t>` | `F#<run>#<number, six digits>` | | | whoever takes a run up again; 48 h |
//! | client message id → run of a builder | `W#BTC` | `<sha256 of user and id>` | | | repeats; 48 h |
//! | uploads for the builder | `W#BTU` | `~` | | | uploading, naming one in a message; 24 h after the last |
//! | audit entry | `W#AU#<yyyymm>` | `<id>` | | | audit log; 400 d |
//! | idempotency record | `IDEM#<subject>#<sha256>` | `I` | | | repeats; 48 h |
//! | rate window | `RL#<class>#<subject>` | `<window>` | | | gate |
//!
//! The exceptions to tenant-first keys are the global look-ups (user, e-mail, session, key hash, reset, slugs, WhatsApp numbers), the outbox,
//! the unreported usage, the timers and the due deliveries; these hold ids, not texts, and the last four are sharded. The
//! operator's lists (users, accounts, parked usage) and the state of Polar are seldom written.

mod billing;
mod builder;
mod scheduling;
mod tenant;
mod whatsapp;

use uuid::Uuid;

pub use billing::*;
pub use builder::*;
pub use scheduling::*;
pub use tenant::*;
pub use whatsapp::*;

use crate::domain::api_key::KeyKind;
use crate::domain::tool::Builtin;
use crate::domain::{Agent, ApiKey, BillingAccount, Contact, Conversation, Lead, Message, User, Webhook, Workspace};
use crate::kernel::secret::sha256_hex;
use crate::kernel::{Id, Time};
use crate::table::Key;

/// How many shards spread a global partition.
pub const SHARDS: u8 = 16;

/// The shard of an event: its last random bits.
#[must_use]
pub fn shard_of(id: Uuid) -> u8 {
    id.as_bytes()[15] % SHARDS
}

/// The shard of an entity.
#[must_use]
pub fn shard_of_id<K>(id: Id<K>) -> u8 {
    shard_of_int(id.int())
}

/// The shard of an entity whose kind is not known here.
#[must_use]
pub fn shard_of_int(id: u64) -> u8 {
    // The low bits are random; the high ones are time.
    u8::try_from(id % u64::from(SHARDS)).unwrap_or(0)
}

/// A point in time in a sort key: milliseconds, thirteen digits, so that text order is time order.
#[must_use]
pub fn moment(at: Time) -> String {
    format!("{:013}", at.millis().max(0))
}

fn w(workspace: Id<Workspace>) -> String {
    format!("W#{}", workspace.key())
}

fn a(workspace: Id<Workspace>, agent: Id<Agent>) -> String {
    format!("{}#A#{}", w(workspace), agent.key())
}

/// The workspace and the agent of a partition that [`agent_pk`] made.
#[must_use]
pub fn read_agent_pk(pk: &str) -> Option<(Id<Workspace>, Id<Agent>)> {
    let (workspace, agent) = pk.strip_prefix("W#")?.split_once("#A#")?;
    Some((Id::from_key(workspace)?, Id::from_key(agent)?))
}

/// Partition of a conversation: its messages and its head.
#[must_use]
pub fn conversation_pk(workspace: Id<Workspace>, conversation: Id<Conversation>) -> String {
    format!("{}#C#{}", w(workspace), conversation.key())
}

fn b(account: Id<BillingAccount>) -> String {
    format!("B#{}", account.key())
}

/// A user.
#[must_use]
pub fn user(user: Id<User>) -> Key {
    Key::new(format!("U#{}", user.key()), "USER")
}

/// Where users are listed.
pub const USERS: &str = "USERS";

/// The guard of an e-mail address (lower case).
#[must_use]
pub fn email(email: &str) -> Key {
    Key::new(format!("EMAIL#{email}"), "G")
}

/// A session.
#[must_use]
pub fn session(sid: &str) -> Key {
    Key::new(format!("SES#{sid}"), "S")
}

/// Where a user's sessions are listed.
#[must_use]
pub fn sessions_of(user: Id<User>) -> String {
    format!("U#{}#SES", user.key())
}

/// A workspace.
#[must_use]
pub fn workspace(workspace: Id<Workspace>) -> Key {
    Key::new(w(workspace), "WS")
}

/// The guard of a workspace slug.
#[must_use]
pub fn workspace_slug(slug: &str) -> Key {
    Key::new(format!("WSLUG#{slug}"), "G")
}

/// Sort prefix of memberships in a workspace.
pub const MEMBERSHIP: &str = "MEM#";

/// A membership.
#[must_use]
pub fn membership(workspace: Id<Workspace>, user: Id<User>) -> Key {
    Key::new(w(workspace), format!("{MEMBERSHIP}{}", user.key()))
}

/// Where a user's memberships are listed.
#[must_use]
pub fn memberships_of(user: Id<User>) -> String {
    format!("U#{}#MEM", user.key())
}

/// How many keys of a kind a workspace has.
#[must_use]
pub fn api_key_count(workspace: Id<Workspace>, kind: KeyKind) -> Key {
    Key::new(w(workspace), format!("CNT#keys#{}", kind.key()))
}

/// How many clients a workspace has.
#[must_use]
pub fn client_count(workspace: Id<Workspace>) -> Key {
    Key::new(w(workspace), "CNT#clients")
}

/// A link to set a password anew, by the hash of its token.
#[must_use]
pub fn reset(hash: &str) -> Key {
    Key::new(format!("RESET#{hash}"), "G")
}

/// How many webhook endpoints a workspace has.
#[must_use]
pub fn webhook_count(workspace: Id<Workspace>) -> Key {
    Key::new(w(workspace), "CNT#webhooks")
}

/// A key as its owner sees it.
#[must_use]
pub fn api_key(workspace: Id<Workspace>, kind: KeyKind, key: Id<ApiKey>) -> Key {
    Key::new(w(workspace), format!("{}{}", api_key_prefix(kind), key.key()))
}

/// Sort prefix of a workspace's keys of a kind.
#[must_use]
pub fn api_key_prefix(kind: KeyKind) -> String {
    format!("KEY#{}#", kind.key())
}

/// The look-up of a raw key by its hash.
#[must_use]
pub fn key_lookup(hash: &str) -> Key {
    Key::new(format!("KEY#{hash}"), "K")
}

/// The partition of a workspace's small collections.
#[must_use]
pub fn workspace_pk(workspace: Id<Workspace>) -> String {
    w(workspace)
}

/// Sort prefix of agent heads in a workspace.
pub const AGENT: &str = "AG#";

/// An agent's head.
#[must_use]
pub fn agent(workspace: Id<Workspace>, agent: Id<Agent>) -> Key {
    Key::new(w(workspace), format!("{AGENT}{}", agent.key()))
}

/// The guard of an agent's slug in its workspace.
#[must_use]
pub fn agent_slug(workspace: Id<Workspace>, slug: &str) -> Key {
    Key::new(w(workspace), format!("AGSLUG#{slug}"))
}

/// The partition of an agent's definition.
#[must_use]
pub fn agent_pk(workspace: Id<Workspace>, agent: Id<Agent>) -> String {
    a(workspace, agent)
}

/// Sort keys of the definition: bindings and sections lie between these two, secrets and the snapshot do not.
pub const DEFINITION: (&str, &str) = ("BIND#", "DEF#~");

/// A tool binding.
#[must_use]
pub fn tool_binding(workspace: Id<Workspace>, agent: Id<Agent>, tool: Builtin) -> Key {
    Key::new(a(workspace, agent), format!("BIND#{}", tool.name()))
}

/// A section of the definition.
#[must_use]
pub fn section(workspace: Id<Workspace>, agent: Id<Agent>, name: &str) -> Key {
    Key::new(a(workspace, agent), format!("DEF#{name}"))
}

/// The live snapshot.
#[must_use]
pub fn live(workspace: Id<Workspace>, agent: Id<Agent>) -> Key {
    Key::new(a(workspace, agent), "LIVE")
}

/// Prefix of an agent's secrets.
pub const AGENT_SECRET: &str = "SEC#";

/// Sort prefix of an agent's versions.
pub const VERSION: &str = "VER#";

/// A version of an agent.
#[must_use]
pub fn version(workspace: Id<Workspace>, agent: Id<Agent>, number: u32) -> Key {
    Key::new(a(workspace, agent), format!("{VERSION}{number:06}"))
}

/// A secret of an agent.
#[must_use]
pub fn agent_secret(workspace: Id<Workspace>, agent: Id<Agent>, field: &str) -> Key {
    Key::new(a(workspace, agent), format!("{AGENT_SECRET}{field}"))
}

/// The alias of a public slug.
#[must_use]
pub fn public_slug(slug: &str) -> Key {
    Key::new(format!("PUB#{slug}"), "G")
}

/// Sort key of a conversation's head: behind every message, so that reading backwards finds it first.
pub const HEAD: &str = "~";

/// A conversation's head.
#[must_use]
pub fn conversation(workspace: Id<Workspace>, conversation: Id<Conversation>) -> Key {
    Key::new(conversation_pk(workspace, conversation), HEAD)
}

/// A message.
#[must_use]
pub fn message(workspace: Id<Workspace>, conversation: Id<Conversation>, message: Id<Message>) -> Key {
    Key::new(conversation_pk(workspace, conversation), message_sk(message))
}

/// Sort key of a message.
#[must_use]
pub fn message_sk(message: Id<Message>) -> String {
    format!("M#{}", message.key())
}

/// Where a workspace's conversations are listed.
#[must_use]
pub fn conversations(workspace: Id<Workspace>) -> String {
    format!("{}#CV", w(workspace))
}

/// Where an agent's conversations are listed.
#[must_use]
pub fn agent_conversations(workspace: Id<Workspace>, agent: Id<Agent>) -> String {
    format!("{}#CV", a(workspace, agent))
}

/// The guard of a client's own message id.
#[must_use]
pub fn client_message(workspace: Id<Workspace>, agent: Id<Agent>, scope: &str, client_id: &str) -> Key {
    Key::new(format!("{}#CMID", a(workspace, agent)), sha256_hex(format!("{scope}\n{client_id}")))
}

/// The partition of what turns of a conversation left: results of tool calls, guards of leads.
#[must_use]
pub fn turn_pk(workspace: Id<Workspace>, conversation: Id<Conversation>) -> String {
    format!("{}#T", conversation_pk(workspace, conversation))
}

/// The result of a tool call.
#[must_use]
pub fn tool_call(workspace: Id<Workspace>, conversation: Id<Conversation>, message: Id<Message>, call: &str) -> Key {
    Key::new(turn_pk(workspace, conversation), format!("{}#{call}", message.key()))
}

/// What guards of leads begin with.
pub const LEAD_GUARD: &str = "LEADG#";

/// The guard of a contact's lead in a conversation.
#[must_use]
pub fn lead_guard(workspace: Id<Workspace>, conversation: Id<Conversation>, contact: Id<Contact>) -> Key {
    Key::new(turn_pk(workspace, conversation), format!("{LEAD_GUARD}{}", contact.key()))
}

/// A contact.
#[must_use]
pub fn contact(workspace: Id<Workspace>, contact: Id<Contact>) -> Key {
    Key::new(format!("{}#CT", w(workspace)), format!("CT#{}", contact.key()))
}

/// The guard of a contact's phone.
#[must_use]
pub fn contact_phone(workspace: Id<Workspace>, digits: &str) -> Key {
    Key::new(w(workspace), format!("CPH#{digits}"))
}

/// The look-up of a contact's e-mail.
#[must_use]
pub fn contact_email(workspace: Id<Workspace>, email: &str) -> Key {
    Key::new(w(workspace), format!("CEM#{email}"))
}

/// The guard of whom a site that an agent answers on calls by this id.
#[must_use]
pub fn contact_user(workspace: Id<Workspace>, agent: Id<Agent>, user_id: &str) -> Key {
    Key::new(w(workspace), format!("CID#{}#{}", agent.key(), sha256_hex(user_id)))
}

/// Sort prefix of an agent's leads.
pub const LEAD: &str = "LEAD#";

/// A lead.
#[must_use]
pub fn lead(workspace: Id<Workspace>, agent: Id<Agent>, lead: Id<Lead>) -> Key {
    Key::new(a(workspace, agent), format!("{LEAD}{}", lead.key()))
}

/// Where a workspace's leads are listed.
#[must_use]
pub fn leads(workspace: Id<Workspace>) -> String {
    format!("{}#LEAD", w(workspace))
}

/// Sort prefix of a workspace's webhook endpoints.
pub const WEBHOOK: &str = "WH#";

/// A webhook endpoint.
#[must_use]
pub fn webhook(workspace: Id<Workspace>, webhook: Id<Webhook>) -> Key {
    Key::new(w(workspace), format!("{WEBHOOK}{}", webhook.key()))
}

/// How a webhook endpoint fares.
#[must_use]
pub fn webhook_health(workspace: Id<Workspace>, webhook: Id<Webhook>) -> Key {
    Key::new(format!("{}#WHH", w(workspace)), webhook.key())
}

/// The last replay to a webhook endpoint.
#[must_use]
pub fn replay(workspace: Id<Workspace>, webhook: Id<Webhook>) -> Key {
    Key::new(w(workspace), format!("REPLAY#{}", webhook.key()))
}

/// Where an endpoint's deliveries lie.
#[must_use]
pub fn deliveries(workspace: Id<Workspace>, webhook: Id<Webhook>) -> String {
    format!("{}#WH#{}", w(workspace), webhook.key())
}

/// Where an endpoint's failed deliveries are listed, under the same sort keys.
#[must_use]
pub fn failed_deliveries(workspace: Id<Workspace>, webhook: Id<Webhook>) -> String {
    format!("{}#F", deliveries(workspace, webhook))
}

/// Sort prefix of deliveries; the event's time-ordered id follows.
pub const DELIVERY: &str = "DL#";

/// A delivery.
#[must_use]
pub fn delivery(workspace: Id<Workspace>, webhook: Id<Webhook>, event: Uuid) -> Key {
    Key::new(deliveries(workspace, webhook), format!("{DELIVERY}{event}"))
}

/// Where deliveries wait for their time.
#[must_use]
pub fn due_deliveries(shard: u8) -> String {
    format!("DUE#WH#{shard}")
}

/// That the mail about an event went out: to the one whom it is for, or to one of several.
#[must_use]
pub fn mailed(workspace: Id<Workspace>, event: Uuid, whom: Option<&str>) -> Key {
    let sk = whom.map_or_else(|| event.to_string(), |whom| format!("{event}#{whom}"));
    Key::new(format!("{}#ML", w(workspace)), sk)
}

/// Where the events of a day (UTC) and shard lie. Those of one thread lie in one partition, in order, and the table's
/// stream keeps the order of a partition.
#[must_use]
pub fn outbox(day: Time, shard: u8) -> String {
    format!("OUT#{}#{shard}", day.format("%Y%m%d"))
}

/// Where a workspace's events are listed.
#[must_use]
pub fn events_of(workspace: Id<Workspace>) -> String {
    format!("{}#EV", w(workspace))
}

/// The start of every UUIDv7 that was made in the millisecond of `at`, so that text order is time order.
#[must_use]
pub fn uuid_at(at: Time) -> String {
    let millis = at.millis().max(0);
    format!("{:08x}-{:04x}", millis >> 16, millis & 0xffff)
}

/// Counters of an agent.
#[must_use]
pub fn agent_rollup(workspace: Id<Workspace>, agent: Id<Agent>) -> Key {
    Key::new(format!("{}#RU", w(workspace)), format!("AGENT#{}", agent.key()))
}

/// The marker that an event was counted in a rollup.
#[must_use]
pub fn rollup_marker(rollup: &Key, event: Uuid) -> Key {
    Key::new(rollup.pk.clone(), format!("EV#{event}#{}", rollup.sk))
}

/// The sort keys of the markers of usage with these ids: they lie between these two.
#[must_use]
pub fn usage_markers(first: Uuid, last: Uuid) -> (String, String) {
    (format!("EV#{first}#"), format!("EV#{last}#~"))
}

/// Reads the sort key of [`rollup_marker`]: which event was counted.
#[must_use]
pub fn read_usage_marker(sk: &str) -> Option<Uuid> {
    sk.strip_prefix("EV#")?.split('#').next()?.parse().ok()
}

/// Where the timers of a shard lie.
#[must_use]
pub fn timers(shard: u8) -> String {
    format!("TMR#{shard}")
}

/// A timer.
#[must_use]
pub fn timer(shard: u8, due: Time, name: &str) -> Key {
    Key::new(timers(shard), format!("{}#{name}", moment(due)))
}

/// An audit entry.
#[must_use]
pub fn audit(workspace: Id<Workspace>, at: Time, id: Uuid) -> Key {
    Key::new(format!("{}#AU#{}", w(workspace), month(at)), id.to_string())
}

/// Where the audit entries of a time begin: their ids start with it.
#[must_use]
pub fn audit_from(workspace: Id<Workspace>, at: Time) -> Key {
    let millis = u128::try_from(at.millis()).unwrap_or(0) & ((1 << 48) - 1);
    audit(workspace, at, Uuid::from_u128(millis << 80))
}

/// An idempotency record.
#[must_use]
pub fn idempotency(subject: &str, key: &str) -> Key {
    Key::new(format!("IDEM#{subject}#{}", sha256_hex(key)), "I")
}

/// A rate window.
#[must_use]
pub fn rate(class: &str, subject: &str, window: i64) -> Key {
    Key::new(format!("RL#{class}#{subject}"), window.to_string())
}

#[cfg(test)]
mod tests;
