//! Asks again for lost packets (RFC 4585 section 6.2.1), also those of sources that the stack does not bind: RTP packets pass
//! through, NACKs go out. The stack binds the first source of a section alone, and a sender that restarts has another.
//! Keyframes of such a source are asked for here too (PLI).

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

/// The source whose keyframe is to be asked for; the last of several.
#[derive(Debug, Clone, Default)]
pub(super) struct KeyframeAsks(Arc<Mutex<Option<u32>>>);

impl KeyframeAsks {
    /// It goes out with the next packet that comes in or is asked for again, a matter of milliseconds.
    pub(super) fn ask(&self, source: u32) {
        *self.0.lock() = Some(source);
    }

    fn take(&self) -> Option<u32> {
        let mut source = self.0.lock();
        source.take()
    }
}

/// The interceptor.
pub(super) struct SourceNacks {
    inner: NackGeneratorInterceptor,
    payload_types: PayloadTypes,
    /// What was negotiated for video, as the stack says once it binds a source of it. With several sections it never
    /// binds one that the other side does not name, so until then it is what is offered; who cannot send again takes
    /// no notice of being asked.
    negotiated: StreamInfo,
    /// Sources that are looked after, [`MAX_SOURCES`] at most.
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

    fn look_after(&mut self, ssrc: u32, payload_type: u8) {
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
            self.look_after(ssrc, payload_type);
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
