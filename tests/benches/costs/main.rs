//! `cargo bench -p tests --bench costs`: what a million turns, a million deliveries, a million idle agents and the empty
//! installation cost a month. Quantities are measured on the embedded engine, prices are those of `docs/prices.json`,
//! and what is deployed is read from `template.yaml`. Writes the tables of `docs/COST.md`.

mod measure;
mod template;

use std::io;
use std::process::ExitCode;

use shared::ports::journal::METRICS;
use tests::bill::{Bill, Prices, money};
use tests::report::{Document, Report, row, write};

use measure::{Delivery, Kept, Log, Taken, Turn};
use template::Template;

/// With so much memory a function has a whole processor; with less it has as much less of one.
const MEMORY_OF_A_PROCESSOR: f64 = 1_769.0;
/// What a model is assumed to take for its answer, and a receiver for its own.
const MODEL_SECONDS: f64 = 6.0;
const RECEIVER_SECONDS: f64 = 0.2;
const DAYS: f64 = 365.25 / 12.0;
const GB: f64 = 1e9;
/// Bytes are measured of one, and bills are of a million.
const MILLION_BYTES: f64 = 1e6 / GB;
/// How Lambda asks a queue that stays empty: five callers, each of whom waits for up to 20 seconds.
const EMPTY_RECEIVES: f64 = 5.0 * 3.0 * 60.0 * 24.0 * DAYS;
/// What Lambda logs of each call in JSON, and what CloudWatch adds to each entry.
const PLATFORM_LOG: [&str; 2] = [
    r#"{"time":"2026-01-01T00:00:00.000Z","type":"platform.start","record":{"requestId":"00000000-0000-4000-8000-000000000001","version":"$LATEST"}}"#,
    r#"{"time":"2026-01-01T00:00:00.000Z","type":"platform.report","record":{"requestId":"00000000-0000-4000-8000-000000000001","metrics":{"durationMs":12.345,"billedDurationMs":13,"memorySizeMB":512,"maxMemoryUsedMB":40},"status":"success"}}"#,
];
const LOG_ENTRY: usize = 26;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(compute())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("docs/COST.md is not written: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn compute() -> io::Result<()> {
    let (log, prices, template) = (Log::begin(), Prices::read(), Template::read());
    let books = Books { prices, template };
    eprintln!("measuring: turns");
    let turn = measure::turn(&log).await;
    eprintln!("measuring: deliveries, agents, the idle installation");
    let (delivery, agent, idle) = (measure::delivery(&log).await, measure::agent().await, measure::idle(&log).await);
    let (turns, waiting) = (books.turns(&turn), books.waiting(&turn));
    let (deliveries, receiving) = (books.deliveries(&delivery), books.receiving());
    let (agents, installation) = (books.agents(&agent), books.installation(idle));
    let summary = [
        row([&"a month", &"list price"]),
        row([&"a million chat turns", &money(turns.total())]),
        row([&format!("… waiting for the model, {MODEL_SECONDS} s each"), &money(waiting.total())]),
        row([&"a million webhook deliveries", &money(deliveries.total())]),
        row([&format!("… waiting for the receiver, {RECEIVER_SECONDS} s each"), &money(receiving.total())]),
        row([&"a million idle agents", &money(agents.total())]),
        row([&"the installation with nothing to do", &money(installation.total())]),
        row([&"the metrics of each operation that is in use", &money(operation_metrics() * books.prices.of("metric"))]),
    ];
    put("summary", Report::new().table(&summary))?;
    write(Document::Cost, "quantities", &Report::new().table(&quantities(&turn, &delivery, idle)))?;
    put("turns", Report::new().table(&turns.rows("a million turns")))?;
    put("waiting", Report::new().table(&waiting.rows("a million turns wait")))?;
    put("deliveries", Report::new().table(&deliveries.rows("a million deliveries")))?;
    put("receiving", Report::new().table(&receiving.rows("a million deliveries wait")))?;
    put("items", Report::new().table(&items(&agent)))?;
    put("agents", Report::new().table(&agents.rows("a million agents")))?;
    put("installation", Report::new().table(&installation.rows("the installation")))?;
    // Last, since it tells that the rest is made with these prices.
    put("prices", books.prices.report())
}

