//! The platform in a process of its own, with tenants who may do as much as they like.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;

use local::{Options, Platform};
use serde_json::{Value, json};
use shared::domain::plan::PlanKey;
use shared::kernel::Id;
use shared::store;
use tests::{Owner, Persona, Phones};

use crate::http::{Connection, fresh_address};

/// The number of WhatsApp behind which the first agent is.
pub(crate) const NUMBER: &str = "100200300";

const TENANTS: usize = 8;
const AGENTS: usize = 8;

/// Where the platform keeps its tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Memory,
    Disk,
}

impl Place {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
        }
    }
}

/// A tenant: a token of its owner, and the slugs of its published agents.
#[derive(Debug, Clone)]
pub(crate) struct Tenant {
    pub(crate) token: String,
    pub(crate) slugs: Vec<String>,
}

/// A running platform; it ends with this.
pub(crate) struct Stage {
    pub(crate) address: SocketAddr,
    pub(crate) tenants: Vec<Tenant>,
    child: Child,
    /// The platform ends when this is closed.
    _until: ChildStdin,
    _directory: tempfile::TempDir,
}

impl Stage {
    /// Starts a platform with its tenants.
    pub(crate) fn start(place: Place) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["serve", place.name()]).current_dir(directory.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().expect("the platform starts");
        let (until, output) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).expect("the platform tells where it is");
        let told: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("the platform did not start: {line}"));
        let tenant = |told: &Value| Tenant {
            token: text(&told["token"]),
            slugs: told["slugs"].as_array().expect("slugs").iter().map(text).collect(),
        };
        Self {
            address: text(&told["address"]).parse().expect("an address"),
            tenants: told["tenants"].as_array().expect("tenants").iter().map(tenant).collect(),
            child,
            _until: until,
            _directory: directory,
        }
    }

    /// A connection as the owner of a tenant.
    pub(crate) async fn owner(&self, tenant: usize) -> Connection {
        Connection::open(self.address, &self.tenants[tenant].token).await.expect("a connection")
    }

    /// An agent's slug: any two numbers that follow each other belong to two tenants.
    pub(crate) fn slug(&self, number: usize) -> &str {
        let tenant = &self.tenants[number % self.tenants.len()];
        &tenant.slugs[number / self.tenants.len() % tenant.slugs.len()]
    }

    /// What the platform keeps in memory, in megabytes.
    pub(crate) fn resident_mb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.split_whitespace().next().and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) / 1024
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// Is the platform: starts it, tells where it is and who may call, and runs until its standard input ends.
pub(crate) async fn serve(place: &str) {
    shared::app::log::to_terminal();
    let directory = tempfile::tempdir().expect("a directory");
    // What is sent to phones ends there, too.
    let mut variables = Phones::start().await.variables();
    variables.push(("CHATIA_EGRESS_ALLOW", "127.0.0.0/8".to_owned()));
    let lookup = move |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
    let options = Options {
        port: 0,
        data_dir: directory.path().to_owned(),
        ephemeral: place == Place::Memory.name(),
        demo: false,
        lookup: Arc::new(lookup),
    };
    let platform = Platform::start(options).await.expect("the platform starts");
    let mut tenants = Vec::new();
    for number in 0..TENANTS {
        tenants.push(tenant(&platform, number).await);
    }
    println!("{}", json!({"address": platform.address, "tenants": tenants}));
    std::io::stdout().flush().expect("the parent listens");
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    drop(ended.await);
    platform.stop().await;
}

/// Registers an owner, gives them the largest plan, and publishes their agents.
async fn tenant(platform: &Platform, number: usize) -> Value {
    let app = &platform.app;
    let router = shared::http::serve::surface(app, &studio::SURFACE, studio::SURFACE.groups);
    let anybody = Persona::new(router, IpAddr::V4(fresh_address()));
    let owner = Owner::register(anybody, &format!("owner{number}@example.com")).await;
    let user = Id::from_int(owner.user_id).expect("an id");
    let user = store::user::get(&app.table, user).await.expect("readable").expect("the owner");
    let mut account = store::billing::get(&app.table, user.billing_account_id).await.expect("the account");
    account.plan = PlanKey::Agency;
    store::billing::overwrite(&app.table, &account).await.expect("writable");
    let mut slugs = Vec::new();
    for agent in 0..AGENTS {
        let made = owner.agent(&format!("Agent {number} {agent}")).await;
        if (number, agent) == (0, 0) {
            owner.connects_meta(&made, NUMBER).await;
        }
        slugs.push(made.slug);
    }
    json!({"token": owner.token, "slugs": slugs})
}
