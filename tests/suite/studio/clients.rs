//! Clients: invited, granted agents, and gone at once when something is taken away.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{Agent, Owner, PASSWORD, Persona, TestApp};

async fn set() -> (TestApp, Owner, Agent, Agent) {
    let test = TestApp::new().await;
    let owner = test.paying_owner().await;
    let (one, other) = (owner.agent("Soporte").await, owner.agent("Ventas").await);
    (test, owner, one, other)
}

fn inbox(agent: &Agent, tail: &str) -> String {
    format!("/api/clients/me/agents/{}/{tail}", agent.id)
}

async fn log_in(test: &TestApp, email: &str, password: &str) -> tests::Answer {
    test.anonymous().post("/api/auth/login", json!({"email": email, "password": password})).await
}

async fn conversation(test: &TestApp, owner: &Owner, agent: &Agent) -> u64 {
    test.visitor(agent).says("When do you open?").await;
    owner.conversations(agent).await[0]["id"].as_u64().unwrap()
}

/// The link that a mail holds.
fn token_in(mail: &str) -> String {
    mail.split("#token=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned()
}

#[tokio::test]
async fn a_client_is_made_listed_found_renamed_and_removed() {
    let (_test, owner, one, other) = set().await;
    let body =
        json!({"email": " Carla@Example.com ", "name": "Carla", "password": "her password", "agent_ids": [one.id]});
    let made = owner.session.post("/api/clients", body).await.expect(201);
    assert_eq!(
        (&made["email"], &made["name"], &made["role"]),
        (&json!("carla@example.com"), &json!("Carla"), &json!("client"))
    );
    assert_eq!((&made["status"], &made["parent_user_id"]), (&json!("active"), &json!(owner.user_id)));
    let grants = made["grants"].as_array().unwrap();
    assert_eq!((&grants[0]["agent_id"], &grants[0]["agent_name"]), (&json!(one.id), &json!("Soporte")));
    assert_eq!(grants[0]["scopes"], json!(["messages", "leads"]));
    let path = format!("/api/clients/{}", made["id"]);
    assert_eq!(owner.session.get(&path).await.expect(200), made);
    let renamed = owner.session.patch(&path, json!({"name": "Carla of Acme"})).await.expect(200);
    assert_eq!(renamed["name"], "Carla of Acme");
    let granted =
        owner.session.post(&format!("{path}/grants"), json!({"agent_id": other.id, "scopes": ["leads"]})).await;
    assert_eq!(granted.expect(201)["scopes"], json!(["leads"]));
    let changed =
        owner.session.post(&format!("{path}/grants"), json!({"agent_id": other.id, "scopes": ["messages:read"]})).await;
    assert_eq!(changed.expect(200)["scopes"], json!(["messages:read"]), "changed, not new");
    let list = owner.session.get("/api/clients").await.expect(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 1, "the owner is no client");
    assert_eq!(owner.session.get(&format!("{path}/grants")).await.expect(200)["items"].as_array().unwrap().len(), 2);
    assert_eq!(owner.session.delete(&format!("{path}/grants/{}", other.id)).await.status, 204);
    assert_eq!(owner.session.delete(&format!("{path}/grants/{}", other.id)).await.code(404), "not_found");
    assert_eq!(owner.session.delete(&path).await.status, 204);
    assert_eq!(owner.session.get(&path).await.code(404), "not_found");
    assert_eq!(owner.session.get("/api/clients").await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn what_is_wrong_with_a_client_or_a_grant_is_said() {
    let (_test, owner, one, _) = set().await;
    let post = async |body: Value| owner.session.post("/api/clients", body).await;
    assert_eq!(post(json!({"email": "nonsense"})).await.expect(422)["field"], "email");
    assert_eq!(post(json!({"email": "c@example.com", "password": "short"})).await.expect(422)["field"], "password");
    assert_eq!(post(json!({"email": "c@example.com", "scopes": ["all"]})).await.expect(422)["field"], "scopes");
    assert_eq!(post(json!({"email": "c@example.com", "agent_ids": [1_u64 << 52]})).await.code(404), "not_found");
    assert_eq!(post(json!({"email": owner.email})).await.code(409), "client_already_exists");
    assert_eq!(owner.session.get("/api/clients").await.expect(200)["items"], json!([]), "nothing was half made");
    let client = post(json!({"email": "c@example.com"})).await.expect(201);
    assert_eq!(post(json!({"email": "C@example.com"})).await.code(409), "client_already_exists");
    let grants = format!("/api/clients/{}/grants", client["id"]);
    let wrong = owner.session.post(&grants, json!({"agent_id": one.id, "scopes": []})).await;
    assert_eq!(wrong.expect(422)["field"], "scopes");
    assert_eq!(owner.session.post(&grants, json!({"agent_id": 1_u64 << 52})).await.code(404), "not_found");
}

#[tokio::test]
async fn an_invited_client_sets_a_password_by_the_mailed_link_and_logs_in() {
    let (test, owner, one, _) = set().await;
    let body = json!({"email": "carla@example.com", "agent_ids": [one.id]});
    let made = owner.session.post("/api/clients", body).await.expect(201);
    assert_eq!(
        (&made["status"], &made["invitation_expires_at"]),
        (&json!("invited"), &json!("2040-03-12T09:00:00.000Z"))
    );
    assert_eq!(log_in(&test, "carla@example.com", "").await.code(401), "invalid_credentials");
    test.workers().run().await;
    let mail = test.mail.sent().pop().unwrap();
    assert_eq!(
        (mail.to.as_str(), mail.subject.as_str()),
        ("carla@example.com", "You are invited to look after AI agents")
    );
    let accept = async |token: &str, password: &str| {
        let body = json!({"token": token, "password": password, "name": "Carla Client"});
        test.anonymous().post("/api/auth/invitations/accept", body).await
    };
    let token = token_in(&mail.text);
    assert_eq!(accept("inv_k1.AAAA", "her password").await.code(400), "invitation_invalid");
    assert_eq!(accept(&token, "short").await.expect(422)["field"], "password");
    let session = accept(&token, "her password").await.expect(200);
    assert_eq!(
        (&session["user"]["role"], &session["user"]["parent_user_id"]),
        (&json!("client"), &json!(owner.user_id))
    );
    assert_eq!((&session["user"]["name"], &session["user"]["email_verified"]), (&json!("Carla Client"), &json!(true)));
    let by = format!("\"Olivia Owner\" ({})", owner.email);
    assert_eq!(session["invited_by"], by, "as the mail told it");
    let client = test.anonymous().with_bearer(session["access_token"].as_str().unwrap());
    let mine = client.get("/api/clients/me/agents").await.expect(200);
    assert_eq!((&mine["items"][0]["id"], mine["items"].as_array().unwrap().len()), (&json!(one.id), 1));
    assert_eq!(accept(&token, "her password").await.code(400), "invitation_invalid", "a link holds once");
    assert_eq!(log_in(&test, "carla@example.com", "her password").await.expect(200)["user"]["role"], "client");
    let shown = owner.session.get(&format!("/api/clients/{}", made["id"])).await.expect(200);
    assert_eq!((&shown["status"], &shown["invitation_expires_at"]), (&json!("active"), &Value::Null));
}

#[tokio::test]
async fn an_invitation_ends_after_seven_days_or_with_the_next_one() {
    let (test, owner, one, _) = set().await;
    let (id, first) = owner.client(&test, &[&one]).await;
    let invite = format!("/api/clients/{id}/invite");
    assert_eq!(owner.session.post(&invite, Value::Null).await.expect(200)["status"], "invited");
    let second = test.invitation_token(&owner, id).await;
    assert_ne!(first, second);
    let accept = async |token: &str| {
        let body = json!({"token": token, "password": PASSWORD});
        test.anonymous().post("/api/auth/invitations/accept", body).await
    };
    assert_eq!(accept(&first).await.code(400), "invitation_invalid");
    test.clock.advance(Duration::from_secs(7 * 24 * 3600));
    assert_eq!(accept(&second).await.code(400), "invitation_invalid");
    owner.session.post(&invite, Value::Null).await.expect(200);
    accept(&test.invitation_token(&owner, id).await).await.expect(200);
    let again = owner.session.post(&invite, Value::Null).await.expect(409);
    assert_eq!(again["code"], "invitation_accepted");
    assert_eq!(again["detail"], "They have accepted already, and can log in.", "it is told to who invited them");
}

#[tokio::test]
async fn somebody_who_is_known_here_accepts_with_their_own_password_and_keeps_their_own_workspace() {
    let (test, owner, one, _) = set().await;
    let other = test.owner().await;
    let shown = json!({"token": test.verification_token(&other.email).await});
    assert_eq!(test.anonymous().post("/api/auth/verify-email", shown).await.status, 204);
    let body = json!({"email": other.email, "password": "not theirs to set", "agent_ids": [one.id]});
    let made = owner.session.post("/api/clients", body).await.expect(201);
    assert_eq!(made["status"], "invited", "the owner of an address agrees first");
    assert_eq!(log_in(&test, &other.email, "not theirs to set").await.code(401), "invalid_credentials");
    let token = test.invitation_token(&owner, made["id"].as_u64().unwrap()).await;
    let accept = async |password: &str| {
        test.anonymous().post("/api/auth/invitations/accept", json!({"token": token, "password": password})).await
    };
    assert_eq!(accept("not theirs to set").await.code(401), "invalid_credentials");
    let session = accept(PASSWORD).await.expect(200);
    let there = test.anonymous().with_bearer(session["access_token"].as_str().unwrap());
    assert_eq!(there.get("/api/clients/me/agents").await.expect(200)["items"][0]["id"], one.id);
    assert_eq!(there.get("/api/agents").await.code(403), "forbidden", "a client there");
    let at_home = log_in(&test, &other.email, PASSWORD).await.expect(200);
    assert_eq!(at_home["user"]["role"], "owner", "an owner at home");
    let me = other.session.get("/api/auth/me").await.expect(200);
    let memberships = me["memberships"].as_array().unwrap();
    let elsewhere = memberships.iter().find(|membership| membership["role"] == "client").unwrap();
    let body = json!({"email": other.email, "password": PASSWORD, "workspace_id": elsewhere["workspace_id"]});
    assert_eq!(test.anonymous().post("/api/auth/login", body).await.expect(200)["user"]["role"], "client");
    owner.session.delete(&format!("/api/clients/{}", made["id"])).await;
    test.clock.advance(Duration::from_secs(60));
    assert_eq!(other.session.get("/api/agents").await.status, 200, "who is removed there stays at home");
    let body = json!({"email": other.email, "password": PASSWORD, "workspace_id": elsewhere["workspace_id"]});
    assert_eq!(test.anonymous().post("/api/auth/login", body).await.code(403), "forbidden");
}

/// The four conversation routes and the leads, as a client, by the status of each.
async fn statuses(client: &Persona, agent: &Agent, conversation: u64) -> [u16; 5] {
    let thread = inbox(agent, &format!("conversations/{conversation}"));
    [
        client.get(&inbox(agent, "conversations")).await.status.as_u16(),
        client.get(&thread).await.status.as_u16(),
        client.post(&format!("{thread}/takeover"), json!({"paused": true})).await.status.as_u16(),
        client.post(&format!("{thread}/messages"), json!({"content": "Hello"})).await.status.as_u16(),
        client.get(&inbox(agent, "leads")).await.status.as_u16(),
    ]
}

#[tokio::test]
async fn a_client_sees_exactly_what_is_granted() {
    let (test, owner, one, other) = set().await;
    let (here, there) = (conversation(&test, &owner, &one).await, conversation(&test, &owner, &other).await);
    for (scopes, want) in [
        (&["messages"][..], [200, 200, 200, 201, 403]),
        (&["messages:read"][..], [200, 200, 403, 403, 403]),
        (&["leads"][..], [403, 403, 403, 403, 200]),
        (&["messages", "leads"][..], [200, 200, 200, 201, 200]),
    ] {
        let (_, client) = owner.client_with(&test, &[&one], scopes).await;
        assert_eq!(statuses(&client, &one, here).await, want, "{scopes:?}");
        assert_eq!(statuses(&client, &other, there).await, [404; 5], "{scopes:?}: another agent of the same owner");
        for path in ["/api/agents", "/api/clients", "/api/billing/account", "/api/developers/overview"] {
            assert_eq!(client.get(path).await.code(403), "forbidden", "{path}");
        }
        owner.takeover(&one, here, false).await;
    }
}

#[tokio::test]
async fn what_is_taken_away_is_gone_with_the_next_call() {
    let (test, owner, one, other) = set().await;
    let (id, client) = owner.client_with(&test, &[&one, &other], &["messages"]).await;
    let list = inbox(&one, "conversations");
    assert_eq!(client.get(&list).await.status, 200);
    assert_eq!(owner.session.delete(&format!("/api/clients/{id}/grants/{}", one.id)).await.status, 204);
    assert_eq!(client.get(&list).await.code(404), "not_found");
    let mine = client.get("/api/clients/me/agents").await.expect(200);
    assert_eq!((&mine["items"][0]["id"], mine["items"].as_array().unwrap().len()), (&json!(other.id), 1));
    let suspend = async |active: bool| {
        owner.session.patch(&format!("/api/clients/{id}"), json!({"is_active": active})).await.expect(200)
    };
    assert_eq!(suspend(false).await["status"], "suspended");
    assert_eq!(client.get(&inbox(&other, "conversations")).await.code(401), "unauthenticated");
    suspend(true).await;
    let email = owner.session.get(&format!("/api/clients/{id}")).await.expect(200)["email"].clone();
    let session = log_in(&test, email.as_str().unwrap(), PASSWORD).await.expect(200);
    let client = test.anonymous().with_bearer(session["access_token"].as_str().unwrap());
    assert_eq!(client.get(&inbox(&other, "conversations")).await.status, 200);
    owner
        .session
        .call("DELETE", &format!("/api/agents/{}", other.id), &[], Some(json!({"confirmation": "Ventas"})))
        .await;
    assert_eq!(client.get(&inbox(&other, "conversations")).await.code(404), "not_found", "with its agent a grant ends");
    assert_eq!(owner.session.delete(&format!("/api/clients/{id}")).await.status, 204);
    assert_eq!(client.get("/api/clients/me/agents").await.code(401), "unauthenticated");
    assert_eq!(log_in(&test, email.as_str().unwrap(), PASSWORD).await.code(401), "invalid_credentials");
    let again = owner.session.post("/api/clients", json!({"email": email, "password": "a new beginning"})).await;
    assert_eq!(again.expect(201)["status"], "active", "the address is free again");
    log_in(&test, email.as_str().unwrap(), "a new beginning").await.expect(200);
}

#[tokio::test]
async fn another_owner_neither_sees_nor_changes_a_client() {
    let (test, owner, one, _) = set().await;
    let (id, _) = owner.client(&test, &[&one]).await;
    let other = test.owner().await;
    let path = format!("/api/clients/{id}");
    assert_eq!(other.session.get(&path).await.code(404), "not_found");
    assert_eq!(other.session.delete(&path).await.code(404), "not_found");
    assert_eq!(other.session.get("/api/clients").await.expect(200)["items"], json!([]));
    let owner_path = format!("/api/clients/{}", owner.user_id);
    assert_eq!(owner.session.get(&owner_path).await.code(404), "not_found", "an owner is no client of their own");
}

#[tokio::test]
async fn clients_are_paged_and_their_number_is_bounded() {
    let (_test, owner, ..) = set().await;
    for number in 0..5 {
        let body = json!({"email": format!("c{number}@example.com")});
        owner.session.post("/api/clients", body).await.expect(201);
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = owner.session.get(&format!("/api/clients?limit=2{cursor}")).await.expect(200);
        seen.extend(page["items"].as_array().unwrap().iter().map(|client| client["email"].clone()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, (0..5).map(|number| json!(format!("c{number}@example.com"))).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_forgotten_password_is_set_by_a_mailed_link_that_holds_once_and_for_an_hour() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let forgot = async |email: &str| {
        test.anonymous().post("/api/auth/forgot-password", json!({"email": email})).await.expect(200)
    };
    assert_eq!(forgot(&owner.email).await, forgot("nobody@example.com").await, "nobody is told who is here");
    test.workers().run().await;
    let mails = test.mail.sent();
    assert_eq!(mails.iter().map(|mail| mail.to.as_str()).collect::<Vec<_>>(), [owner.email.as_str()]);
    let token = token_in(&mails[0].text);
    assert!(!test.db_dump().await.contains(&token), "the link is stored as its hash only");
    let reset = async |token: &str, password: &str| {
        test.anonymous().post("/api/auth/reset-password", json!({"token": token, "password": password})).await
    };
    assert_eq!(reset("nothing", "another horse").await.code(400), "reset_invalid");
    assert_eq!(reset(&token, "short").await.expect(422)["field"], "password");
    assert_eq!(reset(&token, "another horse").await.status, 204);
    assert_eq!(reset(&token, "a third horse").await.code(400), "reset_invalid");
    assert_eq!(owner.session.get("/api/agents").await.code(401), "unauthenticated", "all sessions ended");
    assert_eq!(log_in(&test, &owner.email, PASSWORD).await.code(401), "invalid_credentials");
    log_in(&test, &owner.email, "another horse").await.expect(200);
    let late = test.reset_token(&owner.email).await;
    test.clock.advance(Duration::from_secs(3600));
    assert_eq!(reset(&late, "a third horse").await.code(400), "reset_invalid");
}

#[tokio::test]
async fn a_person_changes_their_name_and_password_and_stays_logged_in_where_they_did_it() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let elsewhere = owner.again().await;
    assert_eq!(owner.session.patch("/api/auth/me", json!({"name": "Olive"})).await.expect(200)["name"], "Olive");
    let change = async |current: &str, new: &str| {
        let body = json!({"current_password": current, "new_password": new});
        owner.session.post("/api/auth/password", body).await
    };
    let wrong = change("wrong horse", "another horse").await.expect(422);
    assert_eq!((&wrong["code"], &wrong["field"]), (&json!("validation_error"), &json!("current_password")));
    assert_eq!(owner.session.get("/api/auth/me").await.status, 200, "the session holds on");
    assert_eq!(change(PASSWORD, "short").await.expect(422)["field"], "new_password");
    assert_eq!(change(PASSWORD, "another horse").await.status, 204);
    assert_eq!(owner.session.get("/api/auth/me").await.expect(200)["name"], "Olive");
    assert_eq!(elsewhere.get("/api/auth/me").await.code(401), "unauthenticated");
    log_in(&test, &owner.email, "another horse").await.expect(200);
}

#[tokio::test]
async fn of_many_sessions_the_oldest_end() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    for _ in 0..50 {
        test.clock.advance(Duration::from_secs(61));
        owner.again().await;
    }
    assert_eq!(owner.session.get("/api/auth/me").await.code(401), "unauthenticated");
    assert_eq!(test.db_dump().await.of("session").count(), 50);
}

#[tokio::test]
async fn a_conversation_is_closed_by_a_person_and_opened_by_the_visitor() {
    let (test, owner, one, _) = set().await;
    let mut visitor = test.visitor(&one);
    visitor.says("When do you open?").await;
    let id = owner.conversations(&one).await[0]["id"].as_u64().unwrap();
    let (_, client) = owner.client_with(&test, &[&one], &["messages"]).await;
    let close = inbox(&one, &format!("conversations/{id}/close"));
    assert_eq!(client.post(&close, Value::Null).await.expect(200)["status"], "closed");
    assert_eq!(client.post(&close, Value::Null).await.code(409), "conversation_closed");
    let closed: Vec<Value> = test
        .workers()
        .events()
        .await
        .into_iter()
        .filter(|event| event.kind == "conversation.closed")
        .map(|event| json!(event.data))
        .collect();
    assert_eq!((closed.len(), &closed[0]["by"]), (1, &json!("operator")));
    assert!(visitor.says("One more thing").await["reply"].is_string());
    assert_eq!(owner.conversation(&one, id).await["status"], "open");
}

#[tokio::test]
async fn what_became_of_a_lead_is_said_by_whom_leads_are_granted_to() {
    let (test, owner, one, _) = set().await;
    let form = format!("/api/public/agents/{}/leads", one.slug);
    let lead = test.anonymous().post(&form, json!({"name": "Lea", "email": "lea@example.com"})).await.expect(201);
    let path = inbox(&one, &format!("leads/{}", lead["id"]));
    let (_, client) = owner.client_with(&test, &[&one], &["leads"]).await;
    assert_eq!(client.patch(&path, json!({"status": "qualified"})).await.expect(200)["status"], "qualified");
    assert_eq!(client.patch(&path, json!({"status": "nonsense"})).await.status, 422);
    assert_eq!(owner.session.get(&inbox(&one, "leads")).await.expect(200)["items"][0]["status"], "qualified");
    let (_, reader) = owner.client_with(&test, &[&one], &["messages"]).await;
    assert_eq!(reader.patch(&path, json!({"status": "lost"})).await.code(403), "scope_missing");
}
