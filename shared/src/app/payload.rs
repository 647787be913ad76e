//! What studio's webhooks are told: the texts behind an event's ids, read when it is first sent.

use serde_json::{Map, Value, json};

use super::App;
use crate::domain::message::{Author, Message};
use crate::domain::{Conversation, Event, Lead};
use crate::events::catalog::kind;
use crate::kernel::{Id, Result};
use crate::store;

/// The body of a delivery: `{id, type, created_at, agent_id, data}`. What was deleted meanwhile is left out.
///
/// # Errors
/// When the table cannot be read.
pub async fn studio(app: &App, event: &Event, name: &str) -> Result<String> {
    let data = match event.kind.as_str() {
        kind::MESSAGE_INBOUND | kind::MESSAGE_REPLY => message(app, event).await?,
        kind::LEAD_CAPTURED => lead(app, event).await?,
        kind::TOOL_CALLED => tool(app, event).await?,
        kind::CUSTOM => {
            let text = event.data.get("payload").and_then(Value::as_str).unwrap_or("{}");
            serde_json::from_str(text).unwrap_or_default()
        }
        kind::HANDOFF_REQUESTED | kind::CONVERSATION_CLOSED => with_int(event, "conversation", "conversation_id"),
        _ => with_agent(event),
    };
    let agent = event.agent_id.map(Id::int);
    let body = json!({"id": event.id, "type": name, "created_at": event.at, "agent_id": agent, "data": data});
    Ok(body.to_string())
}

fn with_agent(event: &Event) -> Value {
    let mut data = event.data.clone();
    data.insert("agent_id".into(), json!(event.agent_id.map(Id::int)));
    Value::Object(data)
}

/// The event's data with an id in studio's integer face under its documented name.
fn with_int(event: &Event, ours: &str, theirs: &str) -> Value {
    let mut data: Map<String, Value> = event.data.clone();
    data.remove(ours);
    data.insert(theirs.into(), json!(event.id_in::<Conversation>(ours).map(Id::int)));
    Value::Object(data)
}

async fn message(app: &App, event: &Event) -> Result<Value> {
    let ids = (event.id_in::<Conversation>("conversation"), event.id_in::<Message>("message"));
    let (Some(conversation), Some(message)) = ids else { return Ok(Value::Null) };
    let head = store::keys::conversation(event.workspace_id, conversation);
    let (head, message) = tokio::try_join!(
        app.table.get::<Conversation>(&head),
        store::conversation::message(&app.table, event.workspace_id, conversation, message),
    )?;
    let (Some(head), Some(message)) = (head, message) else {
        return Ok(with_int(event, "conversation", "conversation_id"));
    };
    let role = match message.author {
        Author::Visitor => "user",
        Author::Agent | Author::Operator => "assistant",
    };
    Ok(json!({
        "conversation_id": conversation.int(),
        "message_id": message.id.int(),
        "role": role,
        "content": message.content,
        "channel": head.channel,
        "visitor_id": head.visitor_id,
        "key_source": message.reply.and_then(|reply| reply.key_source),
    }))
}

async fn lead(app: &App, event: &Event) -> Result<Value> {
    let (Some(lead), Some(agent)) = (event.id_in::<Lead>("lead"), event.agent_id) else { return Ok(Value::Null) };
    let Some(found) = store::lead::get(&app.table, event.workspace_id, agent, lead).await? else {
        return Ok(json!({"lead_id": lead.int()}));
    };
    let lead = found.body;
    Ok(json!({
        "lead_id": lead.id.int(),
        "conversation_id": lead.conversation_id.map(Id::int),
        "name": lead.name,
        "email": lead.email,
        "phone": lead.phone,
        "interest": lead.interest,
        "source": lead.source,
        "status": lead.status,
    }))
}

async fn tool(app: &App, event: &Event) -> Result<Value> {
    let mut data = with_int(event, "conversation", "conversation_id");
    if let Some(call) = tool_call(app, event).await? {
        data["arguments"] = call.arguments;
    }
    if let Value::Object(data) = &mut data {
        data.remove("message");
        data.remove("call");
    }
    Ok(data)
}

/// The stored call that a `tool.called` event names.
///
/// # Errors
/// When the table cannot be read.
pub async fn tool_call(app: &App, event: &Event) -> Result<Option<store::tool_call::ToolResult>> {
    let ids = (event.id_in::<Conversation>("conversation"), event.id_in::<Message>("message"));
    let call = event.data.get("call").and_then(Value::as_str);
    let ((Some(conversation), Some(message)), Some(call)) = (ids, call) else { return Ok(None) };
    let key = store::tool_call::key(event.workspace_id, conversation, message, call);
    store::tool_call::get(&app.table, &key).await
}
