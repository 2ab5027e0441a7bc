//! Waiting until a cluster's status says something.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use vectorkeep_crds::VectorCluster;

use crate::{
    access::{Error, Session},
    output::Progress,
};

/// How long one reading may take until it is tried again.
const ONE_READING: Duration = Duration::from_secs(10);

/// How often to look, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Time between two looks.
    pub(crate) every: Duration,
    /// Time after which it is given up.
    pub(crate) limit: Duration,
}

/// Reads a cluster again and again until `judge`, which is told the time since the start, has an answer. None if there
/// is none in time. A reading that fails is tried again, unless the cluster is gone.
pub(crate) async fn until<T>(
    session: &Session,
    name: &str,
    pace: Pace,
    mut judge: impl FnMut(&VectorCluster, Duration) -> Option<T>,
) -> Result<Option<T>, Error> {
    let start = Instant::now();
    let mut progress = Progress::default();
    loop {
        let left = pace.limit.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Ok(None);
        }
        match timeout(left.min(ONE_READING), session.existing_cluster(name)).await {
            Ok(Ok(cluster)) => {
                if let Some(answer) = judge(&cluster, start.elapsed()) {
                    return Ok(Some(answer));
                }
            }
            Ok(Err(error @ Error::NoCluster { .. })) => return Err(error),
            Ok(Err(error)) => {
                progress.say(format!("{error} ({}); it is tried again", error.causes().join(": ")));
            }
            Err(_) => progress.say("the Kubernetes cluster does not answer; it is tried again".to_owned()),
        }
        sleep(pace.every).await;
    }
}
