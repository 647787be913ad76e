//! The data directory: everything that outlives a run, for its owner only, and for one platform at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use shared::kernel::{Code, Error, Result};

/// A data directory that this process holds.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Open for as long as the directory is ours; the operating system lets go of it even after a kill.
    _lock: File,
}

impl DataDir {
    /// Makes the directory unless it is there, and takes hold of it.
    ///
    /// # Errors
    /// `not_configured` with what to do when it cannot be made, cannot be written, or another platform holds it.
    pub fn open(path: &Path) -> Result<Self> {
        let other = || {
            let shown = path.display();
            let message = format!(
                "Another chatia uses the data directory {shown}. Stop that one, or give this one its own: \
                 --data-dir PATH"
            );
            Error::with_message(Code::NotConfigured, message)
        };
        Self::take(path)?.ok_or_else(other)
    }

    /// As [`Self::open`]; `None` when another platform holds it.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn take(path: &Path) -> Result<Option<Self>> {
        let shown = path.display();
        let refuse = |why: &dyn std::fmt::Display| {
            let message = format!(
                "The data directory {shown} cannot be used: {why}. Choose one that you can write to: --data-dir PATH"
            );
            Error::with_message(Code::NotConfigured, message)
        };
        make_private(path).map_err(|error| refuse(&error))?;
        let path = fs::canonicalize(path).map_err(|error| refuse(&error))?;
        let lock = private_file(OpenOptions::new().create(true).truncate(false), &path.join("lock"));
        let lock = lock.map_err(|error| refuse(&error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Self { path, _lock: lock })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(refuse(&error)),
        }
    }

    /// The directory itself, as an absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The database. It is made empty first, since the engine would make it readable for others.
    ///
    /// # Errors
    /// `not_configured` when it cannot be made.
    pub fn database(&self) -> Result<PathBuf> {
        let path = self.path.join("chatia.db");
        private_file(OpenOptions::new().create(true).truncate(false), &path).map_err(|error| {
            Error::with_message(Code::NotConfigured, format!("The database {} cannot be made: {error}", path.display()))
        })?;
        Ok(path)
    }

    /// Where mail is written.
    #[must_use]
    pub fn mail(&self) -> PathBuf {
        self.path.join("mail")
    }

    /// Where objects lie.
    #[must_use]
    pub fn objects(&self) -> PathBuf {
        self.path.join("objects")
    }

    /// The file of secrets.
    #[must_use]
    pub fn secrets(&self) -> PathBuf {
        self.path.join("secrets.json")
    }

    /// The file that keeps the demo account.
    #[must_use]
    pub fn demo(&self) -> PathBuf {
        self.path.join("demo.json")
    }
}

/// Writes a file for its owner only, whole or not at all.
///
/// # Errors
/// When the file system does not take it.
pub fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let part = path.with_extension("part");
    let mut file = private_file(OpenOptions::new().create(true).truncate(true), &part)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(part, path)
}

#[cfg(unix)]
fn make_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    // One that is there already is left as it is: it may be a directory that others use too.
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(unix)]
fn private_file(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    options.write(true).mode(0o600).open(path)
}

// Elsewhere a user's own directories are closed to others by default, and there is no mode to ask for.
#[cfg(not(unix))]
fn make_private(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

#[cfg(not(unix))]
fn private_file(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    options.write(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_platform_holds_a_directory_at_a_time() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("deep").join("data");
        let first = DataDir::open(&path).unwrap();
        let error = DataDir::open(&path).unwrap_err().to_string();
        assert!(error.contains("Another chatia") && error.contains("--data-dir"), "{error}");
        drop(first);
        assert!(DataDir::open(&path).is_ok());
    }

    #[test]
    fn a_directory_that_cannot_be_made_says_what_to_do() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        fs::write(&file, "x").unwrap();
        let error = DataDir::open(&file.join("data")).unwrap_err().to_string();
        assert!(error.contains("--data-dir PATH"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn what_is_kept_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let parent = tempfile::tempdir().unwrap();
        let data = DataDir::open(&parent.path().join("data")).unwrap();
        write_private(&data.demo(), "{}").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(data.path()), 0o700);
        assert_eq!(mode(&data.database().unwrap()), 0o600);
        assert_eq!(mode(&data.demo()), 0o600);
    }
}
