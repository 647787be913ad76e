//! `cargo bench -p tests --bench budgets -- studio-chat deliver`: what Lambda functions weigh and how soon they answer.
//!
//! Builds the functions that are named (at least one) in the `release` profile, as they are deployed, runs each many
//! times under a stand-in for the Lambda Runtime API, and writes what it found into `docs/PERFORMANCE.md`. It fails
//! when a budget is not kept. Nothing leaves the machine.

mod ground;
mod runtime_api;
mod wire;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use tests::report::{self, Document, Report, row};

use ground::Ground;
use runtime_api::RuntimeApi;

/// How often a function is started for one median, and of how many medians the best counts: others have a share in the
/// machine, and only ever make things slower.
const STARTS: usize = 30;
const MEDIANS: usize = 5;

/// What no function may pass.
const ZIPPED_MB: f64 = 6.0;
const INIT_MS: f64 = 10.0;
const FIRST_MS: f64 = 20.0;
const RESIDENT_MB: f64 = 30.0;

/// What a zip archive of one file named `bootstrap` has beside the file: two headers, two names, the end of the list.
const ARCHIVE: usize = 30 + 46 + 2 * "bootstrap".len() + 22;

/// What was found of one function.
struct Found {
    name: String,
    binary_mb: f64,
    zipped_mb: f64,
    init_ms: f64,
    first_ms: f64,
    init_and_first_ms: f64,
    second_ms: f64,
    /// Before and after the first request.
    resident_mb: (f64, f64),
}

/// What one start found.
struct Start {
    init: Duration,
    first: Duration,
    second: Duration,
    resident_kb: (u64, u64),
}

fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    if names.is_empty() {
        eprintln!("Name the functions: cargo bench -p tests --bench budgets -- studio-chat studio-agents deliver");
        return ExitCode::FAILURE;
    }
    match measure(&names) {
        Ok(all) if all.iter().flat_map(Found::missed).count() == 0 => ExitCode::SUCCESS,
        Ok(all) => {
            all.iter().flat_map(Found::missed).for_each(|missed| eprintln!("over its budget: {missed}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(names: &[String]) -> io::Result<Vec<Found>> {
    let binaries = build(names)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (ground, api) = (runtime.block_on(Ground::lay())?, RuntimeApi::start()?);
    let mut all = Vec::new();
    for (name, binary) in names.iter().zip(&binaries) {
        eprintln!("measuring: {name}");
        let start = || start(&runtime, &ground, &api, name, binary);
        // The first ones bring the file into the kernel's cache.
        (0..2).try_for_each(|_| start().map(drop))?;
        let mut medians = Vec::new();
        for _ in 0..MEDIANS {
            medians.push((0..STARTS).map(|_| start()).collect::<io::Result<Vec<Start>>>()?);
        }
        all.push(found(name, binary, &medians)?);
    }
    let report = Report::new().table(&table(&all));
    println!("{report}");
    report::write(Document::Performance, "functions", &report)?;
    Ok(all)
}

/// Builds the functions as they are deployed, and says where they are.
fn build(names: &[String]) -> io::Result<Vec<PathBuf>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let cargo = || {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&root);
        command
    };
    let mut command = cargo();
    command.args(["build", "--release", "--workspace"]);
    for name in names {
        command.args(["--bin", name]);
    }
    if !command.status()?.success() {
        return Err(io::Error::other("the functions were not built"));
    }
    let told = cargo().args(["metadata", "--no-deps", "--format-version", "1"]).output()?.stdout;
    let told: serde_json::Value = serde_json::from_slice(&told).map_err(io::Error::other)?;
    let target =
        told["target_directory"].as_str().ok_or_else(|| io::Error::other("cargo names no target directory"))?;
    Ok(names.iter().map(|name| Path::new(target).join("release").join(name)).collect())
}

/// One start of a function, with its first two requests.
fn start(
    runtime: &tokio::runtime::Runtime,
    ground: &Ground,
    api: &RuntimeApi,
    name: &str,
    binary: &Path,
) -> io::Result<Start> {
    let asks = runtime.block_on(ground.asks(name))?;
    let (mut function, received) = (api.run(binary, &ground.variables())?, ground.received());
    let before = function.resident_kb()?;
    let mut took = Vec::new();
    let mut after = None;
    for ask in &asks {
        let (time, answer) = function.invoke(&ask.event)?;
        let answer = String::from_utf8_lossy(&answer);
        if let Some(missing) = ask.holds.iter().find(|part| !answer.contains(**part)) {
            return Err(io::Error::other(format!("{name} answers without {missing}: {answer}")));
        }
        took.push(time);
        after.get_or_insert(function.resident_kb()?);
    }
    if name == "deliver" && ground.received() - received != asks.len() {
        return Err(io::Error::other("deliver says that it delivered, and the receiver knows nothing of it"));
    }
    let [first, second] = took[..] else { return Err(io::Error::other("a function is asked twice")) };
    let resident_kb = (before, after.unwrap_or(before));
    Ok(Start { init: function.init, first, second, resident_kb })
}

fn found(name: &str, binary: &Path, medians: &[Vec<Start>]) -> io::Result<Found> {
    let bytes = std::fs::read(binary)?;
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&bytes)?;
    let zipped = encoder.finish()?.len() + ARCHIVE;
    let best = |of: fn(&Start) -> f64| {
        let median = |starts: &Vec<Start>| {
            let mut values: Vec<f64> = starts.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        medians.iter().map(median).fold(f64::INFINITY, f64::min)
    };
    Ok(Found {
        name: name.to_owned(),
        binary_mb: megabytes(bytes.len()),
        zipped_mb: megabytes(zipped),
        init_ms: best(|start| milliseconds(start.init)),
        first_ms: best(|start| milliseconds(start.first)),
        init_and_first_ms: best(|start| milliseconds(start.init + start.first)),
        second_ms: best(|start| milliseconds(start.second)),
        resident_mb: (best(|start| kilobytes(start.resident_kb.0)), best(|start| kilobytes(start.resident_kb.1))),
    })
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[expect(clippy::cast_precision_loss, reason = "sizes of programs are far below 2^53")]
fn megabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}

#[expect(clippy::cast_precision_loss, reason = "sizes of processes are far below 2^53")]
fn kilobytes(kb: u64) -> f64 {
    kb as f64 * 1024.0 / 1e6
}

impl Found {
    /// What is over its budget, in words.
    fn missed(&self) -> impl Iterator<Item = String> {
        let figures = [
            ("zipped size", self.zipped_mb, ZIPPED_MB, "MB"),
            ("time to the first poll", self.init_ms, INIT_MS, "ms"),
            ("start and first request", self.init_and_first_ms, FIRST_MS, "ms"),
            ("memory after the first request", self.resident_mb.1, RESIDENT_MB, "MB"),
        ];
        let over = figures.into_iter().filter(|(_, found, budget, _)| found > budget);
        over.map(|(what, found, budget, unit)| format!("{}: {what} {found:.1} {unit}, not {budget} {unit}", self.name))
    }
}

fn table(all: &[Found]) -> Vec<Vec<String>> {
    let mut rows = vec![
        row([
            &"function",
            &"zipped",
            &"first poll",
            &"first request",
            &"both",
            &"second",
            &"memory: start",
            &"after one",
        ]),
        row([
            &"*budget*",
            &format!("*{ZIPPED_MB} MB*"),
            &format!("*{INIT_MS} ms*"),
            &"",
            &format!("*{FIRST_MS} ms*"),
            &"",
            &"",
            &format!("*{RESIDENT_MB} MB*"),
        ]),
    ];
    for found in all {
        rows.push(row([
            &found.name,
            &format!("{:.1} MB of {:.1}", found.zipped_mb, found.binary_mb),
            &format!("{:.1} ms", found.init_ms),
            &format!("{:.1} ms", found.first_ms),
            &format!("{:.1} ms", found.init_and_first_ms),
            &format!("{:.1} ms", found.second_ms),
            &format!("{:.1} MB", found.resident_mb.0),
            &format!("{:.1} MB", found.resident_mb.1),
        ]));
    }
    rows
}
