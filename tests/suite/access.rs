//! The access matrix: every row of the surface against everybody who might call it.
//!
//! What a caller should get is worked out from the row alone. The requests are the valid ones of `requests.rs`, so that a
//! refusal can only be for who calls; a refused call leaves the table as it was.

use std::time::Duration;

use serde_json::{Value, json};
use shared::access::{Credential, Floor, Op};
use shared::domain::Role;
use shared::domain::api_key::DEVELOPER_SCOPES;
use tests::{Answer, Owner, PASSWORD, Persona, TestApp, Watch};

use tests::requests::{Scene, Stage, Valid, missing, rows, valid, writes};

/// What a refused caller is told.
type Refusal = (u16, &'static str);

const UNKNOWN: Refusal = (401, "unauthenticated");
const OTHER_CREDENTIAL: Refusal = (403, "forbidden");
const TOO_LOW: Refusal = (403, "forbidden");
const NO_SCOPE: Refusal = (403, "scope_missing");
const NOT_GRANTED: Refusal = (404, "not_found");

fn is_public(op: &Op) -> bool {
    op.credentials.is_empty()
}

fn takes(op: &Op, credential: Credential) -> bool {
    op.credentials.contains(&credential)
}

/// What a member of a role is told, unless they may call. Nothing is granted to the client of the matrix.
fn refusal_of_member(op: &Op, role: Role) -> Option<Refusal> {
    if !takes(op, Credential::User) {
        return Some(OTHER_CREDENTIAL);
    }
    if role == Role::Client && op.floor.takes_grants() {
        return Some(NOT_GRANTED);
    }
    let enough = match op.floor.role() {
        Some(floor) => role >= floor,
        None => op.floor == Floor::Anyone,
    };
    (!enough).then_some(TOO_LOW)
}

/// What a key with these scopes is told, unless it may call.
fn refusal_of_key(op: &Op, scopes: &[&str]) -> Option<Refusal> {
    if !takes(op, Credential::Developer) {
        return Some(OTHER_CREDENTIAL);
    }
    (!op.scope.is_empty() && !scopes.contains(&op.scope)).then_some(NO_SCOPE)
}

fn was_told(answer: &Answer, (status, code): Refusal) -> bool {
    answer.status.as_u16() == status && answer.json()["code"] == code
}

/// What went wrong, over the whole matrix, so that one run shows all of it.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.0.push(what());
        }
    }

    fn refused(&mut self, op: &Op, who: &str, answer: &Answer, want: Refusal) {
        self.expect(was_told(answer, want), || {
            format!("{} × {who}: {want:?}, not {} {}", op.id, answer.status, answer.text)
        });
    }

    async fn untouched(&mut self, op: &Op, watch: &mut Watch<'_>) {
        let changes = watch.changes().await;
        self.expect(changes.is_empty(), || format!("{}: a refused call changed {changes:?}", op.id));
    }

    #[track_caller]
    fn finish(self) {
        assert!(self.0.is_empty(), "{} cells are wrong:\n{}", self.0.len(), self.0.join("\n"));
    }
}

async fn key_with(owner: &Owner, scopes: Value, expires_at: Value) -> (Persona, u64) {
    let body = json!({"name": "k", "scopes": scopes, "expires_at": expires_at});
    let key = owner.session.post("/api/developers/api-keys", body).await.expect(201);
    (owner.session.with_bearer(key["key"].as_str().unwrap()), key["id"].as_u64().unwrap())
}

/// `Authorization` headers that are no credential of this installation.
async fn rubbish(scene: &Scene) -> Vec<(&'static str, String)> {
    let token = &scene.owner.token;
    let (signed, _) = token.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let elsewhere = TestApp::new().await.owner().await.token;
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIiwia2lkIjoiazEifQ";
    vec![
        ("an empty bearer", "Bearer ".into()),
        ("no scheme", token.clone()),
        ("another scheme", format!("Basic {token}")),
        ("a garbage token", "Bearer a.b.c".into()),
        ("a token of no key", format!("Bearer {none}.{claims}.")),
        ("a token without its signature", format!("Bearer {signed}.")),
        ("a token with a wrong signature", format!("Bearer {signed}.{}", "A".repeat(43))),
        (
            "a token with other claims",
            format!("Bearer {header}.{}.{}", &elsewhere.split('.').nth(1).unwrap(), &token.rsplit_once('.').unwrap().1),
        ),
        ("a token of another installation", format!("Bearer {elsewhere}")),
        ("a key that was never made", format!("Bearer chatia_{}", "0".repeat(40))),
        ("a key's prefix", "Bearer chatia_".into()),
    ]
}

