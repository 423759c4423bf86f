//! The server's own log: a file of bounded size with one predecessor, and its last lines in memory for error messages.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The file is moved to `server.log.1` beyond this size, so both together stay below twice of it.
const LARGEST_FILE: u64 = 4 * 1024 * 1024;
const TAIL_BYTES: usize = 4 * 1024;

/// Writes what the server says until the server and all its workers have ended.
#[derive(Debug)]
pub(super) struct ServerLog {
    tail: Arc<Mutex<VecDeque<u8>>>,
    writer: std::thread::JoinHandle<()>,
}

impl ServerLog {
    /// Copies from `reader` in a thread of its own: a pipe of the server must be read also while the service is busy.
    pub(super) fn start(file: &Path, reader: io::PipeReader) -> io::Result<Self> {
        Self::start_sized(file, reader, LARGEST_FILE)
    }

    fn start_sized(file: &Path, mut reader: io::PipeReader, largest: u64) -> io::Result<Self> {
        let mut rotated = RotatedFile::open(file, largest)?;
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        let shared = Arc::clone(&tail);
        let writer = std::thread::Builder::new().name("postgres-log".to_owned()).spawn(move || {
            let mut buffer = [0; 8 * 1024];
            loop {
                let read = match reader.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(read) => &buffer[..read],
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(_) => return,
                };
                {
                    let mut tail = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    tail.extend(read);
                    let surplus = tail.len().saturating_sub(TAIL_BYTES);
                    tail.drain(..surplus);
                }
                // A full disk must not stop the server from being read; the tail still has it.
                let _ = rotated.write(read);
            }
        })?;
        Ok(Self { tail, writer })
    }

    /// The last lines. Waits up to half a second for the rest of what an ended server has said.
    pub(super) fn tail(&self) -> String {
        let started = Instant::now();
        while !self.writer.is_finished() && started.elapsed() < Duration::from_millis(500) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = tail.iter().copied().collect();
        last_lines(&String::from_utf8_lossy(&bytes))
    }
}

/// The last ten lines, joined to one.
pub(super) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(10)..].join(" | ")
}

struct RotatedFile {
    path: PathBuf,
    file: File,
    size: u64,
    largest: u64,
}

impl RotatedFile {
    fn open(path: &Path, largest: u64) -> io::Result<Self> {
        let file = File::options().create(true).append(true).mode(0o600).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, size, largest })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.size >= self.largest {
            let mut older = self.path.clone().into_os_string();
            older.push(".1");
            std::fs::rename(&self.path, older)?;
            *self = Self::open(&self.path, self.largest)?;
        }
        self.file.write_all(bytes)?;
        self.size += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_bounded_and_its_end_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("server.log");
        let (reader, mut writer) = io::pipe().unwrap();
        let log = ServerLog::start_sized(&file, reader, 20_000).unwrap();
        for line in 0..20_000 {
            writeln!(writer, "line {line}").unwrap();
        }
        drop(writer);
        assert!(log.tail().ends_with("line 19998 | line 19999"), "{}", log.tail());
        let sizes = [file.clone(), dir.path().join("server.log.1")].map(|file| file.metadata().unwrap().len());
        assert!(sizes.iter().all(|size| *size < 30_000), "{sizes:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
