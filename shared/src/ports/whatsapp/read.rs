//! What a callback tells, whichever way it is wrapped. Nothing here is believed before its signature was checked; what
//! does not read is left out, since one odd message must not keep back the others of its batch.

use std::time::Duration;

use serde_json::Value;

use crate::domain::text::shorten;
use crate::domain::whatsapp::{FileKind, FileRef, Inbound, Peer, Provider, Reason, Renamed, State, Status};
use crate::kernel::Time;

/// The longest id of a message, of a file, of a person.
const MAX_ID: usize = 512;
/// The longest text of one message.
const MAX_TEXT: usize = 8_000;

/// Something that was told of one of our numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What Meta calls the number.
    pub number: String,
    /// What.
    pub what: What,
}

/// What was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A message came in.
    Message(Inbound),
    /// Something became of a message of ours.
    Status(Status),
    /// Somebody has another number, and another user id.
    Renamed(Renamed),
}

/// Everything that a callback tells. `event` is what Kapso names in a header, and nowhere else.
///
/// # Errors
/// When the body is no JSON.
pub fn read(provider: Provider, event: &str, body: &[u8]) -> Result<Vec<Told>, serde_json::Error> {
    let body: Value = serde_json::from_slice(body)?;
    // Kapso can also forward what Meta sent.
    if provider == Provider::Meta || body["entry"].is_array() {
        return Ok(of_meta(&body));
    }
    let one = [body.clone()];
    let items = body["data"].as_array().map_or(one.as_slice(), Vec::as_slice);
    let event = body["type"].as_str().filter(|_| !event.starts_with("whatsapp.")).unwrap_or(event);
    Ok(items.iter().filter_map(|item| of_kapso(event, item)).collect())
}

fn of_meta(body: &Value) -> Vec<Told> {
    let mut told = Vec::new();
    let changes = list(&body["entry"]).flat_map(|entry| list(&entry["changes"]));
    let is_read = |change: &&Value| change["field"] == "messages" || change["field"] == "user_id_update";
    for value in changes.filter(is_read).map(|change| &change["value"]) {
        let Some(number) = id(&value["metadata"]["phone_number_id"]) else { continue };
        let told_of = |what| Told { number: number.clone(), what };
        for message in list(&value["messages"]) {
            let peer = sender(message, list(&value["contacts"]));
            let renamed = renamed(message).map(What::Renamed);
            told.extend(renamed.or_else(|| inbound(message, peer).map(What::Message)).map(&told_of));
        }
        told.extend(list(&value["user_id_update"]).filter_map(updated).map(What::Renamed).map(&told_of));
        told.extend(list(&value["statuses"]).filter_map(status).map(What::Status).map(&told_of));
    }
    told
}

/// Who sent a message of Meta's: the contact of the same user id or phone, if there is one.
fn sender<'a>(message: &Value, contacts: impl Iterator<Item = &'a Value>) -> Peer {
    let (user_id, phone) = (id(&message["from_user_id"]), digits(&message["from"]));
    let is_them = |contact: &&Value| {
        let (user, number) = (id(&contact["user_id"]), digits(&contact["wa_id"]));
        (user.is_some() && user == user_id) || (number.is_some() && number == phone)
    };
    let mut contacts = contacts.collect::<Vec<_>>().into_iter();
    let contact = contacts.find(is_them).cloned().unwrap_or_default();
    Peer {
        user_id: user_id.or_else(|| id(&contact["user_id"])),
        phone: phone.or_else(|| digits(&contact["wa_id"])),
        name: text(&contact["profile"]["name"], 120),
    }
}

