//! Standard output, which the reader may close at any time (`| head`).

use std::io::{ErrorKind, Write};

use crate::access::Error;

/// Prints a text. A reader that has seen enough is no error.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::Print(error)),
        _ => Ok(()),
    }
}
