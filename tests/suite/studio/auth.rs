//! Registering, logging in and out.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use serde_json::{Value, json};
use shared::app::{App, Parts};
use shared::kernel::{Result, Rng, Secret};
use shared::ports::objects::Objects;
use shared::ports::secrets::{ROOT_KEYRING, Secrets};
use tests::{PASSWORD, TestApp};

const REGISTER: &str = "/api/auth/register";
const LOGIN: &str = "/api/auth/login";

#[tokio::test]
async fn registering_makes_a_person_with_a_workspace_and_an_account_on_the_free_plan() {
    let test = TestApp::new().await;
    let body = json!({"email": "ana@example.com", "password": PASSWORD, "name": "Ana Pérez"});
    let answer = test.anonymous().post(REGISTER, body).await.expect(201);
    assert_eq!(answer["token_type"], "bearer");
    let user = &answer["user"];
    assert_eq!(
        (&user["email"], &user["name"], &user["role"]),
        (&json!("ana@example.com"), &json!("Ana Pérez"), &json!("owner"))
    );
    assert_eq!((&user["parent_user_id"], &user["email_verified"]), (&Value::Null, &json!(false)));
    assert_eq!(user["created_at"], "2040-03-05T09:00:00.000Z");
    let session = test.anonymous().with_bearer(answer["access_token"].as_str().unwrap());
    let me = session.get("/api/auth/me").await.expect(200);
    assert_eq!((&me["id"], &me["email"]), (&user["id"], &user["email"]));
    let workspace = &me["workspace"];
    assert_eq!((&workspace["slug"], &workspace["name"]), (&json!("ana-perez"), &json!("Ana Pérez")));
    assert_eq!((&workspace["owner_id"], &workspace["default_agent_id"]), (&user["id"], &Value::Null));
    let account = session.get("/api/billing/account").await.expect(200);
    assert_eq!((&account["plan"], &account["free_messages_remaining"]), (&json!("free"), &json!(50)));
}

#[tokio::test]
async fn who_gives_no_name_is_called_by_the_local_part_of_the_address() {
    let test = TestApp::new().await;
    for (email, name) in [("luis@example.com", Value::Null), ("mara@example.com", json!("   "))] {
        let body = json!({"email": email, "password": PASSWORD, "name": name});
        let answer = test.anonymous().post(REGISTER, body).await.expect(201);
        assert_eq!(answer["user"]["name"], email.split('@').next().unwrap());
    }
}

#[tokio::test]
async fn an_address_is_registered_once_in_any_spelling() {
    let test = TestApp::new().await;
    let first =
        test.anonymous().post(REGISTER, json!({"email": " Ana@Example.COM ", "password": PASSWORD})).await.expect(201);
    assert_eq!(first["user"]["email"], "ana@example.com");
    let before = test.db_dump().await;
    for spelling in ["ana@example.com", "ANA@EXAMPLE.COM", "  ana@example.com\t", "aNa@eXample.com"] {
        let body = json!({"email": spelling, "password": "another one"});
        assert_eq!(test.anonymous().post(REGISTER, body).await.code(409), "email_already_registered", "{spelling:?}");
    }
    assert!(test.db_dump().await.changes_since(&before).is_empty());
}

#[tokio::test]
async fn of_many_registrations_of_one_address_at_once_one_wins() {
    let test = TestApp::new().await;
    let body = json!({"email": "ana@example.com", "password": PASSWORD});
    let personas: Vec<_> = (0..6).map(|_| test.anonymous()).collect();
    let answers = join_all(personas.iter().map(|persona| persona.post(REGISTER, body.clone()))).await;
    let (made, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 201);
    assert_eq!(made.len(), 1);
    for answer in refused {
        assert_eq!(answer.code(409), "email_already_registered");
    }
}

