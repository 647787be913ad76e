//! How far a text goes along with a known one. Letters and digits alone are compared, so that spaces, quotation marks and
//! formatting hide nothing, and a text is also read as what it may stand for: backwards, rotated by 13 letters, in base64,
//! in hexadecimal digits, with the escapes of addresses. It is read as it grows; a letter costs the same however long
//! both texts are.

/// A run that is shorter is none.
const WINDOW: usize = 40;

/// Hashes are polynomials of this.
const BASE: u64 = 0x9e37_79b9_7f4a_7c15;
const TOP: u64 = BASE.wrapping_pow(WINDOW as u32);

/// A text that is known again.
#[derive(Debug)]
pub(super) struct Known {
    forwards: Pieces,
    backwards: Pieces,
}

/// Hashes of pieces of a text that are as long as the window, sorted.
#[derive(Debug)]
struct Pieces {
    all: Vec<u64>,
    /// One of these is told by itself.
    telling: Vec<u64>,
}

impl Known {
    /// Knows all of a text, and the beginning of each of these others.
    pub(super) fn new<'a>(text: &str, others: impl Iterator<Item = &'a str>) -> Self {
        let text = unescaped(text);
        let backwards: String = text.chars().rev().collect();
        let (mut beginnings, mut ends) = (Vec::new(), Vec::new());
        for other in others {
            let Some(beginning) = letters(other).get(..WINDOW).map(<[u8]>::to_vec) else { continue };
            ends.extend(hashes(beginning.iter().rev()));
            beginnings.extend(hashes(beginning.iter()));
        }
        let pieces = |text: &str, telling| {
            let mut all: Vec<u64> = hashes(letters(text).iter()).collect();
            all.sort_unstable();
            Pieces { all, telling }
        };
        Self { forwards: pieces(&text, beginnings), backwards: pieces(&backwards, ends) }
    }
}

/// How many letters and digits a text has.
pub(super) fn length(text: &str) -> usize {
    letters(&unescaped(text)).len()
}

/// A text that grows, beside a known one.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    known: &'a Known,
    readings: [(Dress, Runs); 7],
}

impl<'a> Reading<'a> {
    pub(super) fn new(known: &'a Known) -> Self {
        let base64 = |skipped| Dress::Base64(Base64 { skipped, ..Base64::default() });
        let hex = |skipped| Dress::Hex(Hex { skipped, ..Hex::default() });
        // Nobody knows where a code begins: each way to cut it is tried.
        let dresses = [Dress::Plain(Escapes::default()), base64(0), base64(1), base64(2), base64(3), hex(0), hex(1)];
        Self { known, readings: dresses.map(|dress| (dress, Runs::default())) }
    }

    /// How many letters of the known text in a row end with this letter; [`usize::MAX`] when one of the others began.
    pub(super) fn read(&mut self, c: char) -> usize {
        let known = self.known;
        for (dress, runs) in &mut self.readings {
            let mut read = |c| runs.read(c, known);
            match dress {
                Dress::Plain(escapes) => escapes.read(c, &mut read),
                Dress::Base64(base64) => base64.read(c).into_iter().for_each(read),
                Dress::Hex(hex) => hex.read(c).into_iter().for_each(read),
            }
        }
        self.readings.iter().map(|(_, runs)| runs.longest()).max().unwrap_or_default()
    }
}

/// Runs of what a dress stands for, which may be turned round or rotated itself.
#[derive(Debug, Default)]
struct Runs {
    forwards: Run,
    backwards: Run,
    rotated: Run,
}

impl Runs {
    fn read(&mut self, c: char, known: &Known) {
        each_letter(c, |letter| {
            self.forwards.read(letter, &known.forwards);
            self.backwards.read(letter, &known.backwards);
        });
        each_letter(rotated(c), |letter| self.rotated.read(letter, &known.forwards));
    }

    fn longest(&self) -> usize {
        self.forwards.length.max(self.backwards.length).max(self.rotated.length)
    }
}

/// How many of the last letters are a run: all pieces of it are known.
#[derive(Debug, Default)]
struct Run {
    window: Window,
    length: usize,
}

impl Run {
    fn read(&mut self, letter: u8, pieces: &Pieces) {
        let hash = self.window.read(letter);
        self.length = match pieces.all.binary_search(&hash) {
            _ if pieces.telling.contains(&hash) => usize::MAX,
            Ok(_) => self.length.max(WINDOW - 1).saturating_add(1),
            Err(_) => 0,
        };
    }
}

/// The last letters and their hash.
#[derive(Debug)]
struct Window {
    letters: [u8; WINDOW],
    at: usize,
    hash: u64,
}

impl Default for Window {
    fn default() -> Self {
        Self { letters: [0; WINDOW], at: 0, hash: 0 }
    }
}

impl Window {
    fn read(&mut self, letter: u8) -> u64 {
        let gone = std::mem::replace(&mut self.letters[self.at], letter);
        self.at = (self.at + 1) % WINDOW;
        let hash = self.hash.wrapping_mul(BASE).wrapping_add(letter.into());
        self.hash = hash.wrapping_sub(u64::from(gone).wrapping_mul(TOP));
        self.hash
    }
}

