//! Several mistakes as one error: their order, and how much of them a line repeats.

use super::{ConfigError, Place};

impl ConfigError {
    /// Makes one error of all that is wrong, in the order of the file. `None` means that nothing is.
    pub(in crate::config) fn all(mut errors: Vec<Self>) -> Option<Self> {
        errors.sort_by_key(Self::order);
        errors.dedup_by_key(|error| error.to_string());
        match errors.len() {
            0 | 1 => errors.pop(),
            _ => Some(Self::Several(errors)),
        }
    }

    /// A sentence for each thing that is wrong, in the order of the file.
    pub fn sentences(&self) -> Vec<String> {
        match self {
            Self::Several(errors) => errors.iter().map(ToString::to_string).collect(),
            one => vec![one.to_string()],
        }
    }

    /// Sorts by the lines of the file. What has no place comes after them, then variables, then settings of the hub.
    fn order(&self) -> (u8, usize) {
        match self.place() {
            Some(Place::Line(_, line)) => (0, *line),
            None => (1, 0),
            Some(Place::Variable(_)) => (2, 0),
            Some(Place::Setting(_)) => (3, 0),
        }
    }

    fn place(&self) -> Option<&Place> {
        match self {
            Self::Syntax { place, .. }
            | Self::UnknownKey { place, .. }
            | Self::NamedMask { place }
            | Self::SecretInFile { place, .. }
            | Self::UnknownSetting { place, .. }
            | Self::NotASetting { place, .. }
            | Self::TooManyCameras { place, .. }
            | Self::TooManySettings { place, .. }
            | Self::TooManyStreams { place, .. }
            | Self::AddressAsTwin { place, .. }
            | Self::AddressAsName { place, .. }
            | Self::WrongType { place, .. }
            | Self::BadValue { place, .. }
            | Self::SecretUnreadable { place, .. }
            | Self::SecretForbidden { place, .. }
            | Self::SecretUnusable { place, .. }
            | Self::NotBuilt { place, .. }
            | Self::NoHeader { place, .. }
            | Self::Duplicate { place, .. }
            | Self::AmbiguousStream { place, .. }
            | Self::CameraWithoutTwin { place }
            | Self::CameraWithoutSource { place, .. }
            | Self::TwoSources { place }
            | Self::RtspWithoutUser { place }
            | Self::RtspWithoutPassword { place }
            | Self::RtspUserTwice { place, .. }
            | Self::NotForBridge { place, .. }
            | Self::NothingToBridge { place }
            | Self::NoNodeToDial { place }
            | Self::PeripheralDials { place }
            | Self::BridgeWithoutHub { place }
            | Self::WithoutRtsp { place, .. }
            | Self::TooManyParts { place, .. }
            | Self::PartWithout { place, .. }
            | Self::BadPart { place, .. }
            | Self::PartTwice { place, .. }
            | Self::BadPolygon { place, .. }
            | Self::LineWithoutLength { place, .. }
            | Self::TooManySinks { place, .. }
            | Self::SinkTwice { place, .. }
            | Self::SinkWithout { place, .. }
            | Self::KeyOfAnotherSink { place, .. }
            | Self::HalfALogin { place, .. }
            | Self::TooManyModels { place, .. }
            | Self::ModelWithout { place, .. }
            | Self::RemoteFallback { place, .. }
            | Self::PlainServer { place, .. }
            | Self::PoolAndShard { place }
            | Self::HalfAShard { place }
            | Self::PoolWithoutLease { place }
            | Self::LeaseWithoutPool { place }
            | Self::KeyOfAnotherEngine { place, .. }
            | Self::EtcdWithoutUrl { place }
            | Self::HalfALoginOfEtcd { place, .. }
            | Self::HalfACertificateOfEtcd { place, .. }
            | Self::PlainEtcd { place }
            | Self::SharedCameraDials { place, .. }
            | Self::HubAndNone { place, .. }
            | Self::TooFewPorts { place, .. } => Some(place),
            Self::Several(_)
            | Self::Unreadable { .. }
            | Self::Forbidden { .. }
            | Self::Emptied { .. }
            | Self::UnknownVariable { .. }
            | Self::SecretVariableUnusable { .. }
            | Self::NoTwinId { .. }
            | Self::NoUrl { .. }
            | Self::NoDeviceId
            | Self::NoAccessKey
            | Self::NoCameraToBridge { .. } => None,
        }
    }
}

/// Puts the sentences one after the other, no more of them than a log line and a property of the node's twin should have.
pub(super) fn in_one_line(errors: &[ConfigError]) -> String {
    const MOST_BYTES: usize = 960;
    let mut text = String::new();
    for (at, error) in errors.iter().enumerate() {
        let sentence = error.to_string();
        if at > 0 && text.len() + sentence.len() > MOST_BYTES {
            return format!("{text}; and {} more", errors.len() - at);
        }
        if at > 0 {
            text.push_str("; ");
        }
        text.push_str(&sentence);
    }
    text
}