#[tokio::test]
async fn people_of_one_name_get_workspaces_of_their_own() {
    let test = TestApp::new().await;
    let register = async |number: u32| {
        let body = json!({"email": format!("ana{number}@example.com"), "password": PASSWORD, "name": "Ana"});
        let answer = test.anonymous().post(REGISTER, body).await.expect(201);
        let session = test.anonymous().with_bearer(answer["access_token"].as_str().unwrap());
        session.get("/api/auth/me").await.expect(200)["workspace"]["slug"].as_str().unwrap().to_owned()
    };
    // All at once, since that is when two could take the same address.
    let mut slugs = join_all((0..6).map(register)).await;
    slugs.push(register(6).await);
    assert!(slugs.iter().all(|slug| slug.starts_with("ana")), "{slugs:?}");
    slugs.sort();
    slugs.dedup();
    assert_eq!(slugs.len(), 7);
}

#[tokio::test]
async fn a_registration_that_breaks_a_rule_names_the_field_and_makes_nothing() {
    let test = TestApp::new().await;
    let before = test.db_dump().await;
    let cases = [
        (json!({"email": "ana@example.com", "password": "1234567"}), "password"),
        (json!({"email": "ana@example.com", "password": "ñandú77"}), "password"),
        (json!({"email": "ana@example.com", "password": "x".repeat(257)}), "password"),
        (json!({"email": "ana@example.com"}), "password"),
        (json!({"password": PASSWORD}), "email"),
        (json!({"email": "", "password": PASSWORD}), "email"),
        (json!({"email": "ana", "password": PASSWORD}), "email"),
        (json!({"email": "ana@localhost", "password": PASSWORD}), "email"),
        (json!({"email": "ana@example.com\r\nBcc: all@example.com", "password": PASSWORD}), "email"),
        (json!({"email": format!("{}@example.com", "a".repeat(250)), "password": PASSWORD}), "email"),
        (json!({"email": "ana@example.com", "password": PASSWORD, "name": "n".repeat(256)}), "name"),
        (json!({"email": "ana@example.com", "password": PASSWORD, "name": "a\u{0}b"}), "name"),
    ];
    for (body, field) in cases {
        let answer = test.anonymous().post(REGISTER, body.clone()).await.expect(422);
        assert_eq!((&answer["code"], &answer["field"]), (&json!("validation_error"), &json!(field)), "{body}");
    }
    assert!(test.db_dump().await.changes_since(&before).is_empty());
    for (email, password) in [("eight@example.com", "12345678".to_owned()), ("long@example.com", "ñ".repeat(256))] {
        test.anonymous().post(REGISTER, json!({"email": email, "password": password})).await.expect(201);
    }
}

