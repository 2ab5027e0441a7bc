//! Notifications: what happened to a cluster, told to the outside as signed CloudEvents, at least once each.
//!
//! What is owed is derived from what is written down, never from a queue that a restart would lose: [`notice`] turns the
//! record of a cluster into notices with ids that are the same each time, [`ledger`] remembers which of them each target
//! has accepted. The reconciler hands the difference to the [`notifier`], which delivers beside it, one task for each
//! target: [`outbox`] is what that task has before it, [`delivery`] is one attempt, [`signature`] is how it is signed.
//! [`feed`] offers the advisories to whoever prefers to ask.

pub mod delivery;
pub mod feed;
pub mod ledger;
pub mod notice;
pub mod notifier;
pub mod outbox;
pub mod signature;
pub mod target;

pub use notifier::Notifier;

#[cfg(test)]
mod tests {
    use crate::plan::identity::Identity;

    /// Whose notices the tests are about.
    pub(super) fn identity() -> Identity {
        Identity {
            cluster_id: "vc1".into(),
            namespace: "vk-vc1".into(),
            owner_namespace: "acme".into(),
            owner_name: "support".into(),
            owner_uid: "uid-1".into(),
        }
    }
}
