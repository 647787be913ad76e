//! `cargo bench -p tests`: measures the system on this machine and writes the figures into `docs/PERFORMANCE.md`.
//!
//! `cargo bench -p tests -- chat deliveries` measures only some of it and leaves the other figures as they are. The
//! platform runs in a process of its own, which this program starts by calling itself; load comes over loopback HTTP,
//! each visitor from an address of its own. Nothing leaves the machine.

mod callbacks;
mod chat;
mod deliveries;
mod flood;
mod http;
mod operations;
mod projector;
mod stage;
mod usage;

use std::process::ExitCode;

use tests::report::{self, Denied, Document, Report};

/// A part of the benchmark, named as it is asked for and as its figures are marked in the document.
type Part = (&'static str, fn() -> futures_util::future::BoxFuture<'static, Report>);

const PARTS: &[Part] = &[
    ("chat", || Box::pin(chat::turns())),
    ("anatomy", || Box::pin(chat::anatomy())),
    ("streaming", || Box::pin(chat::first_token())),
    ("operations", || Box::pin(operations::costs())),
    ("deliveries", || Box::pin(deliveries::rates())),
    ("callbacks", || Box::pin(callbacks::acknowledged())),
    ("usage", || Box::pin(usage::reporting())),
    ("projector", || Box::pin(projector::counting())),
    ("flood", || Box::pin(flood::beside_others())),
    ("memory", || Box::pin(chat::memory())),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    if let Some(("serve", place)) = arguments.first().map(String::as_str).zip(arguments.get(1)) {
        runtime.block_on(stage::serve(place));
        return ExitCode::SUCCESS;
    }
    if let Some(unknown) = arguments.iter().find(|name| PARTS.iter().all(|(known, _)| known != name)) {
        let known: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
        eprintln!("There is no part {unknown}. Parts: {}", known.join(", "));
        return ExitCode::FAILURE;
    }
    for (name, part) in PARTS.iter().filter(|(name, _)| arguments.is_empty() || arguments.iter().any(|one| one == name))
    {
        eprintln!("measuring: {name}");
        let denied = Denied::since_now();
        let report = runtime.block_on(part());
        let denied = denied.shown();
        let report =
            report.say(format!("Of the time in which the processors were wanted, others on the host had {denied}."));
        println!("{report}");
        if let Err(error) = report::write(Document::Performance, name, &report) {
            eprintln!("docs/PERFORMANCE.md is not written: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
