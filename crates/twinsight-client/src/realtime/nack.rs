//! An interceptor that asks for lost packets again (RFC 4585 section 6.2.1). RTP packets pass through it, and NACKs go out.
//! The stack binds only the first source of a section, but a sender that restarts sends with another one; this interceptor
//! binds every source of video, and also asks such a source for keyframes (PLI). The WebRTC stack's task runs it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use rtc::interceptor::{
    Interceptor, NackGeneratorBuilder, NackGeneratorInterceptor, Packet, RTCPFeedback, StreamInfo,
    TaggedPacket,
};
use rtc::peer_connection::configuration::media_engine::MIME_TYPE_H264;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::sansio::Protocol;
use rtc::shared::TransportContext;

use super::rtp_tap::{MAX_SOURCES, PayloadTypes};
use twinsight_media::decode::path::NACK_INTERVAL;
use twinsight_media::rtp::VIDEO_CLOCK_HZ;

/// The source that is to be asked for a keyframe: the one that was named last.
#[derive(Debug, Clone, Default)]
pub(super) struct KeyframeAsks(Arc<Mutex<Option<u32>>>);

impl KeyframeAsks {
    /// Has a source asked for a keyframe. The request goes out with the next packet that comes in or is asked for again, which
    /// takes milliseconds.
    pub(super) fn ask(&self, source: u32) {
        *self.0.lock() = Some(source);
    }

    fn take(&self) -> Option<u32> {
        let mut source = self.0.lock();
        source.take()
    }
}

/// The stack's generator of NACKs, with every source of video bound to it.
pub(super) struct SourceNacks {
    inner: NackGeneratorInterceptor,
    payload_types: PayloadTypes,
    /// The parameters with which sources are bound. The stack names what was negotiated for video when it binds a source of it.
    /// Where the description has several sections and names no source, the stack binds none; then these are the parameters
    /// that we offer. A sender that cannot send packets again ignores the NACKs.
    negotiated: StreamInfo,
    /// The sources that are bound, [`MAX_SOURCES`] at most.
    bound: HashSet<u32>,
    keyframe_asks: KeyframeAsks,
    now: Instant,
}

impl SourceNacks {
    pub(super) fn new(payload_types: PayloadTypes, keyframe_asks: KeyframeAsks) -> Self {
        let inner = NackGeneratorBuilder::new()
            .with_size(2048)
            .with_interval(NACK_INTERVAL)
            .with_max_nacks_per_packet(5)
            .build();
        Self {
            inner,
            payload_types,
            negotiated: StreamInfo {
                mime_type: MIME_TYPE_H264.to_owned(),
                clock_rate: VIDEO_CLOCK_HZ,
                rtcp_feedback: vec![RTCPFeedback {
                    typ: "nack".to_owned(),
                    parameter: String::new(),
                }],
                ..StreamInfo::default()
            },
            bound: HashSet::new(),
            keyframe_asks,
            now: Instant::now(),
        }
    }

