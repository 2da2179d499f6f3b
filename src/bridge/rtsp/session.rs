//! One time that a camera is asked for its pictures, with the sockets of the RTSP client: a configuration comes in, units go to
//! the source's handler, and in the end there is an error. The client's packets are put together by the depacketizer of the
//! receive path, since that keeps all parameter sets of a camera and puts them before each IDR picture.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use retina::client::{
    Credentials, Described, PacketItem, PlayOptions, Playing, Session, SessionGroup,
    SessionOptions, SetupOptions, TcpTransportOptions, Transport, UdpTransportOptions,
};
use tokio::time::{sleep_until, timeout};

use super::error::{RtspError, Step};
use super::gate::{StreamFormat, UnitGate, Verdict};
use super::offer::{self, Offered};
use super::sets::without_repeated_sets;
use crate::bridge::source::{
    SourceEvent, SourceFacts, SourceHandler, SourceState, SourceUnit, UnitLoss,
};
use crate::config::{RtspConfig, RtspTransport};
use twinsight_media::access_unit::{AccessUnit, PictureKind};
use twinsight_media::codec::Codec;
use twinsight_media::h264::depacketize::Depacketizer;
use twinsight_media::rtp::reorder::Ordered;
use twinsight_media::rtp::{RtpPacket, SequenceNumber};

/// A camera has this long to take a connection and to answer each request.
const STEP_LIMIT: Duration = Duration::from_secs(10);

/// After so long without a picture the camera is asked anew.
const SILENCE_LIMIT: Duration = Duration::from_secs(45);

/// So many packets in a row may be of something else, as those that some cameras send of a session that has ended.
const MAX_STRAY_PACKETS: u32 = 20;

/// The packet that ends a source (BYE, RFC 3550 section 6.6).
const RTCP_BYE: u8 = 203;

/// One time that a camera is asked.
pub(super) struct Reception<'a> {
    config: &'a RtspConfig,
    gate: &'a mut UnitGate,
    handler: &'a mut SourceHandler,
    facts: Option<SourceFacts>,
    /// Frames a second, as the camera's description has them.
    declared_fps: Option<f64>,
    received_since: Option<Instant>,
}

/// When there was something last.
#[derive(Debug, Clone, Copy)]
struct LastSeen {
    /// A unit that went on, or that was only held back to see what comes.
    shown: tokio::time::Instant,
    /// Units since then, all of them left out.
    left_out: u64,
    /// Packets in all.
    packets: u64,
}

impl LastSeen {
    fn picture(&mut self) {
        self.shown = tokio::time::Instant::now();
        self.left_out = 0;
    }
}

impl<'a> Reception<'a> {
    pub(super) fn new(
        config: &'a RtspConfig,
        gate: &'a mut UnitGate,
        handler: &'a mut SourceHandler,
    ) -> Self {
        gate.begin();
        Self {
            config,
            gate,
            handler,
            facts: None,
            declared_fps: None,
            received_since: None,
        }
    }

    /// How long there were pictures. `None` if there were none.
    pub(super) fn received_for(&self) -> Option<Duration> {
        self.received_since.map(|since| since.elapsed())
    }