fn put(name: &str, report: Report) -> io::Result<()> {
    println!("{report}\n");
    Document::Cost.put(name, &report.to_string())
}

/// Prices and what is deployed.
struct Books {
    prices: Prices,
    template: Template,
}

impl Books {
    /// Lambda's part: a million times `calls` calls of a function that computes for so long, with their log.
    fn function(&self, bill: &mut Bill, name: &str, calls: f64, taken: Taken) {
        let memory = self.template.memory(name);
        let stretched = taken.seconds * (MEMORY_OF_A_PROCESSOR / memory).max(1.0);
        let seconds = stretched * memory / 1024.0;
        bill.add(format!("`{name}`: requests"), calls, "million", self.prices.of("lambda_request"));
        bill.add(format!("`{name}`: computing"), seconds, "million GB-s", self.prices.of("lambda_second"));
        let platform: usize = PLATFORM_LOG.iter().map(|line| line.len() + LOG_ENTRY).sum();
        let logged = taken.logged + calls * f64::from(u32::try_from(platform).expect("a few lines"));
        self.log(bill, &format!("`{name}`"), logged);
    }

    /// The log of a million, by the bytes of one: taken in, and kept for a month.
    fn log(&self, bill: &mut Bill, of: &str, bytes: f64) {
        let price = self.prices.of("log_intake") + self.prices.of("log_storage");
        bill.add(format!("{of}: log"), bytes * MILLION_BYTES, "GB", price);
    }

    fn table(&self, bill: &mut Bill, of: &str, taken: Taken) {
        bill.add(format!("{of}: table writes"), taken.billed_writes(), "million units", self.prices.of("write"));
        bill.add(format!("{of}: table reads"), taken.reads, "million units", self.prices.of("read"));
    }

    /// What a million things of so many bytes cost for a month, with the copy for point-in-time recovery.
    fn storage(&self, bill: &mut Bill, what: &str, bytes: f64) {
        bill.add(what, bytes * MILLION_BYTES, "GB", self.prices.of("table_storage"));
        bill.add("… kept for recovery", bytes * MILLION_BYTES, "GB", self.prices.of("recovery"));
    }

    fn turns(&self, turn: &Turn) -> Bill {
        let mut bill = Bill::default();
        bill.add("CloudFront", 1.0, "million requests", self.prices.of("edge_request"));
        bill.add("API Gateway (HTTP API)", 1.0, "million requests", self.prices.of("http_api"));
        self.log(&mut bill, "API Gateway", self.template.access_log());
        self.function(&mut bill, "studio-chat", 1.0, turn.chat);
        self.table(&mut bill, "the turn", turn.chat);
        bill.add("stream, read by both readers", 2.0 * turn.events, "million records", self.prices.of("stream_read"));
        self.function(&mut bill, "relay", turn.events, turn.relay);
        self.table(&mut bill, "relay", turn.relay);
        self.function(&mut bill, "projector", turn.events, turn.projector);
        self.table(&mut bill, "projector", turn.projector);
        self.function(&mut bill, "usage-report", turn.reports, turn.report);
        self.table(&mut bill, "reporting to Polar", turn.report);
        // A message is sent, received and deleted.
        bill.add("usage-report: queue", 3.0 * turn.reports, "million requests", self.prices.of("queue"));
        let stored = turn.chat.stored + turn.projector.stored;
        self.storage(&mut bill, "what is stored, for a month", stored);
        bill.add("answers to visitors", turn.answer * MILLION_BYTES, "GB", self.prices.of("edge_data"));
        bill
    }

    fn waiting(&self, turn: &Turn) -> Bill {
        let mut bill = Bill::default();
        let seconds = MODEL_SECONDS * self.template.memory("studio-chat") / 1024.0;
        bill.add("`studio-chat`: waiting", seconds, "million GB-s", self.prices.of("lambda_second"));
        let reads = MODEL_SECONDS * turn.watching;
        bill.add("looking whether a person took over", reads, "million read units", self.prices.of("read"));
        bill
    }

