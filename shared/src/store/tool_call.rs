//! Results of tool calls: a repeated turn reads them instead of acting again.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::keys;
use crate::domain::{Conversation, Message, Workspace};
use crate::kernel::secret::sha256_hex;
use crate::kernel::{Code, Error, Id, Result, Time};
use crate::table::{Key, Row, Table, Unit};

const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// What a tool call gave.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ToolResult {
    /// Which tool.
    pub tool: String,
    /// What the model asked for.
    #[serde(with = "crate::kernel::json_text")]
    pub arguments: Value,
    /// Whether it worked.
    pub ok: bool,
    /// What the model is told, as JSON.
    #[serde(with = "crate::kernel::json_text")]
    pub result: Value,
}

/// The key of a call: the message that the turn answers, and the call's name in the turn ([`name`]).
#[must_use]
pub fn key(workspace: Id<Workspace>, conversation: Id<Conversation>, message: Id<Message>, call: &str) -> Key {
    keys::tool_call(workspace, conversation, message, call)
}

/// The name of a call in its turn: its number, and a digest of what it asks for, so that a repeated turn whose model
/// asks for something else is not given the old result.
#[must_use]
pub fn name(index: u32, tool: &str, arguments: &Value) -> String {
    format!("{index:03}-{}", &sha256_hex(format!("{tool}\n{arguments}"))[..16])
}

/// The stored result of a call.
///
/// # Errors
/// When the table cannot be read.
pub async fn get(table: &Table, key: &Key) -> Result<Option<ToolResult>> {
    table.get(key).await
}

/// Stores a result beside the call's effect; the unit fails on this key when the call was made already.
///
/// # Errors
/// When it does not serialise.
pub fn create(unit: &mut Unit, key: Key, result: &ToolResult, now: Time) -> Result<()> {
    unit.create(Row::new(key, "tool_call", result)?.ttl(now + KEPT), Error::new(Code::Conflict));
    Ok(())
}
