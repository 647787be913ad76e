//! Figures as Markdown, and their places in the documents: for the programs that measure.

use std::fmt::{self, Display};
use std::path::PathBuf;
use std::time::Duration;
use std::{fs, io};

/// What one part found: text and tables.
#[derive(Debug, Default)]
pub struct Report(String);

impl Report {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a paragraph.
    #[must_use]
    pub fn say(mut self, text: impl AsRef<str>) -> Self {
        self.0 += &format!("{}\n\n", wrapped(text.as_ref()));
        self
    }

    /// Adds a table; the first row is its head.
    #[must_use]
    pub fn table(mut self, rows: &[Vec<String>]) -> Self {
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
#[must_use]
pub fn row<const N: usize>(cells: [&dyn Display; N]) -> Vec<String> {
    cells.iter().map(ToString::to_string).collect()
}

/// A document with figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Document {
    /// How fast, how large.
    Performance,
    /// What it costs.
    Cost,
}

impl Document {
    fn path(self) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(match self {
            Self::Performance => "../docs/PERFORMANCE.md",
            Self::Cost => "../docs/COST.md",
        })
    }

    /// What stands in the place of a name, without the marks.
    ///
    /// # Errors
    /// When the document does not open or has no such place.
    pub fn read(self, name: &str) -> io::Result<String> {
        let text = fs::read_to_string(self.path())?;
        let (from, to) = place(&text, name)?;
        Ok(text[from..to].trim().to_owned())
    }

    /// Puts a text in the place of a name.
    ///
    /// # Errors
    /// When the document does not open, has no such place, or cannot be written.
    pub fn put(self, name: &str, content: &str) -> io::Result<()> {
        let path = self.path();
        let text = fs::read_to_string(&path)?;
        let (from, to) = place(&text, name)?;
        fs::write(&path, format!("{}\n\n{}\n\n{}", &text[..from], content.trim(), &text[to..]))
    }
}

/// From where to where the place of a name reaches.
fn place(text: &str, name: &str) -> io::Result<(usize, usize)> {
    let (begin, end) = (format!("<!-- {name} -->"), format!("<!-- end of {name} -->"));
    let found = text.find(&begin).map(|at| at + begin.len()).zip(text.find(&end)).filter(|(from, to)| from <= to);
    found.ok_or_else(|| io::Error::other(format!("it has no place {begin} … {end}")))
}

/// Puts a report in the place that its name marks in a document, and says where and when it was measured.
///
/// # Errors
/// As [`Document::put`].
pub fn write(document: Document, name: &str, report: &Report) -> io::Result<()> {
    document.put(name, &format!("{report}\n\n{}", machine()))
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

/// What a virtual machine was denied of the processors that it wanted to use, since some moment. It is another machine's
/// work that takes them, and makes figures worse that are not ours to make better.
#[derive(Debug, Clone, Copy)]
pub struct Denied {
    busy: u64,
    stolen: u64,
}

impl Denied {
    /// From now on.
    #[must_use]
    pub fn since_now() -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let all = stat.lines().next().unwrap_or_default();
        // proc(5): user nice system idle iowait irq softirq steal …
        let ticks: Vec<u64> = all.split_whitespace().skip(1).map(|ticks| ticks.parse().unwrap_or(0)).collect();
        let of = |places: &[usize]| places.iter().filter_map(|place| ticks.get(*place)).sum();
        Self { busy: of(&[0, 1, 2, 5, 6, 7]), stolen: of(&[7]) }
    }

    /// As `12 %` of the time in which there was something to do.
    #[must_use]
    pub fn shown(self) -> String {
        let now = Self::since_now();
        let (busy, stolen) = (now.busy.saturating_sub(self.busy), now.stolen.saturating_sub(self.stolen));
        format!("{} %", (stolen * 100).checked_div(busy).unwrap_or(0))
    }
}

/// How long things took.
#[derive(Debug, Clone, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Adds one.
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// That many of a hundred took no longer, in milliseconds.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
    }

    /// As `1.2 ms`.
    #[must_use]
    pub fn shown(&self, percent: usize) -> String {
        format!("{:.1} ms", self.percentile(percent))
    }
}

impl FromIterator<Times> for Times {
    fn from_iter<I: IntoIterator<Item = Times>>(all: I) -> Self {
        Self(all.into_iter().flat_map(|times| times.0).collect())
    }
}

/// So many in a time, by the second.
#[must_use]
pub fn per_second(count: usize, time: Duration) -> String {
    #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^53")]
    let rate = count as f64 / time.as_secs_f64();
    format!("{rate:.0}/s")
}
