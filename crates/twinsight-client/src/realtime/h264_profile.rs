//! Profiles and levels of H.264 in descriptions (RFC 6184 section 8.1): what a stream's sequence parameter set says comes in, what
//! a description names goes out. `codecs`, `normalise_formats` and `peer` call it.

use std::fmt;

/// The `profile-level-id`s that are registered with the stack, each of which stands for a profile of H.264.
pub(super) const BASELINE: &str = "42001f";
pub(super) const CONSTRAINED_BASELINE: &str = "42e01f";
pub(super) const MAIN: &str = "4d001f";
pub(super) const CONSTRAINED_HIGH: &str = "640c1f";
pub(super) const HIGH: &str = "64001f";

/// The levels of the standard (table A-1 of H.264). A level that some peer does not know would make it refuse the format.
const LEVELS: &[u8] = &[
    10, 11, 12, 13, 20, 21, 22, 30, 31, 32, 40, 41, 42, 50, 51, 52,
];

/// The level that is named unless a stream needs a higher one: 720p at 30 frames a second.
const USUAL_LEVEL: u8 = 31;

/// Profile, constraint flags and level, as the first bytes of a sequence parameter set have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProfileLevelId(pub [u8; 3]);

impl ProfileLevelId {
    /// Reads the value of a `profile-level-id`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let is_read = text.len() == 6 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = is_read.then(|| u32::from_str_radix(text, 16).ok())??;
        let [_, profile, flags, level] = number.to_be_bytes();
        Some(Self([profile, flags, level]))
    }

    /// The registered profile that stands for this one. Profiles are compared by what their bits mean (RFC 6184 section 8.1,
    /// table 5), not as text. The level is ignored, since decoding does not depend on it.
    pub(super) fn registered(self) -> &'static str {
        let [profile, flags, _] = self.0;
        match (profile, flags) {
            (0x42, flags) if flags & 0x40 != 0 => CONSTRAINED_BASELINE,
            (0x42 | 0x58, _) => BASELINE,
            (0x4d, flags) if flags & 0x80 != 0 => CONSTRAINED_BASELINE,
            (0x4d, _) => MAIN,
            (0x64, flags) if flags & 0x0c == 0x0c => CONSTRAINED_HIGH,
            _ => HIGH,
        }
    }

    /// The level that descriptions name for a stream with this one: it is a usual one, and high enough for the stream if
    /// any is.
    pub(super) fn named_level(self) -> u8 {
        let [_, _, level] = self.0;
        let known = LEVELS.iter().copied();
        let enough = known.filter(|known| *known >= level.max(USUAL_LEVEL)).min();
        enough.unwrap_or(52)
    }

    /// The value that an offer names for a registered profile, when a stream like this is to be sent: the stream's own profile in
    /// place of the one that stands for it, and for all a level that is enough.
    pub(super) fn offered(self, registered: &str) -> String {
        let [profile, flags, _] = self.0;
        // Peers refuse a profile whose flags are not among those of table 5, so such flags are left out.
        let is_usual = match profile {
            0x42 | 0x4d | 0x58 => flags & 0x0f == 0,
            0x64 => flags == 0 || flags == 0x0c,
            _ => false,
        };
        let id = if is_usual && self.registered() == registered {
            format!("{profile:02x}{flags:02x}")
        } else {
            registered[..4].to_owned()
        };
        format!("{id}{:02x}", self.named_level())
    }

    /// Writes an offer anew with [`offered`](Self::offered) profiles.
    pub(super) fn announce_in_offer(self, text: &str) -> String {
        const NAME: &str = "profile-level-id=";
        let mut out = String::with_capacity(text.len());
        for line in text.split_inclusive('\n') {
            let named = line
                .starts_with("a=fmtp:")
                .then(|| line.find(NAME).map(|at| at + NAME.len()))
                .flatten();
            match named.and_then(|at| Some((at, Self::parse(line.get(at..at + 6)?)?))) {
                Some((at, known)) => {
                    out.push_str(&line[..at]);
                    out.push_str(&self.offered(known.registered()));
                    out.push_str(&line[at + 6..]);
                }
                None => out.push_str(line),
            }
        }
        out
    }
}

impl fmt::Display for ProfileLevelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [profile, flags, level] = self.0;
        write!(f, "{profile:02x}{flags:02x}{level:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [&str; 5] = [CONSTRAINED_BASELINE, BASELINE, MAIN, CONSTRAINED_HIGH, HIGH];

    #[test]
    fn an_offer_names_the_streams_own_profile_and_its_level_for_all() {
        for (stream, expected) in [
            (
                [0x64, 0, 0x28],
                ["42e028", "420028", "4d0028", "640c28", "640028"],
            ),
            (
                [0x4d, 0x40, 0x29],
                ["42e029", "420029", "4d4029", "640c29", "640029"],
            ),
            (
                [0x42, 0xc0, 0x16],
                ["42c01f", "42001f", "4d001f", "640c1f", "64001f"],
            ),
            // Flags that no table knows, a level between two and one beyond all.
            (
                [0x64, 0x10, 33],
                ["42e028", "420028", "4d0028", "640c28", "640028"],
            ),
            (
                [0x42, 0xc8, 62],
                ["42e034", "420034", "4d0034", "640c34", "640034"],
            ),
            // A profile that is not registered.
            (
                [0x6e, 0, 9],
                ["42e01f", "42001f", "4d001f", "640c1f", "64001f"],
            ),
        ] {
            let stream = ProfileLevelId(stream);
            assert_eq!(ALL.map(|registered| stream.offered(registered)), expected);
        }
    }

    #[test]
    fn only_the_profiles_of_an_offer_are_written_anew() {
        let text = "v=0\r\nm=video 9 x 102 96\r\na=rtpmap:102 H264/90000\r\na=fmtp:102 packetization-mode=1;profile-level-id=64001f;x=1\r\na=fmtp:96 profile-level-id=zz\r\na=note profile-level-id=42e01f\r\n";
        let stream = ProfileLevelId([0x64, 0, 0x28]);
        let expected = text.replace("64001f", "640028");
        assert_eq!(stream.announce_in_offer(text), expected);
    }
}
