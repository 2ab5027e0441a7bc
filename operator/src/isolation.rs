//! The other half of the proof of isolation: a listener that engines must not reach, the control probe that shows that
//! it is there to be reached, and the choice of other clusters that an engine must not reach either.
//!
//! An engine that can't reach a listener proves nothing if nobody can. Therefore the operator connects to the same
//! addresses, again and again.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    ops::Bound::{Excluded, Unbounded},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::net::{TcpListener, TcpStream};

use crate::backoff::jittered;

/// Time between two control probes of one address.
const INTERVAL: Duration = Duration::from_secs(20);
/// An address that takes longer is not reached.
const DEADLINE: Duration = Duration::from_secs(2);

/// An engine tries so many other clusters.
const OTHERS: usize = 3;

/// Which addresses the operator reaches.
#[derive(Clone, Debug, Default)]
pub struct ControlProbe {
    reached: Arc<Mutex<BTreeMap<String, bool>>>,
}

impl ControlProbe {
    /// Probes these addresses from now on.
    pub fn start<'a>(addresses: impl IntoIterator<Item = &'a String>) -> Self {
        let probe = Self::default();
        for address in addresses {
            let (address, reached) = (address.clone(), Arc::clone(&probe.reached));
            tokio::spawn(async move {
                loop {
                    let connecting = tokio::time::timeout(DEADLINE, TcpStream::connect(&address));
                    let connected = matches!(connecting.await, Ok(Ok(_)));
                    reached.lock().unwrap_or_else(PoisonError::into_inner).insert(address.clone(), connected);
                    tokio::time::sleep(jittered(INTERVAL)).await;
                }
            });
        }
        probe
    }

    /// What was last seen, by address.
    pub fn view(&self) -> BTreeMap<String, bool> {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The other clusters that the engine of `own` tries: those that come next by id, so that each is tried by as many, and
/// a cluster that comes or goes changes little.
pub fn others<'a>(ids: &'a BTreeSet<String>, own: &'a str) -> impl Iterator<Item = &'a String> {
    let above = ids.range::<str, _>((Excluded(own), Unbounded));
    let below = ids.range::<str, _>((Unbounded, Excluded(own)));
    above.chain(below).take(OTHERS)
}

/// Listens, and closes every connection at once: to be reached is all that it is for.
pub async fn listen(address: SocketAddr) -> Result<SocketAddr, std::io::Error> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    tokio::spawn(async move {
        loop {
            if let Err(error) = listener.accept().await {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    });
    Ok(bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_clusters_by_id_are_tried_and_never_the_own_one() {
        let ids = |ids: &str| ids.chars().map(String::from).collect::<BTreeSet<_>>();
        let of = |all: &str, own: &str| others(&ids(all), own).cloned().collect::<String>();
        assert_eq!(of("abcde", "b"), "cde");
        assert_eq!(of("abcde", "d"), "eab");
        assert_eq!(of("ab", "b"), "a");
        assert_eq!(of("a", "a"), "");
        assert_eq!(of("abd", "c"), "dab");
    }

    #[tokio::test]
    async fn a_listener_is_reached_and_a_closed_port_is_not() {
        let open = listen(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a port");
        let closed = {
            let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            taken.local_addr().expect("an address")
        };
        let probe = ControlProbe::start(&[open.to_string(), closed.to_string()]);
        let wanted = BTreeMap::from([(open.to_string(), true), (closed.to_string(), false)]);
        for _ in 0..100 {
            if probe.view() == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{:?}", probe.view());
    }
}