#[tokio::test]
async fn a_password_is_stored_as_its_argon2id_hash_only_and_never_shown() {
    let test = TestApp::new().await;
    let password = "  Tr0ub4dor & três  ";
    let body = json!({"email": "ana@example.com", "password": password});
    let answer = test.anonymous().post(REGISTER, body.clone()).await;
    assert!(!answer.text.contains("argon2") && !answer.text.contains("password"), "{}", answer.text);
    let dump = test.db_dump().await;
    assert!(!dump.contains("Tr0ub4dor"));
    let user = dump.of("user").next().unwrap();
    assert!(user["password_hash"].as_str().unwrap().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
    // It counts as typed, blanks and all.
    test.anonymous().post(LOGIN, body).await.expect(200);
    let trimmed = json!({"email": "ana@example.com", "password": password.trim()});
    assert_eq!(test.anonymous().post(LOGIN, trimmed).await.code(401), "invalid_credentials");
}

#[tokio::test]
async fn two_people_with_one_password_have_different_hashes() {
    let test = TestApp::new().await;
    let (_, _) = (test.owner().await, test.owner().await);
    let dump = test.db_dump().await;
    let mut hashes: Vec<_> = dump.of("user").map(|user| user["password_hash"].to_string()).collect();
    hashes.dedup();
    assert_eq!(hashes.len(), 2);
}

#[tokio::test]
async fn an_address_logs_in_in_any_spelling() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    for spelling in [owner.email.clone(), owner.email.to_uppercase(), format!(" {} ", owner.email)] {
        let body = json!({"email": spelling, "password": PASSWORD});
        let answer = test.anonymous().post(LOGIN, body).await.expect(200);
        assert_eq!(answer["user"]["id"].as_u64(), Some(owner.user_id));
        assert_ne!(answer["access_token"], owner.token, "each log-in has a session of its own");
    }
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_address_get_the_same_answer() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let before = test.db_dump().await;
    let attempt = async |email: &str, password: &str| {
        test.anonymous().post(LOGIN, json!({"email": email, "password": password})).await
    };
    let wrong = attempt(&owner.email, "wrong horse").await;
    let too_long = "x".repeat(100_000);
    for (email, password) in [
        ("nobody@example.com", "wrong horse"),
        ("nobody@example.com", PASSWORD),
        ("no address", PASSWORD),
        ("", ""),
        (owner.email.as_str(), too_long.as_str()),
        (owner.email.as_str(), ""),
    ] {
        let other = attempt(email, password).await;
        assert_eq!((other.status, &other.text), (wrong.status, &wrong.text), "{email}");
    }
    assert_eq!(wrong.code(401), "invalid_credentials");
    assert!(test.db_dump().await.changes_since(&before).is_empty(), "a failed log-in leaves no session");
}

#[tokio::test]
async fn five_log_ins_a_minute_may_be_tried_for_an_address_from_wherever() {
    let test = TestApp::new().await;
    let (owner, other) = (test.owner().await, test.owner().await);
    let spellings = [owner.email.clone(), owner.email.to_uppercase(), format!(" {}", owner.email)];
    for attempt in 0..5 {
        let body = json!({"email": spellings[attempt % 3], "password": "wrong horse"});
        assert_eq!(test.anonymous().post(LOGIN, body).await.status, 401);
    }
    let right = json!({"email": owner.email, "password": PASSWORD});
    let limited = test.anonymous().post(LOGIN, right.clone()).await;
    let wait: u64 = limited.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(limited.code(429), "rate_limited");
    let unaffected = json!({"email": other.email, "password": PASSWORD});
    test.anonymous().post(LOGIN, unaffected).await.expect(200);
    test.clock.advance(Duration::from_secs(wait));
    test.anonymous().post(LOGIN, right).await.expect(200);
}

#[tokio::test]
async fn a_hundred_log_ins_in_ten_seconds_may_come_from_an_address() {
    let test = TestApp::new().await;
    let (one, other) = (test.anonymous(), test.anonymous());
    for _ in 0..100 {
        assert_eq!(one.post(LOGIN, json!({})).await.status, 422);
    }
    let limited = one.post(LOGIN, json!({})).await;
    assert!(limited.headers.contains_key("retry-after"));
    assert_eq!(limited.code(429), "rate_limited");
    assert_eq!(one.post(REGISTER, json!({})).await.status, 429, "registering counts with it");
    assert_eq!(other.post(LOGIN, json!({})).await.status, 422);
    test.clock.advance(Duration::from_secs(10));
    assert_eq!(one.post(LOGIN, json!({})).await.status, 422);
}

#[tokio::test]
async fn logging_out_ends_that_session_at_once_and_no_other() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let key = owner.key().await;
    let login = test.anonymous().post(LOGIN, json!({"email": owner.email, "password": PASSWORD})).await.expect(200);
    let second = test.anonymous().with_bearer(login["access_token"].as_str().unwrap());
    let answer = owner.session.post("/api/auth/logout", Value::Null).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (204, ""));
    assert_eq!(owner.session.get("/api/auth/me").await.code(401), "unauthenticated");
    assert_eq!(owner.session.post("/api/auth/logout", Value::Null).await.status, 401);
    second.get("/api/auth/me").await.expect(200);
    key.get("/api/agents").await.expect(200);
}

