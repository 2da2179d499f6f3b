//! An interceptor that sends sender reports (RFC 3550 section 6.4.1). The senders of tracks say which moment an RTP timestamp
//! stands for, packets that are sent are counted, and a report a second goes out for each source. The stack's own reports would
//! say that a picture was taken when its packet was sent, which is wrong by seconds for pictures that were kept for a while. The
//! WebRTC stack's task runs it.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rtc::interceptor::{Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp::sender_report::SenderReport;
use rtc::sansio::Protocol;
use rtc::shared::TransportContext;

const INTERVAL: Duration = Duration::from_secs(1);

/// Seconds from the epoch of NTP, 1900, to that of Unix, 1970.
const NTP_TO_UNIX_S: u64 = 2_208_988_800;

/// A moment on a source's RTP clock and on ours.
#[derive(Debug, Clone, Copy)]
struct Moment {
    rtp_timestamp: u32,
    at: Instant,
}

/// Which moment the newest timestamp of each source stands for. The senders of a connection's tracks share it with the reports.
#[derive(Debug, Clone, Default)]
pub(super) struct SenderClocks(Arc<Mutex<HashMap<u32, Moment>>>);

impl SenderClocks {
    /// Notes which moment the timestamp of the packets stands for that come next.
    pub(super) fn note(&self, ssrc: u32, rtp_timestamp: u32, at: Instant) {
        let mut moments = self.0.lock();
        moments.insert(ssrc, Moment { rtp_timestamp, at });
    }

    fn of(&self, ssrc: u32) -> Option<Moment> {
        self.0.lock().get(&ssrc).copied()
    }
}

/// What was sent with a source of ours.
struct Source {
    clock_rate: u32,
    /// The counts wrap, as the fields of the report do.
    packets: u32,
    octets: u32,
    /// When the newest timestamp was first sent, for senders that say nothing.
    sent: Option<Moment>,
}

/// Sends the reports.
pub(super) struct SenderReports {
    clocks: SenderClocks,
    sources: HashMap<u32, Source>,
    next_report: Option<Instant>,
    read_queue: VecDeque<TaggedPacket>,
    write_queue: VecDeque<TaggedPacket>,
}

impl SenderReports {
    pub(super) fn new(clocks: SenderClocks) -> Self {
        Self {
            clocks,
            sources: HashMap::new(),
            next_report: None,
            read_queue: VecDeque::new(),
            write_queue: VecDeque::new(),
        }
    }

    /// The report of a source; none before anything was sent with it.
    fn report(&self, ssrc: u32, source: &Source, now: Instant) -> Option<SenderReport> {
        let moment = self.clocks.of(ssrc).or(source.sent);
        let moment = moment.filter(|_| source.packets > 0)?;
        let micros = now.saturating_duration_since(moment.at).as_micros();
        let ticks = micros * u128::from(source.clock_rate) / 1_000_000;
        let ticks = u32::try_from(ticks & u128::from(u32::MAX)).expect("32 bits were kept");
        Some(SenderReport {
            ssrc,
            ntp_time: ntp(SystemTime::now()),
            rtp_time: moment.rtp_timestamp.wrapping_add(ticks),
            packet_count: source.packets,
            octet_count: source.octets,
            ..SenderReport::default()
        })
    }
}

/// 64 bits of NTP time: seconds since 1900, which wrap in 2036, and their fraction.
fn ntp(time: SystemTime) -> u64 {
    let unix = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let fraction = (u64::from(unix.subsec_nanos()) << 32) / 1_000_000_000;
    unix.as_secs().wrapping_add(NTP_TO_UNIX_S) << 32 | fraction
}