    /// Binds the source of a packet of video, unless it is bound already.
    fn bind_source(&mut self, ssrc: u32, payload_type: u8) {
        if self.bound.contains(&ssrc)
            || self.bound.len() >= MAX_SOURCES
            || !self.payload_types.is_video(payload_type)
        {
            return;
        }
        self.bound.insert(ssrc);
        self.inner.bind_remote_stream(&StreamInfo {
            ssrc,
            payload_type,
            ..self.negotiated.clone()
        });
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for SourceNacks {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = rtc::shared::error::Error;
    type Time = Instant;

    fn handle_read(&mut self, message: TaggedPacket) -> Result<(), Self::Error> {
        self.now = message.now;
        if let Packet::Rtp(packet) = &message.message.packet {
            let header = &packet.header;
            let (ssrc, payload_type) = (header.ssrc, header.payload_type);
            self.bind_source(ssrc, payload_type);
        }
        self.inner.handle_read(message)
    }

    fn poll_read(&mut self) -> Option<Self::Rout> {
        self.inner.poll_read()
    }

    fn handle_write(&mut self, message: TaggedPacket) -> Result<(), Self::Error> {
        self.inner.handle_write(message)
    }

    fn poll_write(&mut self) -> Option<Self::Wout> {
        self.inner.poll_write().or_else(|| {
            let pli = PictureLossIndication {
                sender_ssrc: 0,
                media_ssrc: self.keyframe_asks.take()?,
            };
            Some(TaggedPacket {
                now: self.now,
                transport: TransportContext::default(),
                message: Packet::Rtcp(vec![Box::new(pli)]).into(),
            })
        })
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Self::Error> {
        self.now = now;
        self.inner.handle_timeout(now)
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.inner.poll_timeout()
    }
}

impl Interceptor for SourceNacks {
    fn bind_local_stream(&mut self, info: &StreamInfo) {
        self.inner.bind_local_stream(info);
    }

    fn unbind_local_stream(&mut self, info: &StreamInfo) {
        self.inner.unbind_local_stream(info);
    }

    fn bind_remote_stream(&mut self, info: &StreamInfo) {
        if info.mime_type.to_ascii_lowercase().starts_with("video/") {
            self.negotiated = info.clone();
            self.bound.insert(info.ssrc);
        }
        self.inner.bind_remote_stream(info);
    }

    fn unbind_remote_stream(&mut self, info: &StreamInfo) {
        self.bound.remove(&info.ssrc);
        self.inner.unbind_remote_stream(info);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
    use rtc::rtp::header::Header;

    use super::super::sdp::Description;
    use super::*;

    fn nacks() -> SourceNacks {
        let text = "v=0\r\na=ice-ufrag:x\r\nm=video 9 X 102\r\na=rtpmap:102 H264/90000\r\n";
        let payload_types = PayloadTypes::default();
        payload_types.set(&Description::parse(text).unwrap());
        SourceNacks::new(payload_types, KeyframeAsks::default())
    }

    /// The source and the number that are asked for after a packet of source 2 was lost.
    fn asked_for(mut nacks: SourceNacks) -> Option<(u32, u16)> {
        let now = Instant::now();
        for sequence_number in [10, 11, 13] {
            let packet = rtc::rtp::Packet {
                header: Header {
                    version: 2,
                    payload_type: 102,
                    ssrc: 2,
                    sequence_number,
                    ..Header::default()
                },
                payload: Bytes::from_static(b"x"),
            };
            let message = TaggedPacket {
                now,
                transport: TransportContext::default(),
                message: Packet::Rtp(packet).into(),
            };
            nacks.handle_read(message).unwrap();
        }
        nacks.handle_timeout(now + 2 * NACK_INTERVAL).unwrap();
        let sent = nacks.poll_write()?;
        let Packet::Rtcp(packets) = &sent.message.packet else {
            panic!("it is RTCP");
        };
        let nack = packets[0].as_any().downcast_ref::<TransportLayerNack>();
        nack.map(|nack| (nack.media_ssrc, nack.nacks[0].packet_id))
    }

    #[test]
    fn a_source_beside_the_one_that_the_stack_binds_is_asked_again_too() {
        let mut nacks = nacks();
        nacks.bind_remote_stream(&StreamInfo {
            ssrc: 1,
            payload_type: 102,
            ..nacks.negotiated.clone()
        });
        assert_eq!(asked_for(nacks), Some((2, 12)));
    }

    #[test]
    fn a_source_is_asked_again_where_the_stack_binds_none() {
        assert_eq!(asked_for(nacks()), Some((2, 12)));
    }

    #[test]
    fn who_has_not_agreed_to_it_is_not_asked_again() {
        let mut nacks = nacks();
        nacks.bind_remote_stream(&StreamInfo {
            ssrc: 1,
            payload_type: 102,
            rtcp_feedback: Vec::new(),
            ..nacks.negotiated.clone()
        });
        assert_eq!(asked_for(nacks), None);
    }
}
