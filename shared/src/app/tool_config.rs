//! What an owner may configure of a tool.

use serde_json::{Map, Value};

use super::whatsapp::handoff;
use crate::domain::schema::Schema;
use crate::domain::text::Checks;
use crate::domain::tool::{Builtin, METHODS};
use crate::kernel::Secret;

/// Splits a tool's configuration into what may be shown and its secret headers, and checks both.
pub(super) fn split(
    checks: &mut Checks,
    tool: Option<Builtin>,
    config: Option<Map<String, Value>>,
) -> (Option<Map<String, Value>>, Option<Secret>) {
    let Some(mut config) = config else { return (None, None) };
    let size = serde_json::to_string(&config).map_or(0, |text| text.len());
    checks.ensure(size <= 8 * 1024, "config", "too_large", "config may have 8 KB");
    if tool == Some(Builtin::SendWhatsappHandoff) {
        handoff::check(checks, &config);
    }
    if tool != Some(Builtin::HttpRequest) {
        return (Some(config), None);
    }
    let headers = config.remove("headers");
    let texts = |value: &Value| value.as_object().is_some_and(|map| map.values().all(Value::is_string));
    let valid = headers.as_ref().is_none_or(texts);
    checks.ensure(valid, "config.headers", "invalid", "config.headers must map names to texts");
    let hosts = config.get("allowed_hosts");
    let host = |value: &Value| value.as_str().is_some_and(|host| !host.is_empty() && !host.contains(['/', '@', ' ']));
    let valid =
        hosts.is_none_or(|hosts| hosts.as_array().is_some_and(|hosts| !hosts.is_empty() && hosts.iter().all(host)));
    checks.ensure(
        valid,
        "config.allowed_hosts",
        "invalid",
        "config.allowed_hosts must list host names, such as api.example.com",
    );
    if let Some(methods) = config.get("methods") {
        let known = |method: &Value| method.as_str().is_some_and(|method| METHODS.contains(&method));
        let valid = methods.as_array().is_some_and(|methods| !methods.is_empty() && methods.iter().all(known));
        let message = format!("config.methods must list some of {}", METHODS.join(", "));
        checks.ensure(valid, "config.methods", "invalid", &message);
    }
    if let Some(Err(why)) = config.get("body_schema").map(Schema::read) {
        checks.fail("config.body_schema", "invalid", format!("config.body_schema is not usable: {why}"));
    }
    (Some(config), headers.map(|headers| Secret::new(headers.to_string())))
}
