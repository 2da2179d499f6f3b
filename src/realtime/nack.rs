//! Asks again for lost packets (RFC 4585 section 6.2.1), also those of sources that the stack does not bind: RTP packets pass
//! through, NACKs go out. The stack binds the first source of a section alone, and a sender that restarts has another.

use std::collections::HashSet;
use std::time::Instant;

use rtc::interceptor::{
    Interceptor, NackGeneratorBuilder, NackGeneratorInterceptor, Packet, StreamInfo, TaggedPacket,
};
use rtc::sansio::Protocol;

use super::peer::NACK_INTERVAL;
use super::tee::{MAX_SOURCES, PayloadTypes};

/// The interceptor.
pub(super) struct SourceNacks {
    inner: NackGeneratorInterceptor,
    payload_types: PayloadTypes,
    /// What was negotiated for video, once the stack has bound a source of it.
    negotiated: Option<StreamInfo>,
    /// Sources that are looked after, [`MAX_SOURCES`] at most.
    bound: HashSet<u32>,
}

impl SourceNacks {
    pub(super) fn new(payload_types: PayloadTypes) -> Self {
        let inner = NackGeneratorBuilder::new()
            .with_size(2048)
            .with_interval(NACK_INTERVAL)
            .with_max_nacks_per_packet(5)
            .build();
        Self {
            inner,
            payload_types,
            negotiated: None,
            bound: HashSet::new(),
        }
    }

    fn look_after(&mut self, ssrc: u32, payload_type: u8) {
        let Some(negotiated) = &self.negotiated else {
            return;
        };
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
            ..negotiated.clone()
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
        self.inner.poll_write()
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Self::Error> {
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
            self.negotiated = Some(info.clone());
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
    use rtc::interceptor::RTCPFeedback;
    use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
    use rtc::rtp::header::Header;

    use super::super::sdp::Description;
    use super::*;

    #[test]
    fn a_source_that_the_stack_does_not_bind_is_asked_again_too() {
        let text = "v=0\r\na=ice-ufrag:x\r\nm=video 9 X 102\r\na=rtpmap:102 H264/90000\r\n";
        let payload_types = PayloadTypes::default();
        payload_types.set(&Description::parse(text).unwrap());
        let mut nacks = SourceNacks::new(payload_types);
        nacks.bind_remote_stream(&StreamInfo {
            ssrc: 1,
            payload_type: 102,
            mime_type: "video/H264".to_owned(),
            clock_rate: 90_000,
            rtcp_feedback: vec![RTCPFeedback {
                typ: "nack".to_owned(),
                parameter: String::new(),
            }],
            ..StreamInfo::default()
        });
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
                transport: Default::default(),
                message: Packet::Rtp(packet).into(),
            };
            nacks.handle_read(message).unwrap();
        }
        nacks.handle_timeout(now + 2 * NACK_INTERVAL).unwrap();
        let sent = nacks.poll_write().expect("the lost packet is asked for");
        let Packet::Rtcp(packets) = &sent.message.packet else {
            panic!("it is RTCP");
        };
        let nack = packets[0].as_any().downcast_ref::<TransportLayerNack>();
        assert_eq!(
            nack.map(|nack| (nack.media_ssrc, nack.nacks[0].packet_id)),
            Some((2, 12))
        );
    }
}