#[tokio::test]
async fn who_shows_no_valid_credential_gets_a_401_and_changes_nothing() {
    let scene = Scene::new().await;
    let (anybody, owner) = (scene.test.anonymous(), &scene.owner);
    let rubbish = rubbish(&scene).await;
    let login = anybody.post("/api/auth/login", json!({"email": owner.email, "password": PASSWORD})).await.expect(200);
    let logged_out = anybody.with_bearer(login["access_token"].as_str().unwrap());
    assert_eq!(logged_out.post("/api/auth/logout", Value::Null).await.status, 204);
    let (revoked, id) = key_with(owner, Value::Null, Value::Null).await;
    assert_eq!(owner.session.delete(&format!("/api/developers/api-keys/{id}")).await.status, 204);
    let (expiring, _) = key_with(owner, Value::Null, json!("2040-03-05T10:00:00Z")).await;
    assert_eq!(expiring.get("/api/agents").await.status, 200);
    let (mut wrong, mut watch) = (Wrong::default(), scene.test.db_watch().await);
    for op in rows().into_iter().filter(|op| !is_public(op)) {
        // Each from an address of its own: calls without a valid credential are counted by it.
        let (request, anybody) = (valid(op, &scene.things), scene.test.anonymous());
        wrong.refused(op, "no credential", &request.by(&anybody, op).await, UNKNOWN);
        for (who, header) in &rubbish {
            let headers = [("authorization", header.as_str())];
            let answer = anybody.call(op.method, &request.path, &headers, request.body.clone()).await;
            wrong.refused(op, who, &answer, UNKNOWN);
        }
        for (who, persona) in [("a logged-out session", &logged_out), ("a revoked key", &revoked)] {
            wrong.refused(op, who, &request.by(persona, op).await, UNKNOWN);
        }
        wrong.untouched(op, &mut watch).await;
    }
    let ended = [("an expired key", 2 * 3600, &expiring), ("an expired session", 31 * 24 * 3600, &owner.session)];
    for (who, seconds, persona) in ended {
        scene.test.clock.advance(Duration::from_secs(seconds));
        for op in rows().into_iter().filter(|op| !is_public(op)) {
            wrong.refused(op, who, &valid(op, &scene.things).by(persona, op).await, UNKNOWN);
        }
        assert!(watch.changes().await.is_empty(), "{who} changed something");
    }
    wrong.finish();
}

#[tokio::test]
async fn who_has_too_low_a_role_or_too_few_scopes_gets_a_403_and_changes_nothing() {
    let scene = Scene::new().await;
    let mut members = Vec::new();
    for role in Role::ALL {
        members.push((role, scene.test.db_member(&scene.owner, role).await));
    }
    let mut keys = vec![(DEVELOPER_SCOPES.to_vec(), key_with(&scene.owner, Value::Null, Value::Null).await.0)];
    for missing in DEVELOPER_SCOPES {
        let others: Vec<&str> = DEVELOPER_SCOPES.into_iter().filter(|scope| *scope != missing).collect();
        let key = key_with(&scene.owner, json!(others), Value::Null).await.0;
        keys.push((others, key));
    }
    let (mut wrong, mut watch) = (Wrong::default(), scene.test.db_watch().await);
    for op in rows().into_iter().filter(|op| !is_public(op)) {
        let request = valid(op, &scene.things);
        for (role, persona) in &members {
            if let Some(want) = refusal_of_member(op, *role) {
                wrong.refused(op, &format!("{role:?}"), &request.by(persona, op).await, want);
            }
        }
        for (scopes, persona) in &keys {
            if let Some(want) = refusal_of_key(op, scopes) {
                // Calls with no credential for the row are counted by address.
                let answer = request.by(&scene.test.elsewhere(persona), op).await;
                wrong.refused(op, &format!("a key for {scopes:?}"), &answer, want);
            }
        }
        wrong.untouched(op, &mut watch).await;
    }
    wrong.finish();
}

