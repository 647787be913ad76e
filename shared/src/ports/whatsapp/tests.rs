//! Callbacks as Kapso and Meta write them, and what their answers mean.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::domain::whatsapp::{FileKind, Inbound as Heard, State};
use crate::kernel::Time;

fn message(number: usize) -> Value {
    json!({"from": format!("3460000{number:04}"), "from_user_id": format!("ES.{number}"), "id": format!("wamid.{number}"),
        "timestamp": "1767225600", "type": "text", "text": {"body": format!("message {number}")}})
}

fn status(number: usize) -> Value {
    json!({"id": format!("wamid.out.{number}"), "status": "delivered", "timestamp": "1767225600",
        "recipient_user_id": "ES.1", "biz_opaque_callback_data": "tag"})
}

fn value(messages: &[Value], statuses: &[Value]) -> Value {
    json!({"messaging_product": "whatsapp", "metadata": {"display_phone_number": "1", "phone_number_id": "123"},
        "messages": messages, "statuses": statuses})
}

fn meta(changes: &[Vec<Value>]) -> Vec<u8> {
    let change = |value: &Value| json!({"field": "messages", "value": value});
    let entry = |values: &Vec<Value>| json!({"id": "waba", "changes": values.iter().map(change).collect::<Vec<_>>()});
    let entries: Vec<Value> = changes.iter().map(entry).collect();
    json!({"object": "whatsapp_business_account", "entry": entries}).to_string().into_bytes()
}

fn sorted(mut told: Vec<Told>) -> Vec<String> {
    told.sort_by_key(|told| format!("{told:?}"));
    told.iter().map(|told| format!("{told:?}")).collect()
}

proptest! {
    #[test]
    fn however_a_callback_is_cut_and_shuffled_the_same_is_told(
        order in Just((0..9_usize).collect::<Vec<_>>()).prop_shuffle(),
        cuts in proptest::collection::vec(1_usize..4, 9),
    ) {
        let all: Vec<Value> = (0..5).map(message).collect();
        let statuses: Vec<Value> = (0..4).map(status).collect();
        let whole = read(Provider::Meta, "", &meta(&[vec![value(&all, &statuses)]])).unwrap();
        prop_assert_eq!(whole.len(), 9);
        let (mut entries, mut rest) = (Vec::new(), order.as_slice());
        for cut in cuts {
            let (now, later) = rest.split_at(cut.min(rest.len()));
            let pick = |wanted: fn(usize) -> bool| now.iter().copied().filter(|at| wanted(*at)).collect::<Vec<_>>();
            let messages: Vec<Value> = pick(|at| at < 5).into_iter().map(message).collect();
            let told: Vec<Value> = pick(|at| at >= 5).into_iter().map(|at| status(at - 5)).collect();
            entries.push(vec![value(&messages, &[]), value(&[], &told)]);
            rest = later;
        }
        let cut = read(Provider::Meta, "", &meta(&entries)).unwrap();
        prop_assert_eq!(sorted(cut), sorted(whole));
    }

    #[test]
    fn no_body_makes_the_reader_fail(body in "[\\[\\]{}\":,a-z0-9]{0,60}", event in "[a-z.]{0,30}") {
        drop(read(Provider::Kapso, &event, body.as_bytes()));
        drop(read(Provider::Meta, &event, body.as_bytes()));
    }
}

/// What a message says, as Meta tells it.
fn said(message: Value) -> Option<Heard> {
    let mut whole = json!({"from": "34600111222", "id": "wamid.1", "timestamp": "1767225600"});
    whole.as_object_mut().unwrap().extend(message.as_object().unwrap().clone());
    let told = read(Provider::Meta, "", &meta(&[vec![value(&[whole], &[])]])).unwrap();
    told.into_iter().find_map(|told| match told.what {
        What::Message(message) => Some(message),
        What::Status(_) | What::Renamed(_) => None,
    })
}

#[test]
fn every_kind_of_message_has_words_or_is_left_out() {
    let words = |message: Value| said(message).map(|message| message.text);
    let is = |message: Value, text: &str| assert_eq!(words(message).as_deref(), Some(text));
    is(json!({"type": "image", "image": {"id": "7", "mime_type": "image/jpeg", "caption": "Look"}}), "[image] Look");
    is(json!({"type": "audio", "audio": {"id": "7", "voice": true}}), "[voice message]");
    is(json!({"type": "document", "document": {"id": "7", "filename": "a.pdf"}}), "[document: a.pdf]");
    let place = json!({"latitude": 38.7, "longitude": -9.1, "name": "Office"});
    is(json!({"type": "location", "location": place}), "[location: Office, 38.7, -9.1]");
    let card = json!([{"name": {"formatted_name": "Ana"}, "phones": [{"phone": "+1555"}]}]);
    is(json!({"type": "contacts", "contacts": card}), "[contact: Ana, +1555]");
    let choice = json!({"type": "list_reply", "list_reply": {"id": "1", "title": "Tuesday"}});
    is(json!({"type": "interactive", "interactive": choice}), "Tuesday");
    is(json!({"type": "button", "button": {"payload": "p", "text": "Yes"}}), "Yes");
    is(json!({"type": "unsupported"}), "[a message of a kind that cannot be shown here]");
    assert_eq!(words(json!({"type": "reaction", "reaction": {"emoji": "👍"}})), None);
    assert_eq!(words(json!({"type": "system", "system": {"body": "changed"}})), None);
    assert_eq!(words(json!({"type": "text", "text": {"body": "  "}})), None);
    let file = said(json!({"type": "video", "video": {"id": "7", "mime_type": "video/mp4"}})).unwrap().file.unwrap();
    assert_eq!((file.kind, file.id.as_str()), (FileKind::Video, "7"));
}

