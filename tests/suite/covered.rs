//! Each operation that the contract names has a test of what it does. The list below says which; the sources of the tests
//! are read as text, and a test that is gone, or does not call its operation any more, is found.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::contract::operations;

/// What a documented operation does, and the test that shows it: a file of `tests/suite/studio`, and a test in it.
const COVERED: &[(&str, &str, &str)] = &[
    ("GET", "/api/agents", "agents::a_list_gives_every_agent_once_newest_first"),
    ("GET", "/api/agents/{id}", "agents::keys_are_write_only"),
    ("PATCH", "/api/agents/{id}", "agents::a_change_keeps_what_is_absent_clears_what_is_null_and_sets_the_rest"),
    (
        "POST",
        "/api/agents/{id}/publish",
        "publishing::each_publication_of_something_new_is_a_new_version_and_an_edit_is_none",
    ),
    ("POST", "/api/agents/{id}/tools", "agents::a_tool_is_attached_once_and_configured_after"),
    ("DELETE", "/api/agents/{id}", "agents::a_deleted_agent_is_gone_everywhere_and_its_address_stays_taken"),
    (
        "POST",
        "/api/builder/stream",
        "builder::an_agent_is_built_offline_in_the_language_of_its_description_and_changed_in_its_thread",
    ),
    ("GET", "/api/public/agents/{slug}", "publishing::the_public_reading_tells_nothing_that_is_not_public"),
    ("POST", "/api/public/agents/{slug}/chat", "chat::a_visitor_asks_and_the_agent_answers_from_its_instructions"),
    (
        "POST",
        "/api/public/agents/{slug}/leads",
        "contacts::a_visitor_who_names_a_known_address_adds_nothing_that_identifies_its_holder",
    ),
    ("GET", "/api/clients/me/agents/{id}/conversations", "chat::the_owner_sees_the_conversation_with_both_messages"),
    (
        "GET",
        "/api/clients/me/agents/{id}/conversations/{cid}",
        "chat::the_owner_sees_the_conversation_with_both_messages",
    ),
    ("POST", "/api/clients/me/agents/{id}/conversations/{cid}/takeover", "inbox::a_person_takes_over_and_hands_back"),
    (
        "POST",
        "/api/clients/me/agents/{id}/conversations/{cid}/messages",
        "inbox::a_persons_answer_takes_over_and_reaches_the_visitor",
    ),
    (
        "GET",
        "/api/clients/me/agents/{id}/leads",
        "chat::contact_details_in_a_chat_become_one_lead_however_often_they_are_captured",
    ),
    ("GET", "/api/billing/plans", "billing::the_plans_are_the_contracts"),
    ("GET", "/api/billing/account", "billing::a_free_account_stands_at_the_start_of_its_trial"),
    ("POST", "/api/billing/checkout-session", "checkout::a_checkout_is_opened_for_the_owner_of_the_account"),
    (
        "POST",
        "/api/billing/portal-session",
        "checkout::the_portal_opens_for_customers_and_makes_one_of_whom_polar_does_not_know",
    ),
    ("GET", "/api/developers/overview", "developers::the_overview_counts_what_there_is"),
    ("POST", "/api/developers/api-keys", "developers::a_key_is_shown_once"),
    ("POST", "/api/developers/webhooks", "webhooks::every_documented_event_arrives_signed_and_in_the_documented_shape"),
    ("POST", "/api/developers/webhooks/{id}/test", "webhooks::a_redirect_is_a_failure_and_is_not_followed"),
    ("GET", "/api/developers/agents", "agents::the_quickstart_works_as_printed_with_a_key"),
    ("POST", "/api/developers/agents", "agents::the_quickstart_works_as_printed_with_a_key"),
    ("POST", "/api/developers/events", "webhooks::a_custom_event_reaches_the_owner_s_webhooks_and_nobody_else_s"),
    ("GET", "/api/clients", "clients::a_client_is_made_listed_found_renamed_and_removed"),
    ("POST", "/api/clients", "clients::a_client_is_made_listed_found_renamed_and_removed"),
    ("DELETE", "/api/clients/{id}", "clients::a_client_is_made_listed_found_renamed_and_removed"),
    ("POST", "/api/clients/{id}/grants", "clients::a_client_sees_exactly_what_is_granted"),
    ("DELETE", "/api/clients/{id}/grants/{agent_id}", "clients::what_is_taken_away_is_gone_with_the_next_call"),
    ("GET", "/api/clients/me/agents", "clients::an_invited_client_sets_a_password_by_the_mailed_link_and_logs_in"),
    ("GET", "/api/admin/metrics", "people::the_installation_is_counted"),
    ("GET", "/api/admin/users", "people::users_are_listed_newest_first_and_found_by_e_mail"),
    ("GET", "/api/admin/users/{id}", "people::users_are_listed_newest_first_and_found_by_e_mail"),
    (
        "PATCH",
        "/api/admin/users/{id}/status",
        "people::who_is_suspended_is_out_and_their_agents_say_politely_that_they_cannot_answer",
    ),
    (
        "POST",
        "/api/admin/users/{id}/impersonate",
        "people::staff_who_act_for_somebody_help_and_touch_nothing_of_theirs_alone",
    ),
    ("POST", "/api/admin/billing/report-usage", "usage::every_reply_is_posted_once_with_what_the_meter_sums"),
    ("GET", "/api/admin/billing/config", "people::how_billing_is_set_up_is_told_without_a_secret"),
    ("POST", "/api/auth/login", "auth::an_address_logs_in_in_any_spelling"),
    ("GET", "/{public_slug}", "site::the_chat_page_shows_its_agent_and_runs_nothing_that_its_name_says"),
    ("GET", "/widget.js", "site::the_widget_reads_what_the_contract_documents"),
];