/// What the app tells of itself: somebody's number changed, and with it what Meta calls them. Older forms tell the number only,
/// and those of people who hide theirs the user id only. The body says it in words too, but a name in it may say anything.
fn renamed(message: &Value) -> Option<Renamed> {
    const KINDS: [&str; 3] = ["user_changed_number", "customer_changed_number", "user_changed_user_id"];
    let system = Some(&message["system"]).filter(|_| message["type"] == "system")?;
    system["type"].as_str().filter(|kind| KINDS.contains(kind))?;
    let is = peer(id(&system["user_id"]), digits(&system["new_wa_id"]).or_else(|| digits(&system["wa_id"])));
    // Whoever sends it may be told as they were, or as they are.
    let users = [id(&system["previous_user_id"]), id(&message["from_user_id"])];
    let phones = [digits(&message["from"]), digits(&system["customer"])];
    let was = peer(
        users.into_iter().flatten().find(|user| is.user_id.as_ref() != Some(user)),
        phones.into_iter().flatten().find(|phone| is.phone.as_ref() != Some(phone)),
    );
    change(was, is, &message["timestamp"])
}

/// The same where it is told in a field of its own.
fn updated(update: &Value) -> Option<Renamed> {
    let user = &update["user_id"];
    let is = peer(id(&user["current"]), digits(&update["wa_id"]));
    let was = peer(id(&user["previous"]).filter(|user| is.user_id.as_ref() != Some(user)), None);
    change(was, is, &update["timestamp"])
}

/// `None` unless it says both who they were and who they are.
fn change(was: Peer, is: Peer, at: &Value) -> Option<Renamed> {
    let is_told = was.marks().next().is_some() && is.marks().next().is_some();
    let at = Some(moment(at)).filter(|at| at.millis() > 0);
    is_told.then_some(Renamed { was, is, at })
}

const fn peer(user_id: Option<String>, phone: Option<String>) -> Peer {
    Peer { user_id, phone, name: None }
}

fn of_kapso(event: &str, item: &Value) -> Option<Told> {
    let (message, conversation) = (&item["message"], &item["conversation"]);
    let number = id(&item["phone_number_id"]).or_else(|| id(&conversation["phone_number_id"]))?;
    let kapso = &message["kapso"];
    let is_inbound = kapso["direction"] != "outbound";
    let what = match event.strip_prefix("whatsapp.message.")? {
        // What was written long ago, or by the owner's own phone, is nothing to answer.
        "received" if is_inbound && kapso["origin"] != "history_sync" => {
            if let Some(renamed) = renamed(message) {
                return Some(Told { number, what: What::Renamed(renamed) });
            }
            let known = id(&message["from_user_id"]).or_else(|| id(&conversation["business_scoped_user_id"]));
            let peer = Peer {
                user_id: known,
                phone: digits(&message["from"]).or_else(|| digits(&conversation["phone_number"])),
                name: text(&conversation["kapso"]["contact_name"], 120),
            };
            What::Message(inbound(message, peer)?)
        }
        state => What::Status(Status {
            id: id(&message["id"])?,
            state: state_of(state)?,
            reason: list(&kapso["statuses"]).rev().chain([message]).find_map(reason),
            tag: list(&kapso["statuses"]).find_map(|one| text(&one["biz_opaque_callback_data"], MAX_ID)),
        }),
    };
    Some(Told { number, what })
}

fn status(value: &Value) -> Option<Status> {
    Some(Status {
        id: id(&value["id"])?,
        state: state_of(value["status"].as_str()?)?,
        reason: reason(value),
        tag: text(&value["biz_opaque_callback_data"], MAX_ID),
    })
}

fn state_of(word: &str) -> Option<State> {
    match word {
        "sent" => Some(State::Sent),
        "delivered" => Some(State::Delivered),
        "read" => Some(State::Read),
        "failed" => Some(State::Failed),
        _ => None,
    }
}

fn reason(value: &Value) -> Option<Reason> {
    let error = list(&value["errors"]).next()?;
    let told = [&error["error_data"]["details"], &error["message"], &error["title"]];
    let said = told.into_iter().find_map(|said| text(said, 300)).unwrap_or_default();
    Some(Reason { code: error["code"].to_string().trim_matches('"').to_owned(), text: said })
}

/// A message as we keep it; `None` for what is nothing to answer.
fn inbound(message: &Value, peer: Peer) -> Option<Inbound> {
    // Without either nobody could be answered.
    if peer.user_id.is_none() && peer.phone.is_none() {
        return None;
    }
    let text = shorten(&said(message)?, MAX_TEXT);
    Some(Inbound { id: id(&message["id"])?, peer, at: moment(&message["timestamp"]), text, file: file(message) })
}

