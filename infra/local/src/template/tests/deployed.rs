//! What is deployed, held against the code: variables, roles, the number of resources, what stands in front.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Map;
use shared::app::function::{FUNCTIONS, Function as Row, Place, Use};
use shared::app::{aws, config};
use shared::ports::mail;
use shared::store::keys;

use super::super::*;

const OPERATIONS: &str = include_str!("../../../../../docs/OPERATIONS.md");
const CONFIGURATION: &str = include_str!("../../../../../docs/CONFIGURATION.md");

/// The whole template, with tags in their long form.
fn document() -> Value {
    plain(serde_norway::from_str(TEXT).unwrap()).unwrap()
}

/// The resources of a type, by logical name.
fn of_type<'a>(document: &'a Value, kind: &str) -> BTreeMap<&'a str, &'a Value> {
    let all = document["Resources"].as_object().unwrap();
    all.iter().filter(|(_, resource)| resource["Type"] == kind).map(|(name, found)| (name.as_str(), found)).collect()
}

/// The functions by binary.
fn functions(document: &Value) -> BTreeMap<&str, &Value> {
    let functions = of_type(document, "AWS::Serverless::Function").into_values();
    functions.map(|found| (found["Metadata"]["BuildProperties"]["Binary"].as_str().unwrap(), found)).collect()
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// A list, or the one thing that stands for a list of one.
fn list(value: &Value) -> Vec<&Value> {
    value.as_array().map_or_else(|| vec![value], |items| items.iter().collect())
}

#[test]
fn every_binary_is_a_function_and_every_function_a_binary() {
    let document = document();
    let deployed: BTreeSet<&str> = functions(&document).into_keys().collect();
    let listed: BTreeSet<&str> = FUNCTIONS.iter().map(|function| function.binary).collect();
    assert_eq!(deployed, listed);
    let mut built = BTreeSet::new();
    let crates = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../functions")).unwrap();
    for path in crates.map(|entry| entry.unwrap().path()) {
        let manifest = std::fs::read_to_string(path.join("Cargo.toml")).unwrap();
        for source in std::fs::read_dir(path.join("src/bin")).unwrap() {
            let name = source.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned();
            assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in its Cargo.toml");
            built.insert(name);
        }
    }
    assert_eq!(deployed, built.iter().map(String::as_str).collect());
}

#[test]
fn a_function_is_given_the_variables_that_it_reads_and_no_others() {
    let document = document();
    let of_all = &document["Globals"]["Function"]["Environment"]["Variables"];
    for (binary, function) in functions(&document) {
        let own = &function["Properties"]["Environment"]["Variables"];
        let given: BTreeSet<&str> = entries(of_all).chain(entries(own)).map(|(name, _)| name.as_str()).collect();
        assert_eq!(given, Row::find(binary).unwrap().variables(), "{binary}");
        let twice: Vec<_> = entries(own).filter(|(name, _)| of_all.get(name).is_some()).collect();
        assert!(twice.is_empty(), "{binary}: {twice:?}");
    }
}

#[test]
fn a_variable_of_a_queue_names_the_same_queue_in_every_function() {
    let (document, names) = (document(), queues());
    for (binary, function) in functions(&document) {
        for (name, value) in entries(&function["Properties"]["Environment"]["Variables"]) {
            for queue in QueueName::ALL {
                let place = match name.as_str() {
                    name if name == queue.url_variable() => Place::Queue(*queue),
                    name if name == queue.dead_letters_url_variable() => Place::DeadLetters(*queue),
                    _ => continue,
                };
                assert_eq!(names.get(referred(value).unwrap()), Some(&place), "{binary}: {name}");
            }
        }
    }
}

/// Words in capitals with an underscore, as variables are named.
fn variables_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
    words.filter(|word| word.contains('_') && word.len() > 5 && !word.ends_with('_')).collect()
}

