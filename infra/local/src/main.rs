//! `chatia`: the local platform.

use std::io::{BufWriter, Stdout, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use local::registry::SURFACES;
use local::{Options, Platform, keys, tenant};
use shared::http::{Surface, openapi};
use shared::kernel::{Code, Error, Result};

/// Chatia on this machine: every function, queue and schedule in one process. Needs no account, no key and no network.
#[derive(Parser)]
#[command(name = "chatia", version, disable_help_subcommand = true)]
struct Arguments {
    /// Where to listen on 127.0.0.1.
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// Where data, mail and secrets are kept.
    #[arg(long, default_value = ".chatia", value_name = "PATH", global = true)]
    data_dir: PathBuf,
    /// Keep the tables in memory only: they are gone when this ends.
    #[arg(long)]
    ephemeral: bool,
    /// Make no demo account.
    #[arg(long)]
    no_demo: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Write the `OpenAPI` document of each surface to docs/openapi, and docs/skill.md.
    Openapi,
    /// Export or erase a tenant: a workspace with its owner.
    #[command(subcommand)]
    Tenant(tenant::Command),
    /// See to the keys of an installation.
    #[command(subcommand)]
    Keys(keys::Command),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    shared::app::log::to_terminal();
    let ran = match arguments.command {
        Some(Command::Openapi) => write_documents(),
        Some(Command::Tenant(command)) => operate(async |out| tenant::run(&command, arguments.data_dir, out).await),
        Some(Command::Keys(command)) => operate(async |out| keys::run(&command, arguments.data_dir, out).await),
        None => serve(arguments),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chatia: {}", error.message());
            if let Some(cause) = error.cause() {
                eprintln!("        ({cause})");
            }
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: Arguments) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::internal)?;
    runtime.block_on(async {
        let options = Options {
            port: arguments.port,
            data_dir: arguments.data_dir,
            ephemeral: arguments.ephemeral,
            demo: !arguments.no_demo,
            lookup: Arc::new(|name| std::env::var(name).ok()),
        };
        // Before the start, so that a Ctrl-C during it is not lost.
        let mut signals = Signals::listen()?;
        let platform = Platform::start(options).await?;
        announce(&platform).map_err(Error::internal)?;
        signals.next().await;
        tokio::select! {
            ended = platform.stop() => if !ended {
                tracing::warn!("some requests or workers did not end in time; queued work goes on at the next start");
            },
            // Somebody who asks twice does not want to wait.
            () = signals.next() => {}
        }
        Ok(())
    })
}

/// Carries out a command of the operator's, which tells standard output what came of it.
fn operate(command: impl AsyncFnOnce(&mut BufWriter<Stdout>) -> Result<()>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::internal)?;
    runtime.block_on(command(&mut BufWriter::new(std::io::stdout())))
}

/// Ctrl-C and SIGTERM.
#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let interrupt = signal(SignalKind::interrupt()).map_err(Error::internal)?;
        let terminate = signal(SignalKind::terminate()).map_err(Error::internal)?;
        Ok(Self { interrupt, terminate })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen() -> Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        drop(tokio::signal::ctrl_c().await);
    }
}

/// What somebody needs who just started it. `ready` is the last line, for scripts that wait for it.
fn announce(platform: &Platform) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "Chatia {}\n", env!("CARGO_PKG_VERSION"))?;
    if let Some(demo) = &platform.demo {
        writeln!(out, "  Demo agent  {}", demo.page_url(&platform.facts.base_url))?;
        writeln!(out, "  Log-in      {} / {}", demo.email, demo.password)?;
        writeln!(out, "  API key     {}", demo.api_key)?;
    }
    writeln!(out, "  Reference   {}/docs", platform.facts.base_url)?;
    writeln!(out, "  Data        {}", platform.facts.data_dir)?;
    writeln!(out, "  Mail        {}\n", platform.facts.mail_dir)?;
    writeln!(out, "ready {}", platform.url())?;
    out.flush()
}

fn write_documents() -> Result<()> {
    let directory = Path::new("docs/openapi");
    let failed = |why: &dyn std::fmt::Display| {
        let message = format!("{} cannot be written: {why}. Run this in the project's directory.", directory.display());
        Error::with_message(Code::NotConfigured, message)
    };
    let has_rows = |surface: &&&Surface| surface.groups.iter().any(|group| !(group.rows)().is_empty());
    for surface in SURFACES.iter().filter(has_rows) {
        let path = directory.join(format!("{}.json", surface.name));
        let text = serde_json::to_string_pretty(&openapi::document(surface)).map_err(Error::internal)?;
        std::fs::write(&path, format!("{text}\n")).map_err(|error| failed(&error))?;
        println!("{}", path.display());
    }
    let skill = Path::new("docs/skill.md");
    std::fs::write(skill, studio::skill::document(&studio::SURFACE)).map_err(|error| failed(&error))?;
    println!("{}", skill.display());
    Ok(())
}