/// Somebody with just enough to call the row: the lowest role, or a key with only its scope.
async fn just_enough(scene: &Scene, op: &Op, credential: Credential) -> Persona {
    match (credential, op.floor.role()) {
        (Credential::User, Some(Role::Owner)) => scene.owner.session.clone(),
        (Credential::User, Some(floor)) => scene.test.db_member(&scene.owner, floor).await,
        (Credential::User, None) => scene.test.superadmin().await,
        (Credential::Developer, _) => {
            let scopes = if op.scope.is_empty() { json!(["events:write"]) } else { json!([op.scope]) };
            key_with(&scene.owner, scopes, Value::Null).await.0
        }
    }
}

#[tokio::test]
async fn who_has_just_enough_gets_what_the_row_promises() {
    let (mut stage, mut wrong) = (Stage::default(), Wrong::default());
    for credential in [Credential::User, Credential::Developer] {
        for op in rows().into_iter().filter(|op| takes(op, credential)) {
            let scene = stage.scene(op).await;
            let (request, persona) = (valid(op, &scene.things), just_enough(scene, op, credential).await);
            let answer = request.by(&persona, op).await;
            let as_promised = answer.status.as_u16() == request.status;
            wrong.expect(as_promised, || format!("{} × {credential:?}: {} {}", op.id, answer.status, answer.text));
        }
    }
    wrong.finish();
}

/// What staff never do for somebody: passwords, keys, secrets, billing, deletion, and whatever can be kept as a file.
fn is_theirs_alone(op: &Op, can_be_a_file: bool) -> bool {
    const WORDS: [&str; 9] =
        ["billing", "key", "password", "secret", "export", "files", "audit", "erase", "impersonate"];
    // The end of a replay deletes nothing: it can be asked for again.
    let deletes = op.method == "DELETE" && op.id != "stop_replay";
    let is_about = |word: &str| [op.path, op.scope, op.id].iter().any(|text| text.contains(word));
    deletes || can_be_a_file || op.id == "rotate_webhook" || WORDS.into_iter().any(is_about)
}

#[tokio::test]
async fn staff_who_act_for_an_owner_get_a_403_for_what_is_theirs_alone_and_change_nothing() {
    let scene = Scene::new().await;
    let path = format!("/api/admin/users/{}/impersonate", scene.owner.user_id);
    let session = scene.test.superadmin().await.post(&path, json!({"reason": "ticket 7"})).await.expect(200);
    let acting = scene.test.anonymous().with_bearer(session["access_token"].as_str().unwrap());
    let (mut wrong, mut watch, mut private) = (Wrong::default(), scene.test.db_watch().await, Vec::new());
    let document = shared::http::openapi::document(&studio::SURFACE);
    for op in rows().into_iter().filter(|op| takes(op, Credential::User)) {
        let answers = &document["paths"][op.path][op.method.to_ascii_lowercase()]["responses"]["200"]["content"];
        let refused = is_theirs_alone(op, answers["text/csv"].is_object());
        if refused && op.floor != Floor::Superadmin && !writes(op) {
            private.push(op.id);
        }
        if refused || !op.acting.allows(op.method) {
            wrong.refused(op, "staff who act", &valid(op, &scene.things).by(&acting, op).await, TOO_LOW);
            wrong.untouched(op, &mut watch).await;
        }
    }
    wrong.finish();
    private.sort_unstable();
    let known = [
        "download_file",
        "export_conversation",
        "find_account",
        "list_api_keys",
        "list_audit_log",
        "list_usage",
        "list_usage_events",
    ];
    assert_eq!(private, known);
}

#[tokio::test]
async fn anybody_may_call_a_public_row_whatever_credential_they_show() {
    let (mut stage, mut wrong) = (Stage::default(), Wrong::default());
    for headers in [&[][..], &[("authorization", "Bearer a.b.c")][..]] {
        for op in rows().into_iter().filter(|op| is_public(op)) {
            let scene = stage.scene(op).await;
            let request = valid(op, &scene.things);
            let answer = scene.test.anonymous().call(op.method, &request.path, headers, request.body.clone()).await;
            let fits = answer.status.as_u16() == request.status;
            wrong.expect(fits, || format!("{} with {headers:?}: {} {}", op.id, answer.status, answer.text));
        }
    }
    wrong.finish();
}