/// What a message says, in words.
fn said(message: &Value) -> Option<String> {
    let kind = message["type"].as_str().unwrap_or_default();
    let own = &message[kind];
    if let Some(kind) = file_kind(message) {
        return Some(of_file(message, own, kind));
    }
    let said = match kind {
        "text" => own["body"].as_str()?.trim().to_owned(),
        "location" => {
            let place = [&own["name"], &own["address"]].into_iter().filter_map(|part| text(part, 200));
            let point = format!("{}, {}", own["latitude"], own["longitude"]);
            format!("[location: {}]", place.chain([point]).collect::<Vec<_>>().join(", "))
        }
        "contacts" => {
            let cards = list(own).map(|card| {
                let phones = list(&card["phones"]).filter_map(|phone| text(&phone["phone"], 40));
                let name = text(&card["name"]["formatted_name"], 120);
                name.into_iter().chain(phones).collect::<Vec<_>>().join(", ")
            });
            format!("[contact: {}]", cards.take(10).collect::<Vec<_>>().join("; "))
        }
        "interactive" => {
            let replies = [&own["button_reply"]["title"], &own["list_reply"]["title"], &own["nfm_reply"]["body"]];
            replies.into_iter().find_map(|title| text(title, MAX_TEXT)).unwrap_or_else(|| "[choice]".into())
        }
        "button" => text(&own["text"], MAX_TEXT)?,
        "order" => format!("[order of {} products]", list(&own["product_items"]).count()),
        // A thumb under a message asks for nothing, and what the app tells of itself is no message.
        "reaction" | "system" => return None,
        _ => "[a message of a kind that cannot be shown here]".into(),
    };
    Some(said).filter(|said| !said.is_empty())
}

/// Its mark and what was written under it; both stand, whether or not the file can be had.
fn of_file(message: &Value, own: &Value, kind: FileKind) -> String {
    let mark = match (kind, file_name(own)) {
        (FileKind::Audio, _) => "[voice message]".to_owned(),
        (kind, Some(name)) => format!("[{}: {name}]", kind.text()),
        (kind, None) => format!("[{}]", kind.text()),
    };
    let transcript = text(&message["kapso"]["transcript"]["text"], MAX_TEXT);
    let words = text(&own["caption"], MAX_TEXT).or(transcript);
    words.map_or(mark.clone(), |words| format!("{mark} {words}"))
}

fn file_kind(message: &Value) -> Option<FileKind> {
    let word = message["type"].as_str()?;
    let kinds = [FileKind::Image, FileKind::Video, FileKind::Audio, FileKind::Document, FileKind::Sticker];
    kinds.into_iter().find(|kind| kind.text() == word)
}

fn file_name(own: &Value) -> Option<String> {
    text(&own["filename"], 200)
}

fn file(message: &Value) -> Option<FileRef> {
    let kind = file_kind(message)?;
    let own = &message[kind.text()];
    Some(FileRef { id: id(&own["id"])?, kind, mime: text(&own["mime_type"], 100), name: file_name(own) })
}

/// Seconds since 1970, as a text or a number.
fn moment(value: &Value) -> Time {
    let seconds = value.as_str().and_then(|text| text.parse().ok()).or_else(|| value.as_u64()).unwrap_or(0);
    // Beyond any year that a time can have, there is none.
    Time::from_millis(0) + Duration::from_secs(seconds.min(4_102_444_800 * 10))
}

fn list(value: &Value) -> std::slice::Iter<'_, Value> {
    value.as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

/// An id as others make them: visible ASCII.
fn id(value: &Value) -> Option<String> {
    let id = value.as_str()?;
    let fits = (1..=MAX_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| id.to_owned())
}

fn digits(value: &Value) -> Option<String> {
    let number = value.as_u64().map(|number| number.to_string());
    let digits: String = number.as_deref().or(value.as_str())?.chars().filter(char::is_ascii_digit).collect();
    (5..=20).contains(&digits.len()).then_some(digits)
}

fn text(value: &Value, max: usize) -> Option<String> {
    let text = value.as_str()?.trim();
    (!text.is_empty()).then(|| shorten(text, max))
}
