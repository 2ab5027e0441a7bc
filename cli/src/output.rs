//! What is printed: answers on standard output, which the reader may close at any time (`| head`), progress on standard
//! error.

use std::io::{ErrorKind, Write};

use clap::ValueEnum;
use serde::Serialize;

use crate::access::Error;

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One JSON object, for programs.
    Json,
}

/// Prints an answer: as a text, or as one JSON object.
pub(crate) fn answer(format: Format, object: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Error> {
    match format {
        Format::Text => print(&text()),
        Format::Json => print(&format!("{}\n", serde_json::to_string_pretty(object)?)),
    }
}

/// Prints a text. A reader that has seen enough is no error.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::Print(error)),
        _ => Ok(()),
    }
}

/// Lines on standard error that tell how a wait goes on. What was said is not said again until something else was.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    said: Option<String>,
}

impl Progress {
    /// Says a line, if it is news.
    pub(crate) fn say(&mut self, line: String) {
        if self.said.as_deref() != Some(line.as_str()) {
            eprintln!("{line}");
            self.said = Some(line);
        }
    }
}
