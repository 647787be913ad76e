//! What production is, read from `template.yaml`: the table, the functions with what feeds them, the queues. What the
//! template lacks does not exist here either, so the two cannot drift apart.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use serde_norway::Value as Yaml;
use shared::kernel::{Code, Error, Result};
use shared::ports::queue::QueueName;
use shared::table::admin::{IndexShape, Shape};

static TEXT: &str = include_str!("../../../template.yaml");

/// How long SQS keeps a message unless the template says it: 4 days.
const RETENTION: u64 = 4 * 24 * 3600;

/// What the template says, as far as the local platform acts on it.
#[derive(Debug)]
pub struct Template {
    /// The table.
    pub table: Shape,
    /// The functions, in the order of their logical names.
    pub functions: Vec<Function>,
    /// The queues that functions send to.
    pub queues: Vec<QueueSpec>,
}

/// A function.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its binary, such as `studio-auth`.
    pub binary: String,
    /// How long it may run.
    pub timeout: Duration,
    /// What feeds it.
    pub sources: Vec<Source>,
}

/// What feeds a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Requests on a route of the gateway.
    Http {
        /// A method; `None` for any.
        method: Option<String>,
        /// Such as `/api/agents/{proxy+}`.
        path: String,
        /// Whether the answer is handed on piece by piece.
        streams: bool,
    },
    /// Messages of a queue.
    Queue {
        /// Which.
        queue: QueueName,
        /// The most messages at once.
        batch: usize,
        /// The most batches at the same time.
        concurrency: usize,
    },
    /// Events of the table's stream.
    Stream {
        /// The most events at once.
        batch: usize,
    },
    /// A schedule.
    Schedule {
        /// How often.
        every: Duration,
    },
}