    /// Receives until the camera does not go on. `sessions` tells when the camera was told that it is over.
    pub(super) async fn run(&mut self, sessions: Arc<SessionGroup>) -> RtspError {
        match self.receive(sessions).await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn receive(
        &mut self,
        sessions: Arc<SessionGroup>,
    ) -> Result<std::convert::Infallible, RtspError> {
        let config = self.config;
        let credentials = config.credentials.as_ref().map(|known| Credentials {
            username: known.user.clone(),
            password: known.password.expose().to_owned(),
        });
        let options = SessionOptions::default()
            .creds(credentials)
            .user_agent(concat!("twinsight/", env!("CARGO_PKG_VERSION")).to_owned())
            .session_group(sessions);
        let url = config.url.url().clone();
        let describe = Session::describe(url, options);
        let mut session = take_step(config, Step::Describe, describe).await?;
        let (chosen, depacketizer) = self.choose(&session)?;
        let transport = match config.transport {
            RtspTransport::Tcp => Transport::Tcp(TcpTransportOptions::default()),
            RtspTransport::Udp => Transport::Udp(UdpTransportOptions::default()),
        };
        let setup = SetupOptions::default().transport(transport);
        take_step(config, Step::Setup, session.setup(chosen, setup)).await?;
        let play = session.play(PlayOptions::default());
        let session = take_step(config, Step::Play, play).await?;
        self.packets(session, depacketizer).await
    }

    /// The stream to take, and what makes units of its packets.
    fn choose(&mut self, session: &Session<Described>) -> Result<(usize, Depacketizer), RtspError> {
        let streams: Vec<_> = session
            .streams()
            .iter()
            .map(|stream| Offered {
                media: stream.media(),
                encoding: stream.encoding_name(),
                payload_type: stream.rtp_payload_type(),
            })
            .collect();
        let chosen = offer::choose(&streams)?;
        let sdp = String::from_utf8_lossy(session.sdp());
        let sets = offer::declared_sets(&sdp, &streams, chosen);
        self.declared_fps = session.streams()[chosen]
            .framerate()
            .map(f64::from)
            .filter(|fps| fps.is_finite() && *fps > 0.0);
        Ok((chosen, Depacketizer::new(sets)))
    }

    async fn packets(
        &mut self,
        mut session: Session<Playing>,
        mut depacketizer: Depacketizer,
    ) -> Result<std::convert::Infallible, RtspError> {
        let mut seen = LastSeen {
            shown: tokio::time::Instant::now(),
            left_out: 0,
            packets: 0,
        };
        let mut strays = 0;
        loop {
            let next = tokio::select! {
                next = session.next() => next,
                () = sleep_until(seen.shown + SILENCE_LIMIT) => return Err(self.silent(seen)),
            };
            match next {
                None => return Err(RtspError::Ended),
                Some(Ok(PacketItem::Rtp(packet))) => {
                    strays = 0;
                    seen.packets += 1;
                    let lost = packet.loss();
                    let sequence = SequenceNumber(packet.sequence_number());
                    if lost > 0 {
                        let first = sequence.wrapping_add(0_u16.wrapping_sub(lost));
                        let lost = Ordered::Lost { first, count: lost };
                        self.units(&mut depacketizer, lost, &mut seen)?;
                    }
                    let packet = rtp_packet(packet);
                    self.units(&mut depacketizer, Ordered::Packet(packet), &mut seen)?;
                }
                Some(Ok(PacketItem::Rtcp(report))) => {
                    if report
                        .pkts()
                        .any(|packet| packet.payload_type() == RTCP_BYE)
                    {
                        return Err(RtspError::Ended);
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    strays += 1;
                    if strays > MAX_STRAY_PACKETS {
                        return Err(of_client(self.config, Step::Receive, &error));
                    }
                }
            }
        }
    }

    /// Hands a packet or a loss to the depacketizer, and the units that end with it to the handler.
    fn units(
        &mut self,
        depacketizer: &mut Depacketizer,
        ordered: Ordered,
        seen: &mut LastSeen,
    ) -> Result<(), RtspError> {
        let units = depacketizer.push(ordered);
        let malformed = depacketizer.take_malformed() > 0;
        for unit in units {
            match self.gate.judge(&unit, malformed)? {
                Verdict::Pass(format) => {
                    seen.picture();
                    self.pass(unit, format);
                }
                Verdict::Hold => {
                    seen.picture();
                    (self.handler)(SourceEvent::Dropped(UnitLoss::AwaitingKeyframe, 1));
                }
                Verdict::Drop(why) => {
                    seen.left_out += 1;
                    (self.handler)(SourceEvent::Dropped(why, 1));
                }
                Verdict::Ignore => {}
            }
        }
        Ok(())
    }

    fn pass(&mut self, unit: AccessUnit, format: StreamFormat) {
        self.received_since.get_or_insert_with(Instant::now);
        let facts = SourceFacts {
            size: Some(format.size),
            profile_level_id: Some(format.profile_level_id),
            fps: self.declared_fps,
        };
        if self.facts.as_ref() != Some(&facts) {
            let [profile, constraints, level] = format.profile_level_id;
            tracing::info!(
                width = format.size.width_px,
                height = format.size.height_px,
                profile_level_id = format!("{profile:02x}{constraints:02x}{level:02x}"),
                transport = self.config.transport.as_str(),
                "pictures come from the camera"
            );
            self.facts = Some(facts.clone());
            (self.handler)(SourceEvent::State(SourceState::Receiving(facts)));
        }
        let data = if unit.picture == PictureKind::Key {
            without_repeated_sets(unit.data)
        } else {
            unit.data
        };
        (self.handler)(SourceEvent::Unit(SourceUnit {
            data,
            is_keyframe: unit.picture == PictureKind::Key,
            timestamp_90k: unit.rtp_timestamp.0,
            received_at: unit.received_at,
            completed_at: unit.completed_at,
        }));
    }

    fn silent(&self, seen: LastSeen) -> RtspError {
        let limit = SILENCE_LIMIT;
        match (self.config.transport, seen.packets) {
            _ if seen.left_out > 0 => RtspError::NoKeyframe { limit },
            (RtspTransport::Udp, 0) => RtspError::NoDatagrams { limit },
            _ => RtspError::Silent { limit },
        }
    }
}

/// Does one step of asking, which may take as long as [`STEP_LIMIT`].
async fn take_step<T>(
    config: &RtspConfig,
    step: Step,
    request: impl Future<Output = Result<T, retina::Error>>,
) -> Result<T, RtspError> {
    match timeout(STEP_LIMIT, request).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(of_client(config, step, &error)),
        Err(_) => Err(RtspError::NoAnswer {
            step,
            limit: STEP_LIMIT,
        }),
    }
}

fn of_client(config: &RtspConfig, step: Step, error: &retina::Error) -> RtspError {
    let has_credentials = config.credentials.is_some();
    RtspError::of_client(
        step,
        error.status_code(),
        &error.to_string(),
        has_credentials,
    )
}

/// A packet of the client as one of the receive path.
fn rtp_packet(packet: retina::rtp::ReceivedPacket) -> RtpPacket {
    let header = packet.header();
    RtpPacket {
        sequence: header.sequence_number().into(),
        timestamp: header.timestamp().into(),
        marker: header.mark(),
        ssrc: header.ssrc().into(),
        codec: Codec::H264,
        arrived_at: packet.ctx().received(),
        payload: packet.into_payload_bytes(),
    }
}