/// How far helpers that call helpers are followed.
const DEEP: usize = 3;

/// What the functions of some sources say, by their names; a constant text says itself.
#[derive(Default)]
struct Said {
    tests: BTreeMap<String, String>,
    helpers: BTreeMap<String, String>,
}

impl Said {
    fn of(path: &Path) -> Self {
        let source = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (lines, mut said) = (source.lines().collect::<Vec<_>>(), Self::default());
        for at in 0..lines.len() {
            let Some((name, end)) = begins(lines[at]) else { continue };
            // Formatted as it is, a function ends at its own indentation, and a constant with a semicolon.
            let is_end = |line: &&str| if end == ";" { line.ends_with(';') } else { **line == end };
            let length = lines[at..].iter().position(is_end).unwrap_or(0);
            let is_test = at > 0 && (lines[at - 1].starts_with("#[tokio::test") || lines[at - 1] == "#[test]");
            let into = if is_test { &mut said.tests } else { &mut said.helpers };
            into.entry(name.to_owned()).or_default().push_str(&lines[at..=at + length].join("\n"));
        }
        said
    }
}

/// The name of the function or constant text that begins on a line, and the line that it ends with.
fn begins(line: &str) -> Option<(&str, String)> {
    let code = line.trim_start();
    let mut rest = code.strip_prefix("pub(crate) ").or(code.strip_prefix("pub ")).unwrap_or(code);
    if let Some((name, _)) = rest.strip_prefix("const ").and_then(|rest| rest.split_once(": &str")) {
        return Some((name, ";".into()));
    }
    for word in ["const ", "async "] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    let name = rest.strip_prefix("fn ")?.split(['(', '<']).next()?;
    Some((name, format!("{}}}", &line[..line.len() - code.len()])))
}