    fn deliveries(&self, delivery: &Delivery) -> Bill {
        let mut bill = Bill::default();
        bill.add("queue: send, receive, delete", 3.0, "million requests", self.prices.of("queue"));
        self.function(&mut bill, "deliver", 1.0, delivery.deliver);
        self.table(&mut bill, "the delivery", delivery.deliver);
        self.storage(&mut bill, "what is stored, for a month", delivery.deliver.stored);
        bill.add("data to receivers", delivery.sent * MILLION_BYTES, "GB", self.prices.of("data_out"));
        bill
    }

    fn receiving(&self) -> Bill {
        let mut bill = Bill::default();
        let seconds = RECEIVER_SECONDS * self.template.memory("deliver") / 1024.0;
        bill.add("`deliver`: waiting", seconds, "million GB-s", self.prices.of("lambda_second"));
        bill
    }

    fn agents(&self, kept: &[Kept]) -> Bill {
        let mut bill = Bill::default();
        let bytes: usize = kept.iter().filter(|kept| !kept.expires).map(|kept| kept.table + kept.index).sum();
        self.storage(&mut bill, "items and index entries", f64::from(u32::try_from(bytes).expect("a few kilobytes")));
        bill
    }

    fn installation(&self, (clock, batch): (Taken, Taken)) -> Bill {
        let mut bill = Bill::default();
        let template = &self.template;
        bill.add("alarms", template.count("AWS::CloudWatch::Alarm"), "", self.prices.of("alarm"));
        bill.add("dashboards", template.count("AWS::CloudWatch::Dashboard"), "", self.prices.of("dashboard"));
        let filters = template.count("AWS::Logs::MetricFilter");
        bill.add("metrics of the log, if anything is found", filters, "", self.prices.of("metric"));
        let told = 2.0 * operation_metrics();
        bill.add("metrics of `clock` and `usage-batch`", told, "", self.prices.of("metric"));
        bill.add("secret", template.count("AWS::SecretsManager::Secret"), "", self.prices.of("secret"));
        let empty = template.queues_read() * EMPTY_RECEIVES / 1e6;
        bill.add("queues: looking whether something is there", empty, "million requests", self.prices.of("queue"));
        for (name, taken) in [("clock", clock), ("usage-batch", batch)] {
            let runs = template.runs_a_day(name) * DAYS / 1e6;
            let all = |value: f64| value * runs;
            let taken = Taken {
                writes: all(taken.writes),
                entries: all(taken.entries),
                reads: all(taken.reads),
                stored: 0.0,
                logged: all(taken.logged),
                seconds: all(taken.seconds),
            };
            bill.add(format!("`{name}`: schedule"), runs, "million calls", self.prices.of("schedule"));
            self.function(&mut bill, name, runs, taken);
            self.table(&mut bill, &format!("`{name}`"), taken);
        }
        bill
    }
}

/// How many metrics an operation has that is in use.
fn operation_metrics() -> f64 {
    f64::from(u8::try_from(METRICS.len()).expect("a few"))
}

/// What was measured, by the piece.
fn quantities(turn: &Turn, delivery: &Delivery, (clock, batch): (Taken, Taken)) -> Vec<Vec<String>> {
    let head = ["of one", "write units", "as AWS counts", "read units", "computing", "stored", "logged"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (what, taken) in [
        ("chat turn", turn.chat),
        ("its events in the relay", turn.relay),
        ("its events in the projector", turn.projector),
        ("its usage event, reported", turn.report),
        ("delivery", delivery.deliver),
        ("run of the clock", clock),
        ("run of usage-batch", batch),
    ] {
        rows.push(row([
            &what,
            &format!("{:.1}", taken.writes),
            &format!("{:.1}", taken.billed_writes()),
            &format!("{:.1}", taken.reads),
            &format!("{:.1} ms", taken.seconds * 1e3),
            &format!("{:.0} bytes", taken.stored),
            &format!("{:.0} bytes", taken.logged),
        ]));
    }
    rows
}

/// What an idle agent is made of.
fn items(kept: &[Kept]) -> Vec<Vec<String>> {
    let mut rows = vec![row([&"item", &"how many", &"bytes", &"in indexes", &"goes by itself"])];
    for one in kept {
        let goes = if one.expires { "yes" } else { "" };
        rows.push(row([&one.entity, &one.items, &one.table, &one.index, &goes]));
    }
    rows
}
