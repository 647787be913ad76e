//! What `template.yaml` says that costs: memory, schedules, alarms, what the gateway logs.

use std::path::Path;

use serde_norway::Value;

pub(crate) struct Template(Value);

impl Template {
    pub(crate) fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../template.yaml");
        let text = std::fs::read_to_string(path).expect("template.yaml is there");
        Self(serde_norway::from_str(&text).expect("template.yaml is YAML"))
    }

    fn resources(&self) -> impl Iterator<Item = &Value> {
        self.0["Resources"].as_mapping().expect("resources").iter().map(|(_, resource)| resource)
    }

    fn functions(&self) -> impl Iterator<Item = &Value> {
        self.resources().filter(|resource| resource["Type"] == "AWS::Serverless::Function")
    }

    fn function(&self, name: &str) -> &Value {
        let found = self.functions().find(|function| function["Metadata"]["BuildProperties"]["Binary"] == name);
        &found.unwrap_or_else(|| panic!("template.yaml has no function {name}"))["Properties"]
    }

    /// How many resources of a type there are.
    pub(crate) fn count(&self, kind: &str) -> f64 {
        number(self.resources().filter(|resource| resource["Type"] == kind).count())
    }

    /// A function's memory in megabytes.
    pub(crate) fn memory(&self, name: &str) -> f64 {
        let own = self.function(name).get("MemorySize").and_then(Value::as_f64);
        own.or_else(|| self.0["Globals"]["Function"]["MemorySize"].as_f64()).expect("a size")
    }

    /// About how many bytes the gateway logs of a request: the names in the format are as long as what stands for them.
    pub(crate) fn access_log(&self) -> f64 {
        let format = self.0["Globals"]["HttpApi"]["AccessLogSettings"]["Format"].as_str().expect("a format");
        number(format.len())
    }

    /// How many queues functions are fed by.
    pub(crate) fn queues_read(&self) -> f64 {
        number(self.functions().flat_map(events).filter(|event| event["Type"] == "SQS").count())
    }

    /// How often a function is run by its schedule.
    pub(crate) fn runs_a_day(&self, name: &str) -> f64 {
        let rate = events_of(self.function(name)).find_map(|event| event["Properties"]["ScheduleExpression"].as_str());
        let rate = rate.and_then(|rate| rate.strip_prefix("rate(")?.strip_suffix(')'));
        let Some((number, unit)) = rate.and_then(|rate| rate.split_once(' ')) else { panic!("{name} has no rate") };
        let number: f64 = number.parse().expect("a number");
        match unit.trim_end_matches('s') {
            "minute" => 24.0 * 60.0 / number,
            "hour" => 24.0 / number,
            "day" => 1.0 / number,
            other => panic!("no such unit: {other}"),
        }
    }
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("templates are small"))
}

fn events(function: &Value) -> Vec<&Value> {
    events_of(&function["Properties"]).collect()
}

fn events_of(properties: &Value) -> impl Iterator<Item = &Value> {
    let events = properties.get("Events").and_then(Value::as_mapping);
    events.into_iter().flat_map(|events| events.iter().map(|(_, event)| event))
}