/// All that a test says, with what its helpers say, and theirs.
fn whole(test: &str, helpers: &[&Said]) -> String {
    let (mut texts, mut newest, mut known) = (vec![test], vec![test], BTreeSet::new());
    for _ in 0..DEEP {
        let words = newest.iter().flat_map(|text| text.split(|c: char| !c.is_alphanumeric() && c != '_'));
        let names = words.filter(|word| known.insert(*word));
        let said = |name| helpers.iter().filter_map(move |said| said.helpers.get(name));
        newest = names.flat_map(said).map(String::as_str).collect();
        texts.extend(&newest);
    }
    texts.join("\n")
}

/// A path with nothing but holes for what differs.
fn plain(path: &str) -> String {
    let mut plain = String::new();
    for (number, part) in path.split('?').next().unwrap_or_default().split('{').enumerate() {
        let (hole, rest) = if number == 0 { ("", part) } else { ("{}", part.split_once('}').map_or("", |it| it.1)) };
        // One hole after another is still one.
        plain.push_str(if plain.ends_with("{}") { "" } else { hole });
        plain.push_str(rest);
    }
    plain
}

/// Whether a text makes a call of this method, and names this path, in one piece or as a beginning and an end.
fn calls(text: &str, method: &str, path: &str) -> bool {
    let verb = format!("{}(", method.to_lowercase());
    let is_called = [".", "::"].iter().any(|before| text.contains(&format!("{before}{verb}")));
    let (path, named) = (plain(path), text.split('"').map(plain).collect::<BTreeSet<_>>());
    let ends_with = |end: &String| {
        let end = end.trim_start_matches("{}");
        let beginning = path.strip_suffix(end).filter(|_| end.starts_with('/'));
        beginning.is_some_and(|beginning| named.contains(beginning))
    };
    (is_called || text.contains(&format!("\"{method}\""))) && (named.contains(&path) || named.iter().any(ends_with))
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What every test may call. The registry of requests is left out: it names each path.
fn common() -> Vec<Said> {
    let entries = std::fs::read_dir(here("src")).expect("the sources of the helpers");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.retain(|path| path.file_name().is_some_and(|name| name != "requests.rs"));
    paths.iter().map(|path| Said::of(path)).collect()
}

#[test]
fn every_documented_operation_has_a_test_of_what_it_does() {
    let listed: Vec<(&str, &str)> = COVERED.iter().map(|(method, path, _)| (*method, *path)).collect();
    assert_eq!(listed, operations(), "the list has each operation of the contract once, in its order");
    let (common, mut wrong) = (common(), Vec::new());
    for (method, path, test) in COVERED {
        let (file, name) = test.split_once("::").expect("a file and a test");
        let file = Said::of(&here(&format!("suite/studio/{file}.rs")));
        let helpers: Vec<&Said> = std::iter::once(&file).chain(&common).collect();
        match file.tests.get(name) {
            None => wrong.push(format!("{method} {path}: there is no test {test}")),
            Some(said) if !said.contains("assert") => wrong.push(format!("{test} asserts nothing")),
            Some(said) if !calls(&whole(said, &helpers), method, path) => {
                wrong.push(format!("{test} does not call {method} {path}"));
            }
            Some(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_call_is_seen_in_one_piece_in_two_and_not_where_there_is_none() {
    let whole = "persona.post(&format!(\"/api/agents/{}/publish\", agent.id), body)";
    let cut = "fn at(id: u64, tail: &str) { format!(\"/api/agents/{id}{tail}\") } persona.post(&at(\"/publish\"))";
    let by_name =
        "persona.call(\"POST\", \"/api/agents/7/publish\".replace('7', id)); \"/api/agents/{id}/publish?x=1\"";
    for text in [whole, cut, by_name] {
        assert!(calls(text, "POST", "/api/agents/{id}/publish"), "{text}");
        assert!(!calls(text, "DELETE", "/api/agents/{id}/publish"), "{text}");
        assert!(!calls(text, "POST", "/api/agents/{id}/unpublish"), "{text}");
        assert!(!calls(text, "POST", "/api/agents"), "{text}");
    }
}
