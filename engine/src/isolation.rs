//! Whether the cluster's network policies hold: listeners that they forbid are called, and none must answer.
//!
//! Somebody has to try: a cluster whose network takes policies and enforces none looks the same to everybody else. What is
//! tried, the operator names: itself, the API server, the cloud's metadata, engines of others. The engine tells each by
//! its name only, since whose engine it is that it can't reach is nobody's business.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use futures::future::join_all;
use serde::Deserialize;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::config::Config;
use crate::live;

/// A name gets so long to resolve, and a connection so long to be made.
const DEADLINE: Duration = Duration::from_secs(2);

/// A listener that must not be reached.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Target {
    /// What it is called when it is told of.
    pub name: String,
    /// Host and port; the host is an address or a name.
    pub address: String,
    /// Whether reaching it forbids to ask for a key. Not so of what a network that does its duty may let through, as it
    /// may what a pod says to its own node.
    #[serde(default = "yes")]
    pub decides: bool,
}

fn yes() -> bool {
    true
}

/// Every listener that must not be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Targets {
    /// Whether no key is asked for while one of them is reached that decides.
    pub required: bool,
    /// The listeners.
    pub listeners: Vec<Target>,
}

impl Targets {
    /// What the operator names now, or else what the configuration does. None where nothing is to be tried.
    pub fn of(config: &Config) -> Option<Self> {
        let configured = config.isolation.as_ref();
        let forbidden = || {
            let named = |address: &String| Target { name: address.clone(), address: address.clone(), decides: true };
            configured.map(|isolation| isolation.forbidden.iter().map(named).collect())
        };
        let listeners = live::targets(config).or_else(forbidden)?;
        Some(Self { required: configured.is_some_and(|isolation| isolation.required), listeners })
    }
}

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
    /// Whether the engine must not ask for a key while something is reached that decides.
    pub required: bool,
    /// The listeners, and what became of them.
    pub outcomes: Vec<(Target, Outcome)>,
    /// Wall-clock time of the end of the probe.
    pub at: SystemTime,
}

impl Report {
    /// Calls all listeners at once.
    pub async fn probe(targets: Targets) -> Self {
        let outcomes = join_all(targets.listeners.into_iter().map(call)).await;
        Self { required: targets.required, outcomes, at: SystemTime::now() }
    }

    /// Names of listeners that were reached.
    pub fn reached(&self) -> Vec<String> {
        self.names(Outcome::Reached)
    }

    /// Names of listeners that were tried and not reached.
    pub fn unreached(&self) -> Vec<String> {
        self.names(Outcome::Unreached)
    }

    /// Whether no name resolves, though there are some: then there is no DNS, and next to nothing was tried.
    pub fn lacks_dns(&self) -> bool {
        let mut named = self.outcomes.iter().filter(|(target, _)| target.address.parse::<SocketAddr>().is_err());
        named.clone().next().is_some() && named.all(|(_, outcome)| *outcome == Outcome::Unresolved)
    }

    /// Whether the engine must not ask for a key.
    pub fn forbids_unlocking(&self) -> bool {
        let decisive = |(target, outcome): &(Target, Outcome)| target.decides && *outcome == Outcome::Reached;
        self.required && self.outcomes.iter().any(decisive)
    }

    /// Whether it is too early to call it a finding that something was reached, while the network still has time to enforce
    /// its policies on a new pod.
    pub fn is_early(&self, settled: Instant) -> bool {
        self.outcomes.iter().any(|(_, outcome)| *outcome == Outcome::Reached) && Instant::now() < settled
    }

    /// Logs what is not as it should be.
    pub fn tell(&self) {
        for (Target { name, .. }, outcome) in &self.outcomes {
            match outcome {
                Outcome::Unreached => {}
                Outcome::Unresolved => tracing::warn!(
                    listener = name,
                    "the host of a listener that the network policies forbid does not resolve: nothing is known of it"
                ),
                Outcome::Reached => tracing::warn!(
                    listener = name,
                    "the network does not enforce its policies: a listener that they forbid was reached"
                ),
            }
        }
    }

    fn names(&self, wanted: Outcome) -> Vec<String> {
        let chosen = self.outcomes.iter().filter(|(_, outcome)| *outcome == wanted);
        chosen.map(|(target, _)| target.name.clone()).collect()
    }
}

async fn call(target: Target) -> (Target, Outcome) {
    let outcome = connect(&target.address).await;
    (target, outcome)
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

    fn target(name: &str, address: &str) -> Target {
        Target { name: name.into(), address: address.into(), decides: true }
    }

    #[tokio::test]
    async fn what_listens_is_reached_and_what_does_not_is_not() -> std::io::Result<()> {
        let open = std::net::TcpListener::bind("127.0.0.1:0")?;
        let closed = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let open_at = open.local_addr()?.to_string();
        let listeners =
            vec![target("open", &open_at), target("closed", &closed), target("unknown", "no-such-host.invalid:443")];
        let targets = Targets { required: true, listeners };
        let report = Report::probe(targets.clone()).await;
        assert_eq!(report.reached(), ["open"]);
        assert_eq!(report.unreached(), ["closed"]);
        assert_eq!(report.outcomes[2].1, Outcome::Unresolved);
        assert!(report.forbids_unlocking());
        assert!(!Report { required: false, ..report.clone() }.forbids_unlocking());
        let mut lenient = report.clone();
        lenient.outcomes[0].0.decides = false;
        assert!(!lenient.forbids_unlocking() && lenient.reached() == ["open"], "it is told all the same");
        let (now, hour) = (Instant::now(), Duration::from_secs(3600));
        assert!(
            lenient.is_early(now + hour) && !lenient.is_early(now),
            "it is tried again until the network had its time"
        );
        drop(open);
        let again = Report::probe(targets).await;
        assert!(again.reached().is_empty() && !again.forbids_unlocking());
        assert!(!again.is_early(now + hour), "to reach nothing counts at once");
        Ok(())
    }

    #[test]
    fn without_dns_a_listener_that_has_an_address_does_not_stand_for_the_others() {
        let report = |outcomes: &[(&str, Outcome)]| Report {
            required: true,
            outcomes: outcomes.iter().map(|(address, outcome)| (target("t", address), *outcome)).collect(),
            at: SystemTime::UNIX_EPOCH,
        };
        let metadata = ("169.254.169.254:80", Outcome::Unreached);
        assert!(report(&[metadata, ("a.svc:1", Outcome::Unresolved)]).lacks_dns());
        assert!(!report(&[metadata, ("a.svc:1", Outcome::Unresolved), ("b.svc:1", Outcome::Unreached)]).lacks_dns());
        assert!(!report(&[metadata]).lacks_dns() && !report(&[]).lacks_dns());
    }
}
