//! Whether the cluster's network policies hold: a few listeners that they forbid are called, and none must answer.
//!
//! Somebody has to try: a cluster whose network takes policies and enforces none looks the same to everybody else.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use futures::future::join_all;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::config::Isolation;

/// A name gets so long to resolve, and a connection so long to be made.
const DEADLINE: Duration = Duration::from_secs(2);

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Refused, timed out, or unreachable.
    Unreached,
    /// The name does not resolve, so nobody was called. Not reached either.
    Unresolved,
    /// A connection was made.
    Reached,
}

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Whether the engine must not ask for a key while something is reached.
    pub required: bool,
    /// The forbidden listeners (host:port), as they are configured.
    pub outcomes: Vec<(String, Outcome)>,
    /// Wall-clock time of the end of the probe.
    pub at: SystemTime,
}

impl Report {
    /// Calls all forbidden listeners at once.
    pub async fn probe(isolation: &Isolation) -> Self {
        let outcomes = join_all(isolation.forbidden.iter().cloned().map(call)).await;
        Self { required: isolation.required, outcomes, at: SystemTime::now() }
    }

    /// Listeners that were reached.
    pub fn reached(&self) -> Vec<String> {
        self.listeners(|outcome| outcome == Outcome::Reached)
    }

    /// Listeners that were tried and not reached.
    pub fn unreached(&self) -> Vec<String> {
        self.listeners(|outcome| outcome == Outcome::Unreached)
    }

    /// Whether nothing could be tried, for want of any address.
    pub fn tried_nothing(&self) -> bool {
        !self.outcomes.is_empty() && self.outcomes.iter().all(|(_, outcome)| *outcome == Outcome::Unresolved)
    }

    /// Whether the engine must not ask for a key.
    pub fn forbids_unlocking(&self) -> bool {
        self.required && !self.reached().is_empty()
    }

    /// Logs what is not as it should be.
    pub fn tell(&self) {
        for (listener, outcome) in &self.outcomes {
            match outcome {
                Outcome::Unreached => {}
                Outcome::Unresolved => tracing::warn!(
                    listener,
                    "the name of a listener that the network policies forbid does not resolve: nothing is known of it"
                ),
                Outcome::Reached => tracing::warn!(
                    listener,
                    "the network does not enforce its policies: a listener that they forbid was reached"
                ),
            }
        }
    }

    fn listeners(&self, wanted: impl Fn(Outcome) -> bool) -> Vec<String> {
        let chosen = self.outcomes.iter().filter(|(_, outcome)| wanted(*outcome));
        chosen.map(|(listener, _)| listener.clone()).collect()
    }
}

async fn call(listener: String) -> (String, Outcome) {
    let outcome = connect(&listener).await;
    (listener, outcome)
}

async fn connect(listener: &str) -> Outcome {
    let addresses: Vec<SocketAddr> = match timeout(DEADLINE, lookup_host(listener)).await {
        Ok(Ok(addresses)) => addresses.collect(),
        _ => return Outcome::Unresolved,
    };
    let calls = addresses.into_iter().map(|address| timeout(DEADLINE, TcpStream::connect(address)));
    let reached = join_all(calls).await.iter().any(|call| matches!(call, Ok(Ok(_))));
    if reached { Outcome::Reached } else { Outcome::Unreached }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_listens_is_reached_and_what_does_not_is_not() -> std::io::Result<()> {
        let open = std::net::TcpListener::bind("127.0.0.1:0")?;
        let closed = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let (open_at, unknown) = (open.local_addr()?.to_string(), "no-such-host.invalid:443".to_owned());
        let forbidden = vec![open_at.clone(), closed.clone(), unknown];
        let report = Report::probe(&Isolation { forbidden, required: true }).await;
        assert_eq!(report.reached(), [open_at]);
        assert_eq!(report.unreached(), [closed]);
        assert!(!report.tried_nothing());
        assert_eq!(report.outcomes[2].1, Outcome::Unresolved);
        assert!(report.forbids_unlocking());
        assert!(!Report { required: false, ..report.clone() }.forbids_unlocking());
        drop(open);
        let forbidden = report.reached();
        let again = Report::probe(&Isolation { forbidden, required: true }).await;
        assert!(again.reached().is_empty() && !again.forbids_unlocking());
        Ok(())
    }
}