/// Whether the request names something of a scene's.
fn names_things(here: &Valid, nowhere: &Valid) -> bool {
    here.path != nowhere.path || here.body != nowhere.body
}

#[tokio::test]
async fn another_tenant_cannot_tell_a_foreign_thing_from_one_that_is_not_there() {
    let scene = Scene::new().await;
    let (other, _) = scene.other_owner().await;
    let key = other.key().await;
    let (mut wrong, mut watch) = (Wrong::default(), scene.test.db_watch().await);
    // What only the operator of the installation may do is refused before it is looked up.
    for op in rows().into_iter().filter(|op| !is_public(op) && op.floor != Floor::Superadmin) {
        let (foreign, nowhere) = (valid(op, &scene.things), valid(op, &missing()));
        if !names_things(&foreign, &nowhere) {
            continue;
        }
        for (who, credential, caller) in
            [("session", Credential::User, &other.session), ("key", Credential::Developer, &key)]
        {
            if !takes(op, credential) {
                continue;
            }
            let (there, not) = (foreign.by(caller, op).await, nowhere.by(caller, op).await);
            // What a body names is a field that does not fit, and no path that leads nowhere.
            let told = if op.id == "stream_builder" { (422, "validation_error") } else { (404, "not_found") };
            wrong.refused(op, &format!("another owner's {who}"), &there, told);
            let same = there.status == not.status && there.text == not.text;
            wrong.expect(same, || format!("{}: foreign {} but missing {}", op.id, there.text, not.text));
        }
        wrong.untouched(op, &mut watch).await;
    }
    wrong.finish();
}

#[tokio::test]
async fn a_list_shows_another_tenant_nothing_of_ours() {
    let scene = Scene::new().await;
    let stranger = scene.test.owner().await;
    let its = &scene.things;
    let ours = [its.agent, its.draft, its.conversation, its.webhook, its.key].map(|id| id.to_string());
    let mut wrong = Wrong::default();
    for op in rows().into_iter().filter(|op| !is_public(op) && !writes(op) && op.floor != Floor::Superadmin) {
        let answer = valid(op, its).by(&stranger.session, op).await;
        let shown: Vec<_> = ours.iter().filter(|id| answer.text.contains(id.as_str())).collect();
        wrong.expect(shown.is_empty(), || format!("{} shows {shown:?}: {}", op.id, answer.text));
    }
    wrong.finish();
}

#[tokio::test]
async fn who_calls_is_judged_before_what_they_send_is_read() {
    let scene = Scene::new().await;
    let low = scene.test.db_member(&scene.owner, Role::Client).await;
    let json = [("content-type", "application/json")];
    let mut wrong = Wrong::default();
    for op in rows().into_iter().filter(|op| !is_public(op) && writes(op)) {
        let path = valid(op, &scene.things).path;
        for body in [b"{".to_vec(), vec![b' '; 2 * 1024 * 1024]] {
            let stranger = scene.test.anonymous().call_raw(op.method, &path, &json, body.clone()).await;
            wrong.refused(op, "a stranger with a broken body", &stranger, UNKNOWN);
            // What is granted is known when the agent is.
            if let Some(want) = refusal_of_member(op, Role::Client).filter(|want| *want != NOT_GRANTED) {
                let member = low.call_raw(op.method, &path, &json, body).await;
                wrong.refused(op, "a client with a broken body", &member, want);
            }
        }
    }
    wrong.finish();
}

#[tokio::test]
async fn a_role_that_is_taken_away_is_gone_with_the_next_call() {
    // Sessions carry their role: ending one must not wait for its token to expire.
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let member = test.db_member(&owner, Role::Editor).await;
    assert_eq!(member.get("/api/agents").await.status, 200);
    assert_eq!(member.post("/api/auth/logout", Value::Null).await.status, 204);
    assert_eq!(member.get("/api/agents").await.code(401), "unauthenticated");
    assert_eq!(owner.session.get("/api/agents").await.status, 200);
}