impl fmt::Debug for SenderReports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SenderReports").finish_non_exhaustive()
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for SenderReports {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = rtc::shared::error::Error;
    type Time = Instant;

    fn handle_read(&mut self, message: TaggedPacket) -> Result<(), Self::Error> {
        self.read_queue.push_back(message);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<Self::Rout> {
        self.read_queue.pop_front()
    }

    fn handle_write(&mut self, message: TaggedPacket) -> Result<(), Self::Error> {
        if let Packet::Rtp(packet) = &message.message.packet
            && let Some(source) = self.sources.get_mut(&packet.header.ssrc)
        {
            source.packets = source.packets.wrapping_add(1);
            let octets = u32::try_from(packet.payload.len()).unwrap_or(u32::MAX);
            source.octets = source.octets.wrapping_add(octets);
            let rtp_timestamp = packet.header.timestamp;
            if source
                .sent
                .is_none_or(|sent| sent.rtp_timestamp != rtp_timestamp)
            {
                let at = message.now;
                source.sent = Some(Moment { rtp_timestamp, at });
            }
            self.next_report.get_or_insert(message.now + INTERVAL);
        }
        self.write_queue.push_back(message);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<Self::Wout> {
        self.write_queue.pop_front()
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Self::Error> {
        if self.next_report.is_none_or(|at| now < at) {
            return Ok(());
        }
        self.next_report = Some(now + INTERVAL);
        let sources = self.sources.iter();
        let reports: Vec<SenderReport> = sources
            .filter_map(|(ssrc, source)| self.report(*ssrc, source, now))
            .collect();
        for report in reports {
            self.write_queue.push_back(TaggedPacket {
                now,
                transport: TransportContext::default(),
                message: Packet::Rtcp(vec![Box::new(report)]).into(),
            });
        }
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.next_report
    }
}

impl Interceptor for SenderReports {
    fn bind_local_stream(&mut self, info: &StreamInfo) {
        let source = Source {
            clock_rate: info.clock_rate,
            packets: 0,
            octets: 0,
            sent: None,
        };
        self.sources.insert(info.ssrc, source);
    }

    fn unbind_local_stream(&mut self, info: &StreamInfo) {
        self.sources.remove(&info.ssrc);
    }

    fn bind_remote_stream(&mut self, _info: &StreamInfo) {}

    fn unbind_remote_stream(&mut self, _info: &StreamInfo) {}
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rtc::rtp::header::Header;

    use super::*;

    fn sent(reports: &mut SenderReports, ssrc: u32, now: Instant) {
        let packet = rtc::rtp::Packet {
            header: Header {
                version: 2,
                ssrc,
                ..Header::default()
            },
            payload: Bytes::from_static(b"abc"),
        };
        let message = TaggedPacket {
            now,
            transport: TransportContext::default(),
            message: Packet::Rtp(packet).into(),
        };
        reports.handle_write(message).unwrap();
        assert!(reports.poll_write().is_some(), "packets pass through");
    }

    fn reported(reports: &mut SenderReports) -> Option<(u32, u32, u32, u32)> {
        let message = reports.poll_write()?;
        let Packet::Rtcp(packets) = &message.message.packet else {
            panic!("it is RTCP");
        };
        let report = packets[0].as_any().downcast_ref::<SenderReport>().unwrap();
        Some((
            report.ssrc,
            report.rtp_time,
            report.packet_count,
            report.octet_count,
        ))
    }

    #[test]
    fn a_report_says_when_a_picture_was_taken_and_not_when_it_was_sent() {
        let clocks = SenderClocks::default();
        let mut reports = SenderReports::new(clocks.clone());
        for ssrc in [7, 8] {
            reports.bind_local_stream(&StreamInfo {
                ssrc,
                clock_rate: 90_000,
                ..StreamInfo::default()
            });
        }
        let begun = Instant::now();
        assert_eq!(reports.poll_timeout(), None);
        // A picture of ten seconds ago is sent now.
        let now = begun + Duration::from_secs(10);
        clocks.note(7, u32::MAX, begun);
        sent(&mut reports, 7, now);
        sent(&mut reports, 7, now);
        let due = now + INTERVAL;
        assert_eq!(reports.poll_timeout(), Some(due));
        reports.handle_timeout(now).unwrap();
        assert_eq!(reported(&mut reports), None);
        reports.handle_timeout(due).unwrap();
        assert_eq!(reported(&mut reports), Some((7, 11 * 90_000 - 1, 2, 6)));
        assert_eq!(
            reported(&mut reports),
            None,
            "nothing was sent with the other source"
        );
        assert_eq!(reports.poll_timeout(), Some(due + INTERVAL));
        // Its sender says nothing of the clock.
        sent(&mut reports, 8, due);
        reports.handle_timeout(due + INTERVAL).unwrap();
        let both = [reported(&mut reports), reported(&mut reports)];
        assert!(both.contains(&Some((8, 90_000, 1, 3))), "{both:?}");
    }

    #[test]
    fn the_time_of_a_report_is_that_of_ntp() {
        let time = UNIX_EPOCH + Duration::from_millis(1_795_359_600_500);
        assert_eq!(ntp(time), (1_795_359_600 + 2_208_988_800) << 32 | 1 << 31);
    }
}
