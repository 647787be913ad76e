//! The journal: one line for each request, message and run, with what it was, how it ended, how long it took and what it
//! spent. In production the line is also the metrics (CloudWatch's embedded metric format); tests collect; the local
//! platform logs it.

use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value, json};

use crate::kernel::Time;
use crate::kernel::work::Work;

/// What a line is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A call of an operation.
    Request,
    /// A message of a queue.
    Message,
    /// A run behind a stream or a schedule.
    Run,
    /// A turn that goes on after its request was answered.
    Turn,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Message => "message",
            Self::Run => "run",
            Self::Turn => "turn",
        }
    }
}

/// Takes lines.
pub trait Journal: Send + Sync + 'static {
    /// Writes down work that is over.
    fn write(&self, kind: Kind, at: Time, work: &Work);
}

/// Metrics, each with its unit. CloudWatch bills each for every pair of service and operation, so they are few.
pub const METRICS: [(&str, &str); 4] =
    [("Latency", "Milliseconds"), ("Faults", "Count"), ("Refusals", "Count"), ("WriteUnits", "Count")];

/// JSON lines on standard output, as Lambda collects them.
#[derive(Debug, Clone, Default)]
pub struct LogJournal {
    /// The namespace of the metrics; without one there are none.
    pub namespace: Option<String>,
}

impl LogJournal {
    /// A line.
    #[must_use]
    pub fn line(&self, kind: Kind, at: Time, work: &Work) -> Value {
        let mut line = Map::new();
        line.insert("timestamp".into(), json!(at));
        let told = work.told();
        let (faults, refusals) = standing(&told);
        line.insert("level".into(), json!(if faults > 0 { "ERROR" } else { "INFO" }));
        line.insert("message".into(), json!(kind.as_str()));
        if let Some(namespace) = &self.namespace {
            line.insert("_aws".into(), metrics(namespace, at));
            let of = |name: &str| told.get(name).cloned().unwrap_or_else(|| json!(0));
            let values = [of("ms"), json!(faults), json!(refusals), of("write_units")];
            line.extend(METRICS.iter().zip(values).map(|((name, _), value)| ((*name).to_owned(), value)));
        }
        line.extend(told);
        Value::Object(line)
    }
}

/// Whether work ended in a fault of ours, and whether it was refused.
fn standing(told: &Map<String, Value>) -> (u8, u8) {
    let status = told.get("status").and_then(Value::as_u64).unwrap_or(0);
    let is_fault = status >= 500 || told.get("outcome").is_some_and(|outcome| outcome != "done");
    (u8::from(is_fault), u8::from((400..500).contains(&status)))
}

/// See "Embedded metric format" in CloudWatch's documentation.
fn metrics(namespace: &str, at: Time) -> Value {
    let metrics: Vec<Value> = METRICS.iter().map(|(name, unit)| json!({"Name": name, "Unit": unit})).collect();
    json!({
        "Timestamp": at.millis(),
        "CloudWatchMetrics": [{
            "Namespace": namespace, "Dimensions": [["service", "operation"]], "Metrics": metrics,
        }],
    })
}

impl Journal for LogJournal {
    fn write(&self, kind: Kind, at: Time, work: &Work) {
        println!("{}", self.line(kind, at, work));
    }
}

/// Lines among the logs, for people: shown with `RUST_LOG=info`.
#[derive(Debug, Clone, Copy, Default)]
pub struct TerminalJournal;

impl Journal for TerminalJournal {
    fn write(&self, kind: Kind, _: Time, work: &Work) {
        if tracing::enabled!(tracing::Level::INFO) {
            let line = Value::Object(work.told());
            tracing::info!(%line, "{}", kind.as_str());
        }
    }
}

/// Collects lines, for tests.
#[derive(Debug, Default)]
pub struct MemoryJournal(Mutex<Vec<Value>>);

impl MemoryJournal {
    /// Every line so far, as [`LogJournal`] would write it.
    #[must_use]
    pub fn lines(&self) -> Vec<Value> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Journal for MemoryJournal {
    fn write(&self, kind: Kind, at: Time, work: &Work) {
        let line = LogJournal { namespace: Some("Test".into()) }.line(kind, at, work);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Time = Time::from_millis(1_767_225_600_000);

    fn line(status: u64, outcome: Option<&'static str>) -> Value {
        let work = Work::new("r-1");
        work.note("service", "studio");
        work.note("operation", "chat");
        work.note("status", status);
        outcome.into_iter().for_each(|outcome| work.note("outcome", outcome));
        LogJournal { namespace: Some("Chatia/dev".into()) }.line(Kind::Request, AT, &work)
    }

    #[test]
    fn a_line_is_the_metrics_as_cloudwatch_reads_them() {
        let line = line(200, None);
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!((&line["_aws"]["Timestamp"], &directive["Namespace"]), (&json!(AT.millis()), &json!("Chatia/dev")));
        for metric in directive["Metrics"].as_array().unwrap() {
            assert!(line[metric["Name"].as_str().unwrap()].is_number(), "{metric} is at the root: {line}");
        }
        for dimension in directive["Dimensions"][0].as_array().unwrap() {
            assert!(line[dimension.as_str().unwrap()].is_string(), "{dimension} is at the root: {line}");
        }
        assert_eq!(
            (&line["message"], &line["level"], &line["request_id"]),
            (&json!("request"), &json!("INFO"), &json!("r-1"))
        );
    }

    #[test]
    fn a_fault_is_ours_and_a_refusal_is_not() {
        let of = |status, outcome| {
            let line = line(status, outcome);
            (line["Faults"].as_u64().unwrap(), line["Refusals"].as_u64().unwrap(), line["level"].clone())
        };
        assert_eq!(of(200, None), (0, 0, json!("INFO")));
        assert_eq!(of(422, None), (0, 1, json!("INFO")));
        assert_eq!(of(503, None), (1, 0, json!("ERROR")));
        assert_eq!(of(0, Some("done")), (0, 0, json!("INFO")));
        assert_eq!(of(0, Some("failed")), (1, 0, json!("ERROR")));
    }

    #[test]
    fn without_a_namespace_there_are_no_metrics() {
        let line = LogJournal::default().line(Kind::Run, AT, &Work::new("r-1"));
        assert!(line.get("_aws").is_none() && line.get("Latency").is_none(), "{line}");
    }
}
