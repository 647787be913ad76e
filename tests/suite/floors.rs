//! What a file may use. The sources are read as text; the compiler cannot say these things.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A source file, cut into what is code and what is text.
struct Source {
    /// Its path from the root of the project.
    path: String,
    /// The file as it is.
    whole: String,
    /// The code with texts and comments blanked, line by line as in the file.
    code: String,
    /// Every text literal, with its line.
    texts: Vec<(usize, String)>,
    /// The line from which on it is tests.
    tests_from: usize,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the project").to_owned()
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.map(|entry| entry.expect("readable").path()) {
        if entry.is_dir() && entry.file_name().is_some_and(|name| name != "target") {
            files(&entry, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
}

/// The sources below these folders.
fn sources(folders: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    folders.iter().for_each(|folder| files(&root().join(folder), &mut found));
    found.sort();
    assert!(!found.is_empty(), "no source in {folders:?}");
    found.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Source {
    let whole = std::fs::read_to_string(path).expect("readable");
    let (code, texts) = cut(&whole);
    let path = path.strip_prefix(root()).expect("below the root").to_string_lossy().replace('\\', "/");
    let tests_from = match code.lines().position(|line| line.trim() == "#[cfg(test)]") {
        _ if path.ends_with("/tests.rs") || path.contains("src/") && path.contains("/tests/") => 0,
        Some(line) => line + 1,
        None => usize::MAX,
    };
    Source { path, whole, code, texts, tests_from }
}

/// Blanks comments and texts, and collects the texts.
fn cut(source: &str) -> (String, Vec<(usize, String)>) {
    let (mut code, mut texts, mut rest, mut line) = (String::new(), Vec::new(), source, 1);
    let mut previous = ' ';
    while let Some(c) = rest.chars().next() {
        let taken = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '"' => 1 + text_end(&rest[1..]),
            'r' if !previous.is_alphanumeric() && raw_hashes(rest).is_some() => {
                let hashes = raw_hashes(rest).unwrap_or_default();
                let (open, close) = (hashes + 2, format!("\"{}", "#".repeat(hashes)));
                open + rest[open..].find(&close).map_or(rest.len() - open, |end| end + close.len())
            }
            '\'' => char_end(rest),
            _ => 0,
        };
        if taken == 0 {
            code.push(c);
            line += usize::from(c == '\n');
            (previous, rest) = (c, &rest[c.len_utf8()..]);
            continue;
        }
        let piece = &rest[..taken];
        if !piece.starts_with('/') {
            texts.push((line, piece.to_owned()));
        }
        code.extend(piece.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        line += piece.matches('\n').count();
        (previous, rest) = (' ', &rest[taken..]);
    }
    (code, texts)
}

/// Behind the closing quote of a text that has been opened.
fn text_end(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices() {
        match c {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    rest.len()
}

/// The hashes of a raw text that starts here.
fn raw_hashes(rest: &str) -> Option<usize> {
    let hashes = rest[1..].bytes().take_while(|byte| *byte == b'#').count();
    (rest.as_bytes().get(1 + hashes) == Some(&b'"')).then_some(hashes)
}

/// The length of a character literal that starts here; 0 for a lifetime.
fn char_end(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => rest[3..].find('\'').map_or(0, |end| end + 4),
        Some(_) => chars.next().filter(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 1),
        None => 0,
    }
}

impl Source {
    /// The lines of code that are no tests, numbered.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().map(|(at, line)| (at + 1, line)).filter(|(line, _)| *line < self.tests_from)
    }

    /// The lines that hold a piece of code.
    fn using(&self, piece: &str) -> Vec<String> {
        self.lines().filter(|(_, line)| line.contains(piece)).map(|(line, _)| format!("{}:{line}", self.path)).collect()
    }

    fn is_in(&self, folders: &[&str]) -> bool {
        folders.iter().any(|folder| self.path.starts_with(folder))
    }
}

/// The names behind `crate::` in code: one, or several in braces.
fn crate_names(code: &str) -> Vec<(usize, String)> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + "crate::".len()..];
        let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        match rest.strip_prefix('{') {
            Some(list) => names.extend(top_level(list).into_iter().map(|item| (line, name(item.trim())))),
            None => names.push((line, name(rest))),
        }
    }
    names
}

/// The parts of a braced list, up to its closing brace.
fn top_level(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                parts.push(&list[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts
}

/// The floors, lowest first, as the table in `shared/src/lib.rs` lists them.
fn floors() -> Vec<String> {
    let source = std::fs::read_to_string(root().join("shared/src/lib.rs")).expect("readable");
    let rows = source.lines().filter_map(|line| line.strip_prefix("//! | [`")?.split('`').next());
    let listed: Vec<String> = rows.map(str::to_owned).collect();
    let modules: BTreeSet<&str> =
        source.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert_eq!(listed.iter().map(String::as_str).collect::<BTreeSet<_>>(), modules, "the table lists every module");
    listed
}

/// How many modules deep a file of the common crate is.
fn depth(path: &str) -> usize {
    let inside = path["shared/src/".len()..].trim_end_matches(".rs").trim_end_matches("/mod");
    inside.split('/').count()
}

/// Floors beside each other, which use neither the other.
const BESIDE: [(&str, &str); 2] = [("turn", "http"), ("builder", "http")];

#[test]
fn a_module_uses_only_the_floors_below_its_own() {
    let floors = floors();
    assert_eq!(
        floors,
        ["kernel", "domain", "access", "table", "store", "events", "ports", "app", "turn", "builder", "http"]
    );
    let height = |name: &str| floors.iter().position(|floor| floor == name);
    let mut wrong = Vec::new();
    for source in sources(&["shared/src"]).iter().filter(|source| source.path != "shared/src/lib.rs") {
        let own = source.path["shared/src/".len()..].split(['/', '.']).next().unwrap();
        let own_height = height(own).unwrap_or_else(|| panic!("{} is on no floor", source.path));
        for (line, used) in crate_names(&source.code) {
            let Some(used_height) = height(&used) else { continue };
            let beside =
                BESIDE.iter().any(|(one, other)| [(*one, *other), (*other, *one)].contains(&(own, used.as_str())));
            if used_height > own_height || beside {
                wrong.push(format!("{}:{line} uses {used}", source.path));
            }
        }
        if source.lines().any(|(_, line)| line.contains(&"super::".repeat(depth(&source.path)))) {
            wrong.push(format!("{} climbs out of its floor by super::", source.path));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_function_crate_uses_another_and_shared_uses_none() {
    let crates: Vec<String> = std::fs::read_dir(root().join("functions"))
        .expect("readable")
        .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
        .collect();
    let mut wrong = Vec::new();
    for source in sources(&["functions"]) {
        let own = source.path["functions/".len()..].split('/').next().unwrap_or_default();
        for other in crates.iter().filter(|name| *name != own) {
            let path = format!("{other}::");
            for (line, text) in source.lines() {
                let uses = text
                    .match_indices(&path)
                    .any(|(at, _)| !text[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ':')));
                if uses {
                    wrong.push(format!("{}:{line} uses {other}", source.path));
                }
            }
        }
    }
    let folders = crates.iter().map(|name| format!("functions/{name}")).chain(["shared".to_owned()]);
    for folder in folders {
        let manifest = std::fs::read_to_string(root().join(&folder).join("Cargo.toml")).expect("readable");
        let depends = |name: &String| {
            manifest.lines().any(|line| line.starts_with(&format!("{name}.")) || line.starts_with(&format!("{name} ")))
        };
        wrong.extend(crates.iter().filter(|name| depends(name)).map(|other| format!("{folder} depends on {other}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_table_floor_names_the_database() {
    let all = sources(&["shared/src", "functions", "infra"]);
    let wrong: Vec<String> = all
        .iter()
        .filter(|source| !source.is_in(&["shared/src/table/"]))
        .flat_map(|source| source.using("aws_sdk_dynamodb"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn http_clients_are_built_in_ports_only() {
    let all = sources(&["shared/src", "functions", "infra"]);
    let mut wrong = Vec::new();
    for source in all.iter().filter(|source| !source.is_in(&["shared/src/ports/"])) {
        for piece in ["reqwest::Client::", "reqwest::ClientBuilder", "reqwest::get(", "reqwest::blocking"] {
            wrong.extend(source.using(piece));
        }
        if source.code.contains("use reqwest::") {
            wrong.push(format!("{} imports reqwest", source.path));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Files that write parts of sort keys themselves, and why. This list only shrinks.
const KEY_PARTS: &[(&str, &str)] = &[
    ("infra/local/src/queue.rs", "the keys of a table of its own, the local queues"),
    ("shared/src/store/agent.rs", "reads the sections of a definition by their sort keys"),
    ("shared/src/store/conversation.rs", "the position in the list of conversations"),
    ("shared/src/store/delivery.rs", "the position among due deliveries"),
    ("shared/src/store/session.rs", "the position in the list of sessions"),
    ("shared/src/store/timer.rs", "the name of a timer"),
];

/// Whether a text literal joins a key: `X#`, `}#` or `#{` in it. Colours, anchors and placeholders do not.
fn joins_a_key(text: &str) -> bool {
    let hashes = raw_hashes(text).filter(|_| text.starts_with('r')).map_or(0, |hashes| hashes + 1);
    let bytes = &text.as_bytes()[hashes + 1..text.len() - hashes.max(1)];
    bytes
        .windows(2)
        .any(|pair| matches!(pair, [b'}', b'#'] | [b'#', b'{']) || (pair[0].is_ascii_uppercase() && pair[1] == b'#'))
}

#[test]
fn keys_are_written_in_one_file() {
    let mut wrong = BTreeMap::new();
    for source in sources(&["shared/src", "functions", "infra"]) {
        // The table floor's `#name` is the placeholder of an expression.
        if source.is_in(&["shared/src/store/keys.rs", "shared/src/store/keys/", "shared/src/table/"]) {
            continue;
        }
        let keys: Vec<_> =
            source.texts.iter().filter(|(line, text)| *line < source.tests_from && joins_a_key(text)).collect();
        if !keys.is_empty() {
            wrong.insert(source.path.clone(), format!("{keys:?}"));
        }
    }
    for (file, why) in KEY_PARTS {
        assert!(wrong.remove(*file).is_some(), "{file} ({why}) writes no key any more: take it off the list");
    }
    assert!(wrong.is_empty(), "keys are built outside of store/keys.rs: {wrong:#?}");
}

#[test]
fn the_environment_is_read_in_few_places() {
    let allowed = ["shared/src/app/aws.rs", "shared/src/app/log.rs", "infra/local/"];
    let mut wrong = Vec::new();
    for source in sources(&["shared/src", "functions", "infra"]).iter().filter(|source| !source.is_in(&allowed)) {
        for piece in ["std::env", "env::var", "env::args", "dotenv"] {
            wrong.extend(source.using(piece));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_panics_on_purpose_without_saying_why() {
    let mut wrong = Vec::new();
    let tests = ["infra/local/tests/", "infra/local/src/bench.rs"];
    for source in sources(&["shared/src", "functions", "infra"]).into_iter().filter(|source| !source.is_in(&tests)) {
        let uses = |pieces: &[&str]| pieces.iter().map(|piece| source.using(piece).len()).sum::<usize>();
        let (unwraps, expects) = (uses(&[".unwrap()", ".unwrap_err()"]), uses(&[".expect(", ".expect_err("]));
        let excused =
            |lint: &str| source.lines().filter(|(_, line)| line.contains("expect(") && line.contains(lint)).count();
        if unwraps > excused("clippy::unwrap_used") {
            wrong.push(format!("{} unwraps: {:?}", source.path, source.using(".unwrap()")));
        }
        if expects > excused("clippy::expect_used") {
            wrong.push(format!("{} expects: {:?}", source.path, source.using(".expect(")));
        }
        wrong.extend(source.using("panic!("));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_lint_is_expected_with_a_reason_and_never_allowed() {
    let mut wrong = Vec::new();
    for source in sources(&["shared/src", "functions", "infra", "tests"]) {
        for (at, line) in source.code.lines().enumerate() {
            let attribute = line.contains("#[allow(") || line.contains("#![allow(");
            let bare = (line.contains("#[expect(") || line.contains("#![expect("))
                && line.contains(")]")
                && !line.contains("reason");
            if attribute || bare {
                wrong.push(format!("{}:{}", source.path, at + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_file_is_longer_than_six_hundred_lines() {
    let all = sources(&["shared", "functions", "infra", "tests"]);
    let long: Vec<_> = all
        .iter()
        .map(|source| (source.whole.lines().count(), &source.path))
        .filter(|(lines, _)| *lines > 600)
        .collect();
    assert!(long.is_empty(), "{long:?}");
}

#[test]
fn every_file_says_what_it_is_for() {
    let all = sources(&["shared", "functions", "infra", "tests"]);
    let silent: Vec<_> =
        all.iter().filter(|source| !source.whole.starts_with("//! ")).map(|source| &source.path).collect();
    assert!(silent.is_empty(), "{silent:?}");
}

#[test]
fn the_cutter_tells_code_from_text() {
    let source = "let a = \"x // \\\" y\"; // \"no\"\nlet b = r#\"q\" {z}#\"#; let c = '\"'; fn f<'a>(d: &'a str) {} /* \"e\" */ let g = b'\\'';";
    let (code, texts) = cut(source);
    let texts: Vec<_> = texts.iter().map(|(line, text)| (*line, text.as_str())).collect();
    assert_eq!(texts, [(1, "\"x // \\\" y\""), (2, "r#\"q\" {z}#\"#"), (2, "'\"'"), (2, "'\\''")]);
    assert!(!code.contains("no") && !code.contains("//") && code.contains("fn f<'a>(d: &'a str)"), "{code}");
    assert!(joins_a_key("\"W#{}\"") && joins_a_key("\"MEM#\"") && joins_a_key("\"{a}#{b}\""));
    assert!(!joins_a_key("\"#10b981\"") && !joins_a_key("\"/docs#op\"") && !joins_a_key("r#\"{\"a\":1}\"#"));
    let names: Vec<_> = crate_names("use crate::{app::{App, x}, kernel::Id};\nfn f() { crate::table::Key }")
        .into_iter()
        .map(|(_, name)| name)
        .collect();
    assert_eq!(names, ["app", "kernel", "table"]);
}