/// Of each piece.
fn hashes<'a>(letters: impl Iterator<Item = &'a u8>) -> impl Iterator<Item = u64> {
    let mut window = Window::default();
    letters.map(move |letter| window.read(*letter)).skip(WINDOW - 1)
}

/// In lower case. Those of other scripts are written by their numbers, so that they weigh more, as they say more.
fn each_letter(c: char, mut read: impl FnMut(u8)) {
    if !c.is_alphanumeric() {
        return;
    }
    for c in c.to_lowercase() {
        match u8::try_from(c) {
            Ok(letter) if letter.is_ascii() => read(letter),
            _ => format!("{:x}", u32::from(c)).bytes().for_each(&mut read),
        }
    }
}

fn letters(text: &str) -> Vec<u8> {
    let mut letters = Vec::with_capacity(text.len());
    text.chars().for_each(|c| each_letter(c, |letter| letters.push(letter)));
    letters
}

fn rotated(c: char) -> char {
    match c {
        'a'..='m' | 'A'..='M' => char::from(c as u8 + 13),
        'n'..='z' | 'N'..='Z' => char::from(c as u8 - 13),
        other => other,
    }
}

/// What a text may be read as.
#[derive(Debug)]
enum Dress {
    Plain(Escapes),
    Base64(Base64),
    Hex(Hex),
}

/// Characters of bytes; those that are none are passed over.
#[derive(Debug, Default)]
struct Utf8(Vec<u8>);

impl Utf8 {
    fn read(&mut self, byte: u8) -> Option<char> {
        self.0.push(byte);
        match std::str::from_utf8(&self.0) {
            Ok(text) => {
                let c = text.chars().next();
                self.0.clear();
                c
            }
            Err(error) if error.error_len().is_none() => None,
            Err(_) if self.0.len() == 1 => {
                self.0.clear();
                None
            }
            Err(_) => {
                self.0.clear();
                self.read(byte)
            }
        }
    }
}

/// `%41` and what is written without.
#[derive(Debug, Default)]
struct Escapes {
    /// The digits so far, behind a `%`.
    begun: Option<Option<char>>,
    bytes: Utf8,
}

impl Escapes {
    fn read(&mut self, c: char, read: &mut impl FnMut(char)) {
        let digit = c.to_digit(16);
        match (self.begun.take(), digit) {
            (Some(None), Some(_)) => self.begun = Some(Some(c)),
            (Some(Some(first)), Some(second)) => {
                self.bytes.read(byte(first.to_digit(16).unwrap_or_default(), second)).into_iter().for_each(read);
            }
            (begun, _) => {
                // It was no escape.
                begun.flatten().into_iter().for_each(&mut *read);
                match c {
                    '%' => self.begun = Some(None),
                    _ => read(c),
                }
            }
        }
    }
}

fn unescaped(text: &str) -> String {
    let (mut escapes, mut plain) = (Escapes::default(), String::with_capacity(text.len()));
    text.chars().for_each(|c| escapes.read(c, &mut |c| plain.push(c)));
    plain
}

fn byte(high: u32, low: u32) -> u8 {
    u8::try_from(high << 4 | low).unwrap_or_default()
}

/// Both alphabets, in lines or groups of whatever length. What does not belong to it is passed over.
#[derive(Debug, Default)]
struct Base64 {
    skipped: usize,
    read: usize,
    bits: u32,
    /// Whether the last character belonged to it: a dash that stands alone does not.
    is_within: bool,
    bytes: Utf8,
}

impl Base64 {
    fn read(&mut self, c: char) -> Option<char> {
        let value = match c {
            'A'..='Z' => c as u32 - u32::from(b'A'),
            'a'..='z' => c as u32 - u32::from(b'a') + 26,
            '0'..='9' => c as u32 - u32::from(b'0') + 52,
            '+' | '-' if self.is_within => 62,
            '/' | '_' if self.is_within => 63,
            other => {
                // Behind an end a new one begins.
                self.read = if other == '=' { 0 } else { self.read };
                self.is_within = false;
                return None;
            }
        };
        (self.is_within, self.bits) = (true, self.bits << 6 | value);
        self.read += 1;
        let spare = match self.read.checked_sub(self.skipped)? % 4 {
            2 => 4,
            3 => 2,
            0 if self.read > self.skipped => 0,
            _ => return None,
        };
        let [.., byte] = (self.bits >> spare).to_be_bytes();
        self.bytes.read(byte)
    }
}

/// Two digits a byte, in lines or groups of whatever length.
#[derive(Debug, Default)]
struct Hex {
    skipped: usize,
    read: usize,
    high: u32,
    bytes: Utf8,
}

impl Hex {
    fn read(&mut self, c: char) -> Option<char> {
        let Some(digit) = c.to_digit(16) else {
            // `0x41` and `41:42` begin anew.
            self.read = if c.is_whitespace() { self.read } else { 0 };
            return None;
        };
        self.read += 1;
        match self.read.checked_sub(self.skipped)? {
            0 => None,
            read if read % 2 == 1 => {
                self.high = digit;
                None
            }
            _ => self.bytes.read(byte(self.high, digit)),
        }
    }
}