/// A queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSpec {
    /// What the product's code calls it.
    pub name: QueueName,
    /// How long a message that was received is hidden.
    pub visibility: Duration,
    /// How often a message is received before it goes to the dead letters.
    pub max_receives: u32,
    /// How long a message is kept.
    pub retention: Duration,
    /// How long a dead letter is kept.
    pub dead_retention: Duration,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Raw {
    globals: RawGlobals,
    resources: BTreeMap<String, RawResource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawGlobals {
    function: RawFunctionGlobals,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawFunctionGlobals {
    timeout: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawResource {
    #[serde(rename = "Type")]
    kind: String,
    #[serde(default)]
    properties: Value,
    #[serde(default)]
    metadata: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawTable {
    key_schema: Vec<RawKey>,
    #[serde(default)]
    global_secondary_indexes: Vec<RawIndex>,
    time_to_live_specification: RawTtl,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawKey {
    attribute_name: String,
    key_type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawIndex {
    index_name: String,
    key_schema: Vec<RawKey>,
    projection: RawProjection,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawProjection {
    projection_type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawTtl {
    attribute_name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawQueue {
    #[serde(default = "default_visibility")]
    visibility_timeout: u64,
    #[serde(default = "default_retention")]
    message_retention_period: u64,
    redrive_policy: Option<RawRedrive>,
}

const fn default_visibility() -> u64 {
    30
}

const fn default_retention() -> u64 {
    RETENTION
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRedrive {
    dead_letter_target_arn: Value,
    max_receive_count: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawFunction {
    timeout: Option<u64>,
    #[serde(default)]
    environment: RawEnvironment,
    #[serde(default)]
    events: BTreeMap<String, RawEvent>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct RawEnvironment {
    #[serde(default)]
    variables: HashMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(tag = "Type", content = "Properties")]
enum RawEvent {
    HttpApi(RawHttp),
    Api(RawApi),
    ScheduleV2(RawSchedule),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawHttp {
    method: String,
    path: String,
}

/// A route of a REST API.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawApi {
    method: String,
    path: String,
    #[serde(default)]
    response_transfer_mode: String,
}

/// What feeds a function from a queue or the stream.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawMapping {
    function_name: Value,
    event_source_arn: Value,
    #[serde(default = "default_batch")]
    batch_size: usize,
    #[serde(default)]
    scaling_config: RawScaling,
}

const fn default_batch() -> usize {
    10
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawScaling {
    maximum_concurrency: usize,
}

impl Default for RawScaling {
    fn default() -> Self {
        // Lambda starts with five readers of a queue.
        Self { maximum_concurrency: 5 }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawSchedule {
    schedule_expression: String,
}

impl Template {
    /// The template that this program was built with.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn of_this_build() -> Result<Self> {
        Self::parse(TEXT)
    }

    /// Reads a template.
    ///
    /// # Errors
    /// `not_configured` with the resource and what the local platform does not understand of it.
    pub fn parse(text: &str) -> Result<Self> {
        let yaml: Yaml = serde_norway::from_str(text).map_err(|error| wrong("it is not YAML", &error))?;
        let raw: Raw = serde_json::from_value(plain(yaml)?).map_err(|error| wrong("its outline", &error))?;
        let functions = raw.resources.iter().filter(|(_, resource)| resource.kind == "AWS::Serverless::Function");
        let functions: Vec<(&String, &Value, RawFunction)> = functions
            .map(|(name, resource)| Ok((name, &resource.metadata, properties(name, resource)?)))
            .collect::<Result<_>>()?;
        let named = named_queues(functions.iter().map(|(_, _, function)| function));
        let queues =
            named.iter().map(|(logical, name)| queue(&raw.resources, logical, *name)).collect::<Result<_>>()?;
        let default_timeout = raw.globals.function.timeout;
        let mapped = mapped(&raw.resources, &named)?;
        let functions = functions.iter().map(|(name, metadata, function)| {
            let binary = metadata["BuildProperties"]["Binary"].as_str();
            let events = function.events.values().map(|event| source(name, event));
            let of_mappings = mapped.iter().filter(|(fed, _)| fed == *name).map(|(_, source)| Ok(source.clone()));
            Ok(Function {
                binary: binary.ok_or_else(|| wrong(name, &"it names no binary in its Metadata"))?.to_owned(),
                timeout: Duration::from_secs(function.timeout.unwrap_or(default_timeout)),
                sources: events.chain(of_mappings).collect::<Result<_>>()?,
            })
        });
        Ok(Self { table: table(&raw.resources)?, functions: functions.collect::<Result<_>>()?, queues })
    }

    /// The same at another pace.
    #[must_use]
    pub fn at(mut self, pace: Pace) -> Self {
        for source in self.functions.iter_mut().flat_map(|function| &mut function.sources) {
            if let (Source::Schedule { every }, Some(wanted)) = (source, pace.schedule) {
                *every = wanted;
            }
        }
        for queue in &mut self.queues {
            queue.visibility = pace.visibility.unwrap_or(queue.visibility);
        }
        self
    }
}

/// Times that a developer wants otherwise than the template has them: `CHATIA_SCHEDULE_SECONDS` for every schedule,
/// `CHATIA_VISIBILITY_SECONDS` for how long a received message is hidden, and so for the wait before its next try.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace {
    schedule: Option<Duration>,
    visibility: Option<Duration>,
}

impl Pace {
    /// Reads it through `lookup`, which finds a variable by its name.
    ///
    /// # Errors
    /// `validation_error` that names the variable.
    pub fn read(lookup: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let seconds = |name: &str| {
            let parse = |text: String| {
                let seconds = text.trim().parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                let wrong = || Error::field(name, "invalid", format!("{name} must be seconds, such as 0.5"));
                seconds.filter(|seconds| !seconds.is_zero()).ok_or_else(wrong)
            };
            lookup(name).map(parse).transpose()
        };
        Ok(Self { schedule: seconds("CHATIA_SCHEDULE_SECONDS")?, visibility: seconds("CHATIA_VISIBILITY_SECONDS")? })
    }
}

/// The table of this build's template, for whoever needs nothing else of it.
///
/// # Errors
/// As [`Template::parse`].
pub fn table_shape() -> Result<Shape> {
    Template::of_this_build().map(|template| template.table)
}

fn wrong(what: &str, why: &dyn std::fmt::Display) -> Error {
    Error::with_message(Code::NotConfigured, format!("template.yaml: {what}: {why}"))
}

fn properties<T: for<'de> Deserialize<'de>>(name: &str, resource: &RawResource) -> Result<T> {
    T::deserialize(&resource.properties).map_err(|error| wrong(name, &error))
}

/// The document with CloudFormation's tags in their long form, which every JSON reader understands: `!Ref A` is
/// `{"Ref": "A"}`, `!GetAtt A.B` is `{"Fn::GetAtt": ["A", "B"]}`, any other `!X` is `{"Fn::X": …}`.
fn plain(yaml: Yaml) -> Result<Value> {
    Ok(match yaml {
        Yaml::Tagged(tagged) => {
            let tag = tagged.tag.to_string();
            let name = tag.trim_start_matches('!');
            let value = plain(tagged.value)?;
            match (name, value.as_str().and_then(|text| text.split_once('.'))) {
                ("GetAtt", Some((resource, attribute))) => json!({"Fn::GetAtt": [resource, attribute]}),
                ("Ref" | "Condition", _) => json!({name: value}),
                _ => json!({format!("Fn::{name}"): value}),
            }
        }
        Yaml::Sequence(items) => Value::Array(items.into_iter().map(plain).collect::<Result<_>>()?),
        Yaml::Mapping(entries) => {
            let entry = |(key, value): (Yaml, Yaml)| match key {
                Yaml::String(key) => Ok((key, plain(value)?)),
                other => Err(wrong("its outline", &format!("the key {other:?} is no text"))),
            };
            Value::Object(entries.into_iter().map(entry).collect::<Result<_>>()?)
        }
        other => serde_json::to_value(other).map_err(|error| wrong("its outline", &error))?,
    })
}

/// The resource that `!Ref X` or `!GetAtt X.Y` names.
fn referred(value: &Value) -> Option<&str> {
    value["Ref"].as_str().or_else(|| value["Fn::GetAtt"][0].as_str())
}

fn table(resources: &BTreeMap<String, RawResource>) -> Result<Shape> {
    let mut tables = resources.iter().filter(|(_, resource)| resource.kind == "AWS::DynamoDB::Table");
    let (Some((name, resource)), None) = (tables.next(), tables.next()) else {
        return Err(wrong("its table", &"there must be exactly one"));
    };
    let raw: RawTable = properties(name, resource)?;
    let indexes = raw.global_secondary_indexes.into_iter().map(|index| {
        Ok(IndexShape {
            key: key(name, index.key_schema)?,
            keys_only: index.projection.projection_type == "KEYS_ONLY",
            name: index.index_name,
        })
    });
    Ok(Shape {
        indexes: indexes.collect::<Result<_>>()?,
        key: key(name, raw.key_schema)?,
        ttl: raw.time_to_live_specification.attribute_name,
    })
}

fn key(name: &str, schema: Vec<RawKey>) -> Result<(String, String)> {
    match <[RawKey; 2]>::try_from(schema) {
        Ok([pk, sk]) if pk.key_type == "HASH" && sk.key_type == "RANGE" => Ok((pk.attribute_name, sk.attribute_name)),
        _ => Err(wrong(name, &"a key must be a HASH and a RANGE attribute")),
    }
}

/// The queues by logical name, found by the variables that tell functions their URLs.
fn named_queues<'a>(functions: impl Iterator<Item = &'a RawFunction>) -> BTreeMap<String, QueueName> {
    let of_function = |function: &'a RawFunction| {
        QueueName::ALL.iter().filter_map(|queue| {
            let url = function.environment.variables.get(queue.url_variable())?;
            Some((referred(url)?.to_owned(), *queue))
        })
    };
    functions.flat_map(of_function).collect()
}

fn queue(resources: &BTreeMap<String, RawResource>, logical: &str, name: QueueName) -> Result<QueueSpec> {
    let find = |logical: &str| -> Result<RawQueue> {
        let found = resources.get(logical).filter(|resource| resource.kind == "AWS::SQS::Queue");
        properties(logical, found.ok_or_else(|| wrong(logical, &"there is no such queue"))?)
    };
    let raw = find(logical)?;
    let redrive = raw.redrive_policy.ok_or_else(|| wrong(logical, &"it has no RedrivePolicy"))?;
    let dead = find(referred(&redrive.dead_letter_target_arn).unwrap_or_default())?;
    Ok(QueueSpec {
        name,
        visibility: Duration::from_secs(raw.visibility_timeout),
        max_receives: redrive.max_receive_count,
        retention: Duration::from_secs(raw.message_retention_period),
        dead_retention: Duration::from_secs(dead.message_retention_period),
    })
}

/// What feeds functions from queues and the stream, with the logical name of the function.
fn mapped(
    resources: &BTreeMap<String, RawResource>,
    queues: &BTreeMap<String, QueueName>,
) -> Result<Vec<(String, Source)>> {
    let mappings = resources.iter().filter(|(_, resource)| resource.kind == "AWS::Lambda::EventSourceMapping");
    let one = |(name, resource): (&String, &RawResource)| {
        let raw: RawMapping = properties(name, resource)?;
        let function = referred(&raw.function_name).filter(|function| resources.contains_key(*function));
        let function = function.ok_or_else(|| wrong(name, &"it feeds no function of the template"))?;
        let batch = raw.batch_size;
        let source = if raw.event_source_arn["Fn::GetAtt"][1] == "StreamArn" {
            Source::Stream { batch }
        } else {
            let queue = referred(&raw.event_source_arn).and_then(|logical| queues.get(logical));
            let queue = queue.ok_or_else(|| wrong(name, &"no function is told the URL of its queue"))?;
            Source::Queue { queue: *queue, batch, concurrency: raw.scaling_config.maximum_concurrency }
        };
        Ok((function.to_owned(), source))
    };
    mappings.map(one).collect()
}

fn source(function: &str, event: &RawEvent) -> Result<Source> {
    Ok(match event {
        RawEvent::HttpApi(http) => {
            Source::Http { method: method(&http.method), path: http.path.clone(), streams: false }
        }
        RawEvent::Api(api) if api.response_transfer_mode == "RESPONSE_STREAM" => {
            Source::Http { method: method(&api.method), path: api.path.clone(), streams: true }
        }
        RawEvent::Api(_) => return Err(wrong(function, &"a route of a REST API that does not stream")),
        RawEvent::ScheduleV2(schedule) => Source::Schedule {
            every: rate(&schedule.schedule_expression).ok_or_else(|| {
                wrong(function, &format!("only rate(…) is understood here, not {}", schedule.schedule_expression))
            })?,
        },
    })
}

/// The method of a route; `None` for any.
fn method(text: &str) -> Option<String> {
    Some(text.to_ascii_uppercase()).filter(|method| method != "ANY" && method != "*")
}

/// `rate(5 minutes)` as a duration.
fn rate(expression: &str) -> Option<Duration> {
    let (number, unit) = expression.strip_prefix("rate(")?.strip_suffix(')')?.split_once(' ')?;
    let unit = match unit.trim_end_matches('s') {
        "minute" => 60,
        "hour" => 3_600,
        "day" => 86_400,
        _ => return None,
    };
    number.parse::<u64>().ok().filter(|number| *number > 0).map(|number| Duration::from_secs(number * unit))
}

#[cfg(test)]
mod tests;