#[test]
fn the_guide_lists_every_variable_and_none_that_nobody_reads() {
    let deployed = FUNCTIONS.iter().flat_map(Row::variables);
    let mut read: BTreeSet<&str> = deployed.chain(config::LOCAL.iter().copied()).collect();
    assert!(aws::PLACES.iter().chain(&mail::VARIABLES).all(|name| read.contains(name)));
    // Read by the local platform, and secrets that may be given as variables there.
    read.extend([
        "CHATIA_ADMIN_EMAIL",
        "CHATIA_ADMIN_PASSWORD",
        "CHATIA_SCHEDULE_SECONDS",
        "CHATIA_VISIBILITY_SECONDS",
    ]);
    read.extend(aws::AMBIENT);
    read.extend(["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "POLAR_ACCESS_TOKEN", "POLAR_WEBHOOK_SECRET"]);
    assert_eq!(variables_in(CONFIGURATION), read);
}

/// Which queue a logical name is, or whose dead letters.
fn queues() -> BTreeMap<String, Place> {
    let document = document();
    let of_functions =
        functions(&document).into_values().map(|function| RawFunction::deserialize(&function["Properties"]).unwrap());
    let live = named_queues(of_functions.collect::<Vec<_>>().iter());
    let dead = live.iter().map(|(logical, name)| {
        let redrive = &document["Resources"][logical]["Properties"]["RedrivePolicy"];
        (referred(&redrive["deadLetterTargetArn"]).unwrap().to_owned(), Place::DeadLetters(*name))
    });
    let dead: Vec<_> = dead.collect();
    live.iter().map(|(logical, name)| (logical.clone(), Place::Queue(*name))).chain(dead).collect()
}

/// The places that a statement of a policy is about.
fn places(statement: &Value, queues: &BTreeMap<String, Place>) -> Vec<Place> {
    let texts: Vec<String> = list(&statement["Resource"]).into_iter().map(Value::to_string).collect();
    let index = |name: &str| format!(r#"{{"Fn::Sub":"${{Table.Arn}}/index/{name}"}}"#);
    let is_both = texts.contains(&index("gsi1")) && texts.contains(&index("gsi2"));
    let one = |resource: &Value| match resource.to_string() {
        text if text == index("gsi1") || text == index("gsi2") => is_both.then_some(Place::Indexes),
        text if text == r#"{"Fn::GetAtt":["Table","Arn"]}"# => match statement.get("Condition") {
            None => Some(Place::Table),
            Some(condition) => is_about_rate_windows(condition).then_some(Place::RateWindows),
        },
        text if text == r#"{"Fn::GetAtt":["Table","StreamArn"]}"# => Some(Place::Stream),
        text if text == r#"{"Fn::Sub":"${Table.Arn}/stream/*"}"# => Some(Place::Streams),
        text if text == r#"{"Fn::GetAtt":["StreamFailures","Arn"]}"# => Some(Place::StreamFailures),
        text if text == r#"{"Ref":"Secret"}"# => Some(Place::Secret),
        text if text == r#"{"Fn::GetAtt":["Objects","Arn"]}"# => Some(Place::Bucket),
        text if text == r#"{"Fn::Sub":"${Objects.Arn}/*"}"# => Some(Place::Files),
        _ => referred(resource).and_then(|logical| queues.get(logical)).copied(),
    };
    let place = |resource: &Value| one(resource).unwrap_or_else(|| panic!("what is {resource}?"));
    list(&statement["Resource"]).into_iter().map(place).collect()
}

/// Whether it lets through what `store` names rate windows, and only that.
fn is_about_rate_windows(condition: &Value) -> bool {
    let pattern = &condition["ForAllValues:StringLike"]["dynamodb:LeadingKeys"][0];
    let prefix = pattern.as_str().and_then(|pattern| pattern.strip_suffix('*')).unwrap();
    condition.as_object().is_some_and(|parts| parts.len() == 1) && keys::rate("c", "s", 0).pk == format!("{prefix}c#s")
}

/// What a role allows, from the policies of its function.
fn allowed(document: &Value, function: &Value) -> BTreeSet<(String, Place)> {
    let queues = queues();
    let mut allowed = BTreeSet::new();
    for policy in list(&function["Properties"]["Policies"]).into_iter().filter(|policy| !policy.is_null()) {
        let name = referred(policy).unwrap_or_else(|| panic!("a policy that is none of the template's: {policy}"));
        let policy = &of_type(document, "AWS::IAM::ManagedPolicy")[name]["Properties"]["PolicyDocument"];
        for statement in list(&policy["Statement"]) {
            assert_eq!(statement["Effect"], "Allow");
            for place in places(statement, &queues) {
                let actions = list(&statement["Action"]).into_iter().map(|action| action.as_str().unwrap().to_owned());
                allowed.extend(actions.map(|action| (action, place)));
            }
        }
    }
    allowed
}

#[test]
fn a_role_allows_what_its_function_uses_and_nothing_else() {
    let document = document();
    for (binary, function) in functions(&document) {
        let used = Row::find(binary).unwrap().grants();
        let used: BTreeSet<_> = used.into_iter().map(|(action, place)| (action.to_owned(), place)).collect();
        assert_eq!(allowed(&document, function), used, "{binary}");
        assert!(function["Properties"].get("Role").is_none(), "{binary}: its role is SAM's with our policies");
        // A role may have ten: SAM adds those for logs and traces.
        let policies = list(&function["Properties"]["Policies"]).len();
        assert!(policies + 2 <= 10, "{binary} has {policies} policies");
    }
}

#[test]
fn what_a_function_is_fed_by_stands_in_its_row() {
    for Function { binary, sources, .. } in Template::of_this_build().unwrap().functions {
        let fed = sources.iter().filter_map(|source| match source {
            Source::Queue { queue, .. } => Some(Use::Consume(*queue)),
            Source::Stream { .. } => Some(Use::Follow),
            Source::Http { .. } | Source::Schedule { .. } => None,
        });
        let listed = Row::find(&binary).unwrap().uses.iter().copied();
        let listed = listed.filter(|using| matches!(using, Use::Consume(_) | Use::Follow));
        assert_eq!(fed.collect::<BTreeSet<_>>(), listed.collect(), "{binary}");
    }
}

#[test]
fn no_policy_is_there_that_no_function_has() {
    let document = document();
    let lists = functions(&document).into_values().flat_map(|function| list(&function["Properties"]["Policies"]));
    let used: BTreeSet<&str> = lists.filter_map(referred).collect();
    assert_eq!(used, of_type(&document, "AWS::IAM::ManagedPolicy").into_keys().collect());
}

/// How many resources SAM makes of one, at most.
fn expanded(resource: &Value) -> usize {
    let of_events = |events: &Value| {
        let each = entries(events).map(|(_, event)| match event["Type"].as_str() {
            // A permission.
            Some("HttpApi" | "Api") => 1,
            // A schedule and its role.
            Some("ScheduleV2") => 2,
            // For a queue or a stream SAM gives the role AWS's own policy, which is about all of the account.
            other => panic!("what feeds a function otherwise is a resource of its own, not {other:?}"),
        });
        each.sum::<usize>()
    };
    match resource["Type"].as_str() {
        // With its role, and its settings for events that nobody waits for.
        Some("AWS::Serverless::Function") => 3 + of_events(&resource["Properties"]["Events"]),
        // With its deployment and its stage.
        Some("AWS::Serverless::Api") => 3,
        Some(other) => {
            assert!(!other.starts_with("AWS::Serverless::"), "what does SAM make of {other}?");
            1
        }
        None => panic!("a resource without a type"),
    }
}

/// CloudFormation takes 500 in a stack; beyond 400 each surface gets a nested one.
#[test]
fn the_stack_has_at_most_four_hundred_resources() {
    let document = document();
    let all: usize = entries(&document["Resources"]).map(|(_, resource)| expanded(resource)).sum();
    // And the HTTP API, which SAM makes of the routes, with its stage. aws-sam-translator 1.113.0 makes 172, fewer than are
    // counted here: only two functions have settings for events that nobody waits for.
    let all = all + 2;
    assert!((100..=400).contains(&all), "{all} resources");
}

#[test]
fn every_alarm_tells_the_topic_and_has_its_line_in_the_guide() {
    let document = document();
    let section = OPERATIONS.split("## What to watch").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let alarms = of_type(&document, "AWS::CloudWatch::Alarm");
    for (name, alarm) in &alarms {
        assert_eq!(alarm["Properties"]["AlarmActions"], json!([{"Ref": "Alarms"}]), "{name}");
        let lines =
            section.lines().filter(|line| line.starts_with("| ") && line.contains(&format!("`{name}`"))).count();
        assert_eq!(lines, 1, "{name} has {lines} lines in docs/OPERATIONS.md");
    }
    let first = |line: &str| line.split('|').nth(1).unwrap_or_default().to_owned();
    let named: Vec<String> = section.lines().filter(|line| line.starts_with("| ")).map(first).collect();
    let named = named.iter().flat_map(|cell| cell.split('`').skip(1).step_by(2)).filter(|name| name.ends_with("Alarm"));
    let known: Vec<&str> = alarms.keys().copied().collect();
    assert_eq!(named.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>(), known);
}

/// `${X}` in a text for `Fn::Sub`, as names.
fn substituted(text: &str) -> impl Iterator<Item = &str> {
    text.split("${").skip(1).filter_map(|rest| rest.split(['}', '.']).next())
}

#[test]
fn the_dashboard_is_json_about_resources_that_are_there() {
    let document = document();
    let body = document["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"].as_str().unwrap();
    let board: Value = serde_json::from_str(body).unwrap();
    let widgets = board["widgets"].as_array().unwrap();
    let metrics: usize = widgets.iter().map(|widget| widget["properties"]["metrics"].as_array().unwrap().len()).sum();
    assert!(widgets.len() >= 10 && metrics <= 50, "{metrics} metrics: a dashboard beyond 50 is never free");
    let resources: &Map<String, Value> = document["Resources"].as_object().unwrap();
    for name in substituted(body).filter(|name| !name.starts_with("AWS::")) {
        let is_there = resources.contains_key(name) || name == "Stage" || name == "ServerlessHttpApi";
        assert!(is_there, "{name}");
    }
}

fn distribution(document: &Value) -> &Value {
    &document["Resources"]["Distribution"]["Properties"]["DistributionConfig"]
}

#[test]
fn the_distribution_sends_streams_to_the_api_that_streams_and_all_else_to_the_other() {
    let document = document();
    let config = distribution(&document);
    assert_eq!(config["DefaultCacheBehavior"]["TargetOriginId"], "api");
    let behaviors = config["CacheBehaviors"].as_array().unwrap();
    let to = |origin: &str| {
        let there = behaviors.iter().filter(|behavior| behavior["TargetOriginId"] == origin);
        there.map(|behavior| behavior["PathPattern"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    let sources = Template::of_this_build().unwrap().functions.into_iter().flat_map(|function| function.sources);
    let streams = sources.filter_map(|source| match source {
        Source::Http { path, streams: true, .. } => Some(path),
        _ => None,
    });
    let starred = |path: String| {
        let star = |segment: &str| if segment.starts_with('{') { "*".to_owned() } else { segment.to_owned() };
        path.split('/').map(star).collect::<Vec<_>>().join("/")
    };
    assert_eq!(to("stream"), streams.map(starred).collect());
    assert_eq!(to("api"), ["/api/*", "/assets/*", "/hooks/*", "/widget.js"].map(str::to_owned).into());
    // The first that matches counts.
    let place = |path: &str| behaviors.iter().position(|behavior| behavior["PathPattern"] == path);
    assert!(to("stream").iter().all(|path| place(path) < place("/api/*")));
    let stage = document["Resources"]["StreamApi"]["Properties"]["StageName"].as_str().unwrap();
    for origin in config["Origins"].as_array().unwrap() {
        let header = json!([{"HeaderName": "x-origin-secret", "HeaderValue": {"Ref": "OriginSecret"}}]);
        assert_eq!(origin["OriginCustomHeaders"], header);
        let path = (origin["Id"] == "stream").then(|| json!(format!("/{stage}")));
        assert_eq!(origin.get("OriginPath"), path.as_ref());
    }
}

#[test]
fn a_credential_in_the_clear_is_refused_and_not_led_on() {
    let document = document();
    let config = distribution(&document);
    let behaviors = list(&config["CacheBehaviors"]).into_iter().chain([&config["DefaultCacheBehavior"]]);
    for behavior in behaviors {
        let pattern = behavior["PathPattern"].as_str().unwrap_or_default();
        let takes_credentials = pattern.starts_with("/api/") || pattern.starts_with("/hooks/");
        let policy = if takes_credentials { "https-only" } else { "redirect-to-https" };
        assert_eq!(behavior["ViewerProtocolPolicy"], policy, "{pattern}");
    }
}

#[test]
fn only_files_are_kept_by_the_distribution_and_no_error_is() {
    let document = document();
    let config = distribution(&document);
    let (disabled, all_but_host) = ("4135ea2d-6df8-44a3-9df3-4b5a84be39ad", "b689b0a8-53d0-40ab-baf2-68738e2966ac");
    assert_eq!(config["DefaultCacheBehavior"]["CachePolicyId"], disabled);
    for behavior in list(&config["CacheBehaviors"]).into_iter().chain([&config["DefaultCacheBehavior"]]) {
        // Without it the functions do not see who calls.
        assert_eq!(behavior["OriginRequestPolicyId"], all_but_host, "{behavior}");
        let is_file = ["/assets/*", "/widget.js"].iter().any(|path| behavior["PathPattern"] == *path);
        let cache = if is_file { json!({"Ref": "FileCache"}) } else { json!(disabled) };
        assert_eq!(behavior["CachePolicyId"], cache, "{behavior}");
    }
    let cache = &document["Resources"]["FileCache"]["Properties"]["CachePolicyConfig"];
    assert_eq!((&cache["MinTTL"], &cache["DefaultTTL"]), (&json!(0), &json!(0)), "what says nothing is not kept");
    // Those that CloudFront keeps by itself.
    let errors: Vec<u64> = list(&config["CustomErrorResponses"])
        .into_iter()
        .map(|error| {
            assert_eq!(error["ErrorCachingMinTTL"], 0, "{error}");
            error["ErrorCode"].as_u64().unwrap()
        })
        .collect();
    assert_eq!(errors, [400, 403, 404, 405, 414, 416, 500, 501, 502, 503, 504]);
}
