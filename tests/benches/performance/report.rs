//! Figures as Markdown, and their places in the document.

use std::fmt::{self, Display};
use std::path::PathBuf;
use std::time::Duration;

/// What one part found: text and tables.
#[derive(Default)]
pub(crate) struct Report(String);

impl Report {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a paragraph.
    pub(crate) fn say(mut self, text: impl AsRef<str>) -> Self {
        self.0 += &format!("{}\n\n", wrapped(text.as_ref()));
        self
    }

    /// Adds a table; the first row is its head.
    pub(crate) fn table(mut self, rows: &[Vec<String>]) -> Self {
        for (number, row) in rows.iter().enumerate() {
            self.0 += &format!("| {} |\n", row.join(" | "));
            if number == 0 {
                self.0 += &format!("|{}\n", " --- |".repeat(row.len()));
            }
        }
        self.0.push('\n');
        self
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.trim_end())
    }
}

/// Lines of at most 120 characters.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("one line at least");
        if !line.is_empty() && line.len() + word.len() >= 120 {
            lines.push(word.to_owned());
        } else {
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(word);
        }
    }
    lines.join("\n")
}

/// A row of a table.
pub(crate) fn row<const N: usize>(cells: [&dyn Display; N]) -> Vec<String> {
    cells.iter().map(ToString::to_string).collect()
}

/// Puts a report in the place that its name marks in the document.
pub(crate) fn write(name: &str, report: &Report) -> std::io::Result<()> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/PERFORMANCE.md");
    let text = std::fs::read_to_string(&path)?;
    let (begin, end) = (format!("<!-- {name} -->"), format!("<!-- end of {name} -->"));
    let place = text.find(&begin).zip(text.find(&end)).filter(|(from, to)| from < to);
    let (from, to) = place.ok_or_else(|| std::io::Error::other(format!("it has no place {begin} … {end}")))?;
    let machine = machine();
    let written = format!("{}{begin}\n\n{report}\n\n{machine}\n\n{}", &text[..from], &text[to..]);
    std::fs::write(&path, written)
}

/// Where and when this was measured.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("an unnamed processor", |(_, name)| name.trim());
    let today = shared::kernel::Clock::now(&shared::kernel::SystemClock).to_string();
    let today = today.split('T').next().unwrap_or_default();
    wrapped(&format!("Measured on {today} with {cores} cores ({model}), load and platform on the same machine."))
}

/// How long things took.
#[derive(Debug, Clone, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// That many of a hundred took no longer, in milliseconds.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
    }

    /// As `1.2 ms`.
    pub(crate) fn shown(&self, percent: usize) -> String {
        format!("{:.1} ms", self.percentile(percent))
    }
}

impl FromIterator<Times> for Times {
    fn from_iter<I: IntoIterator<Item = Times>>(all: I) -> Self {
        Self(all.into_iter().flat_map(|times| times.0).collect())
    }
}

/// So many in a time, by the second.
pub(crate) fn per_second(count: usize, time: Duration) -> String {
    #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^53")]
    let rate = count as f64 / time.as_secs_f64();
    format!("{rate:.0}/s")
}
