//! The sender's clock: RTCP sender reports come in (RFC 3550 section 6.4.1), and RTP timestamps become milliseconds since
//! 1970. The stream's decoder runs it. Events report these times, and nothing is decided by them.

use super::{RtpTimestamp, VIDEO_CLOCK_HZ};

/// Seconds from the epoch of NTP, 1900, to that of Unix, 1970.
const NTP_TO_UNIX_S: i64 = 2_208_988_800;

/// Knows by the last sender report which wall-clock time an RTP timestamp stands for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Timeline {
    report: Option<Report>,
}

#[derive(Debug, Clone, Copy)]
struct Report {
    unix_ms: i64,
    rtp_timestamp: RtpTimestamp,
}

impl Timeline {
    /// Takes a sender report: NTP time (32.32 fixed point) and the RTP timestamp of the same moment.
    pub(crate) fn sender_report(&mut self, ntp: u64, rtp_timestamp: RtpTimestamp) {
        // A sender that has no wall clock sends 0 (section 6.4.1).
        self.report = (ntp != 0).then(|| Report {
            unix_ms: ntp_to_unix_ms(ntp),
            rtp_timestamp,
        });
    }

    /// Forgets the report, because another source has a clock of its own.
    pub(crate) fn reset(&mut self) {
        self.report = None;
    }

    /// Milliseconds since 1970 of an RTP timestamp, once a report has come.
    pub(crate) fn captured_at_unix_ms(&self, rtp_timestamp: RtpTimestamp) -> Option<u64> {
        let report = self.report?;
        let ticks = i64::from(rtp_timestamp.ticks_since(report.rtp_timestamp));
        let unix_ms = report.unix_ms + ticks * 1000 / i64::from(VIDEO_CLOCK_HZ);
        u64::try_from(unix_ms).ok()
    }
}

fn ntp_to_unix_ms(ntp: u64) -> i64 {
    let seconds = (ntp >> 32).cast_signed();
    let fraction = (ntp & 0xffff_ffff).cast_signed();
    // Era 1 begins in 2036 with 0, so small numbers are of era 1.
    let era = if seconds < 1 << 31 { 1_i64 << 32 } else { 0 };
    (seconds + era - NTP_TO_UNIX_S) * 1000 + ((fraction * 1000) >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-22T15:00:00.500Z.
    const NTP: u64 = (1_795_359_600 + 2_208_988_800) << 32 | 1 << 31;

    #[test]
    fn timestamps_before_and_after_the_report() {
        let mut timeline = Timeline::default();
        let at = RtpTimestamp;
        assert_eq!(timeline.captured_at_unix_ms(at(0)), None);
        timeline.sender_report(NTP, at(100));
        let captured_at = |ticks| timeline.captured_at_unix_ms(at(ticks));
        assert_eq!(captured_at(100), Some(1_795_359_600_500));
        assert_eq!(captured_at(100 + 90), Some(1_795_359_600_501));
        let second_before = 100_u32.wrapping_sub(90_000);
        assert_eq!(captured_at(second_before), Some(1_795_359_599_500));
        timeline.reset();
        assert_eq!(timeline.captured_at_unix_ms(at(100)), None);
    }

    #[test]
    fn zero_means_no_clock_and_2036_comes() {
        let mut timeline = Timeline::default();
        let now = RtpTimestamp(1);
        timeline.sender_report(0, now);
        assert_eq!(timeline.captured_at_unix_ms(now), None);
        // 2036-02-07T06:28:16Z is era 1, second 0.
        timeline.sender_report(1 << 31, now);
        assert_eq!(timeline.captured_at_unix_ms(now), Some(2_085_978_496_500));
    }
}