#[tokio::test]
async fn a_session_lasts_thirty_days() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    test.clock.advance(Duration::from_secs(30 * 24 * 3600 - 1));
    owner.session.get("/api/auth/me").await.expect(200);
    test.clock.advance(Duration::from_secs(1));
    assert_eq!(owner.session.get("/api/auth/me").await.code(401), "unauthenticated");
}

#[tokio::test]
async fn a_suspended_person_cannot_log_in() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let user = shared::store::user::by_email(&test.app.table, &owner.email).await.unwrap().unwrap();
    let suspended = shared::domain::User { status: shared::domain::user::UserStatus::Suspended, ..user };
    shared::store::user::overwrite(&test.app.table, &suspended).await.unwrap();
    let right = json!({"email": owner.email, "password": PASSWORD});
    assert_eq!(test.anonymous().post(LOGIN, right).await.code(403), "forbidden");
    let wrong = json!({"email": owner.email, "password": "wrong horse"});
    assert_eq!(test.anonymous().post(LOGIN, wrong).await.code(401), "invalid_credentials");
}

#[tokio::test]
async fn a_member_sees_the_workspace_and_whose_it_is() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let client = test.db_member(&owner, shared::domain::Role::Client).await;
    let me = client.get("/api/auth/me").await.expect(200);
    assert_eq!((me["role"].as_str(), me["parent_user_id"].as_u64()), (Some("client"), Some(owner.user_id)));
    assert_eq!(me["workspace"]["owner_id"].as_u64(), Some(owner.user_id));
    let editor = test.db_member(&owner, shared::domain::Role::Editor).await;
    let me = editor.get("/api/auth/me").await.expect(200);
    assert_eq!((me["role"].as_str(), &me["parent_user_id"]), (Some("owner"), &Value::Null));
}

/// A keyring that an operator rotates.
struct Rotated(Mutex<Vec<&'static str>>);

#[async_trait]
impl Secrets for Rotated {
    async fn get(&self, name: &str) -> Result<Option<Secret>> {
        assert_eq!(name, ROOT_KEYRING);
        let key = |id: &&str| json!({"id": id, "key": STANDARD.encode([id.as_bytes()[1]; 32])});
        let ring: Vec<Value> = self.0.lock().unwrap().iter().map(key).collect();
        Ok(Some(Secret::new(json!(ring).to_string())))
    }
}

#[tokio::test]
async fn a_root_key_that_is_put_in_front_counts_without_a_new_process() {
    let test = TestApp::new().await;
    let (parts, ring) = (test.process(Rng::seeded(5)), Arc::new(Rotated(Mutex::new(vec!["k1"]))));
    let app = App::new(Parts {
        table: parts.table.clone(),
        clock: Arc::clone(&parts.clock),
        rng: parts.rng.clone(),
        config: parts.config.clone(),
        secrets: Arc::clone(&ring) as _,
        queue: Arc::clone(&parts.queue),
        journal: Arc::clone(&parts.journal),
        mailer: Arc::clone(&parts.mailer),
        objects: Objects::memory(),
        llm: Arc::clone(&parts.llm),
        egress: Arc::clone(&parts.egress),
        polar: None,
    });
    let sealed = app.seal("a place", &Secret::new("a text")).await.unwrap();
    assert_eq!(app.keys().await.unwrap().session.current().0, "k1");
    *ring.0.lock().unwrap() = vec!["k2", "k1"];
    let keys = app.keys().await.unwrap();
    assert_eq!(keys.session.current().0, "k2");
    assert_eq!(keys.seal.open_text("a place", &sealed).unwrap().expose(), "a text", "the old key opens still");
    *ring.0.lock().unwrap() = vec!["k2"];
    assert!(app.keys().await.unwrap().seal.open_text("a place", &sealed).is_err(), "and no more when it is gone");
}
