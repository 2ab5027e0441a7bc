//! The written form of a rollout: what was rolled out last, verbatim, what is being done about it, and what was done.
//!
//! An entry that is missing says nothing. One that can't be read is refused, and not written over.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::error::Category;
use vectorkeep_crds::status::UpgradeReport;

use super::{identity::Identity, refusal::Refusal, rendering::Rendering, rollout::Rollout};
use crate::{
    observed::Observed,
    settings::Settings,
    upgrade::{advisories::Advisory, decision::Decision, fleet::Fleet},
};

const INPUTS: &str = "inputs";
const RELEASE: &str = "release.json";
const TEMPLATE: &str = "template.json";
const FILES: &str = "files.json";
const PROGRESS: &str = "upgrade.json";
const HISTORY_ENTRY: &str = "history.json";
const ADVISORIES: &str = "advisories.json";
const HONOURED: &str = "honouredRequest";
const REJECTED: &str = "rejectedTemplate";
const TAKEN_BACK: &str = "takenBack.json";
/// Fingerprints of the serving CAs that were last published to the customer's namespace.
const PUBLISHED_AUTHORITY: &str = "publishedAuthority";
/// Fingerprint of the client certificate that was last published there.
const PUBLISHED_CLIENT: &str = "publishedClient";
/// Whether cert-manager may have been told to write the serving certificate.
const ORDERED: &str = "certificateOrdered";

/// Name of the record in the operator's namespace.
pub fn record_name(cluster_id: &str) -> String {
    format!("record-{cluster_id}")
}

/// What was rolled out and found good, if that is written down.
pub fn stable(record: &ConfigMap) -> Result<Option<Rendering>, Refusal> {
    match (plain(record, INPUTS), entry(record, RELEASE)?, entry(record, TEMPLATE)?, entry(record, FILES)?) {
        (Some(inputs), Some(release), Some(template), Some(files)) => {
            Ok(Some(Rendering { inputs: inputs.to_owned(), release, template, files }))
        }
        // What runs then is what is being tried, and can't stand for what ran before.
        _ if plain(record, PROGRESS).is_some() => Err(Refusal::Record {
            name: record.name_any(),
            entry: PROGRESS,
            problem: format!("{INPUTS}, {RELEASE}, {TEMPLATE} and {FILES} have to say beside it what ran before"),
        }),
        _ => Ok(None),
    }
}

/// A rollout as far as it is written down, with nothing decided yet.
pub fn rollout(record: Option<&ConfigMap>, stable: Rendering, fleet: Fleet) -> Result<Rollout, Refusal> {
    let none = ConfigMap::default();
    let record = record.unwrap_or(&none);
    Ok(Rollout {
        stable,
        progress: entry(record, PROGRESS)?,
        waits_for: String::new(),
        history: entry(record, HISTORY_ENTRY)?.unwrap_or_default(),
        advisories: entry(record, ADVISORIES)?.unwrap_or_default(),
        honoured: plain(record, HONOURED).map(str::to_owned),
        rejected: plain(record, REJECTED).map(str::to_owned),
        taken_back: entry(record, TAKEN_BACK)?,
        offer: None,
        decision: Decision::Nothing,
        renews: false,
        unreadable: None,
        fleet,
        news: Vec::new(),
    })
}

/// What is remembered beside a rollout.
#[derive(Clone, Copy, Debug)]
pub struct Memo<'a> {
    /// Fingerprints of the serving CAs that the customer was last given.
    pub published_authority: Option<&'a str>,
    /// Fingerprint of the client certificate that the customer was last given.
    pub published_client: Option<&'a str>,
    /// Whether cert-manager may have been told to write the serving certificate.
    pub ordered: bool,
}

/// The record of a rollout and of what was told to others.
pub fn record(identity: &Identity, rollout: &Rollout, memo: &Memo<'_>, settings: &Settings) -> ConfigMap {
    let stable = &rollout.stable;
    let mut data = BTreeMap::from([
        (INPUTS.to_owned(), stable.inputs.clone()),
        (RELEASE.to_owned(), text(&stable.release)),
        (TEMPLATE.to_owned(), text(&stable.template)),
        (FILES.to_owned(), text(&stable.files)),
    ]);
    if let Some(progress) = &rollout.progress {
        data.insert(PROGRESS.to_owned(), text(progress));
    }
    if !rollout.history.is_empty() {
        data.insert(HISTORY_ENTRY.to_owned(), text(&rollout.history));
    }
    if let Some(taken_back) = &rollout.taken_back {
        data.insert(TAKEN_BACK.to_owned(), text(taken_back));
    }
    if !rollout.advisories.is_empty() {
        data.insert(ADVISORIES.to_owned(), text(&rollout.advisories));
    }
    for (key, value) in [(HONOURED, &rollout.honoured), (REJECTED, &rollout.rejected)] {
        data.extend(value.clone().map(|value| (key.to_owned(), value)));
    }
    for (key, value) in [(PUBLISHED_AUTHORITY, memo.published_authority), (PUBLISHED_CLIENT, memo.published_client)] {
        data.extend(value.map(|value| (key.to_owned(), value.to_owned())));
    }
    if memo.ordered {
        data.insert(ORDERED.to_owned(), "true".to_owned());
    }
    ConfigMap {
        metadata: identity.meta_in(Some(&settings.operator_namespace), &record_name(&identity.cluster_id)),
        data: Some(data),
        ..ConfigMap::default()
    }
}

/// Rollouts that are over, as far as that can be read, newest first.
pub fn reports(record: &ConfigMap) -> Vec<UpgradeReport> {
    entry(record, HISTORY_ENTRY).ok().flatten().unwrap_or_default()
}

/// Advisories that are open, and the latest that were, as far as that can be read.
pub fn known_advisories(record: &ConfigMap) -> Vec<Advisory> {
    entry(record, ADVISORIES).ok().flatten().unwrap_or_default()
}

/// Fingerprints of the serving CAs that the customer was last given.
pub fn published_authority(observed: &Observed) -> Option<&str> {
    plain(observed.custody.record.as_ref()?, PUBLISHED_AUTHORITY)
}

/// Fingerprint of the client certificate that the customer was last given.
pub fn published_client(observed: &Observed) -> Option<&str> {
    plain(observed.custody.record.as_ref()?, PUBLISHED_CLIENT)
}

/// Whether cert-manager may have been told to write the serving certificate.
pub fn is_ordered(record: Option<&ConfigMap>) -> bool {
    record.is_some_and(|record| plain(record, ORDERED).is_some())
}

fn entry<T: DeserializeOwned>(record: &ConfigMap, key: &'static str) -> Result<Option<T>, Refusal> {
    let Some(text) = plain(record, key) else { return Ok(None) };
    serde_json::from_str(text).map(Some).map_err(|problem| Refusal::Record {
        name: record.name_any(),
        entry: key,
        problem: describe(&problem),
    })
}

/// What is wrong with an entry and where, without a word of what it says.
fn describe(problem: &serde_json::Error) -> String {
    let what = match problem.classify() {
        Category::Data => "not of the form that belongs there",
        Category::Eof => "cut off",
        Category::Syntax | Category::Io => "not JSON",
    };
    format!("{what}, line {} column {}", problem.line(), problem.column())
}

fn plain<'a>(record: &'a ConfigMap, key: &str) -> Option<&'a str> {
    record.data.as_ref()?.get(key).map(String::as_str)
}

/// A value as it is written down.
pub(super) fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