#[test]
fn a_person_without_a_phone_is_known_by_their_user_id() {
    let mut body: Value = serde_json::from_slice(&meta(&[vec![value(&[message(1)], &[])]])).unwrap();
    let value = &mut body["entry"][0]["changes"][0]["value"];
    value["messages"][0].as_object_mut().unwrap().remove("from");
    value["contacts"] =
        json!([{"profile": {"name": "Ana"}, "user_id": "ES.1"}, {"profile": {"name": "Not"}, "user_id": "ES.2"}]);
    let told = read(Provider::Meta, "", body.to_string().as_bytes()).unwrap();
    let What::Message(message) = &told[0].what else { panic!("a message") };
    let peer = Peer { user_id: Some("ES.1".into()), phone: None, name: Some("Ana".into()) };
    assert_eq!((&message.peer, message.at), (&peer, Time::from_millis(1_767_225_600_000)));
}

fn kapso(direction: &str, origin: &str) -> Value {
    json!({"message": {"id": "wamid.1", "timestamp": "1767225600", "type": "text", "text": {"body": "Hola"},
            "from": "34600111222", "kapso": {"direction": direction, "origin": origin}},
        "conversation": {"id": "c", "phone_number_id": "123", "business_scoped_user_id": "ES.1",
            "kapso": {"contact_name": "Ana"}}, "is_new_conversation": true, "phone_number_id": "123"})
}

#[test]
fn kapso_tells_what_happened_in_its_header_and_old_messages_are_left_out() {
    let count = |event: &str, body: &Value| read(Provider::Kapso, event, body.to_string().as_bytes()).unwrap().len();
    let one = kapso("inbound", "cloud_api");
    assert_eq!(count("whatsapp.message.received", &one), 1);
    assert_eq!(count("whatsapp.conversation.created", &one), 0);
    assert_eq!(count("", &one), 0, "the body does not say");
    assert_eq!(count("whatsapp.message.received", &kapso("inbound", "history_sync")), 0);
    let batch =
        json!({"type": "whatsapp.message.received", "batch": true, "data": [one, kapso("inbound", "cloud_api")]});
    assert_eq!(count("whatsapp.message.received", &batch), 2);
    assert_eq!(count("", &batch), 2, "a batch names its type");
    let forwarded: Value = serde_json::from_slice(&meta(&[vec![value(&[message(1)], &[])]])).unwrap();
    assert_eq!(count("", &forwarded), 1, "Kapso forwards what Meta sent");
}

#[test]
fn kapso_tells_why_a_message_failed() {
    let mut body = kapso("outbound", "cloud_api");
    body["message"]["kapso"]["statuses"] = json!([{"status": "sent"}, {"status": "failed",
        "errors": [{"code": 131_026, "title": "Undeliverable", "error_data": {"details": "Not on WhatsApp"}}]}]);
    let told = read(Provider::Kapso, "whatsapp.message.failed", body.to_string().as_bytes()).unwrap();
    let What::Status(status) = &told[0].what else { panic!("a status") };
    let reason = Reason { code: "131026".into(), text: "Not on WhatsApp".into() };
    assert_eq!((status.state, status.reason.as_ref()), (State::Failed, Some(&reason)));
}

#[test]
fn a_signature_is_over_the_bytes_as_they_came() {
    let secret = Secret::new("app-secret");
    let hex =
        |body: &[u8]| hmac_sha256(b"app-secret", &[body]).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let body = br#"{"a": "\u00e9"}"#;
    assert!(is_signed(&secret, &hex(body), body) && is_signed(&secret, &format!("sha256={}", hex(body)), body));
    assert!(!is_signed(&secret, &hex(body), "{\"a\": \"é\"}".as_bytes()), "written anew it is another body");
    assert!(!is_signed(&secret, "", body) && !is_signed(&secret, "sha256=", body));
    assert!(!is_signed(&Secret::new("another"), &hex(body), body));
}

fn answer(status: u16, body: &Value) -> Sending {
    let body = body.to_string().into_bytes();
    sending(Ok(Inbound { status, headers: Vec::new(), body, truncated: false, cut: None }))
}

#[test]
fn an_answer_says_whether_the_message_may_be_sent_again() {
    let of = |code: i64, status: u16| answer(status, &json!({"error": {"code": code, "message": "why"}}));
    assert_eq!(answer(200, &json!({"messages": [{"id": "wamid.1"}]})), Sending::Taken("wamid.1".into()));
    assert!(matches!(answer(200, &json!({})), Sending::Unknown(_)));
    for code in [130_429, 80_007, 4, 131_048, 131_056, 131_000, 131_016, 131_057, 133_004] {
        assert!(matches!(of(code, 400), Sending::Later { .. }), "{code}");
    }
    for code in [131_047, 131_026, 131_049, 131_051, 132_000, 132_001] {
        assert!(matches!(of(code, 400), Sending::Refused { is_about_line: false, .. }), "{code}");
    }
    for (code, status) in [(190, 401), (0, 401), (10, 403), (200, 403), (3, 400)] {
        assert!(matches!(of(code, status), Sending::Refused { is_about_line: true, .. }), "{code}");
    }
    let busy = answer(409, &json!({"error": "another send is in flight"}));
    assert!(matches!(busy, Sending::Later { wait, .. } if wait == IN_FLIGHT));
    assert!(matches!(answer(429, &json!({"error": "slow down"})), Sending::Later { .. }));
    assert!(matches!(answer(503, &Value::Null), Sending::Later { .. }));
    assert!(matches!(sending(Err(SendError::Timeout)), Sending::Unknown(_)), "it may have been taken");
    assert!(matches!(sending(Err(SendError::Connect("no".into()))), Sending::Later { .. }), "nothing was sent");
}
