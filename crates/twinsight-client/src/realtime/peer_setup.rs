//! How a peer connection of the stack is configured: settings come in, the stack's own configuration goes out.

use std::time::Duration;

use rtc::ice::mdns::MulticastDnsMode;
use rtc::interceptor::{ReceiverReportBuilder, Slot};
use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::peer_connection::configuration::setting_engine::{SctpMaxMessageSize, SettingEngine};
use webrtc::peer_connection::{
    RTCIceServer, Registry, SettingEngineBuilder, register_default_interceptors,
};

use super::ice::IceSettings;
use super::nack::SourceNacks;
use super::rtp_tap::{RtpTap, TAP_SLOT};
use super::sender_reports::SenderReports;
use crate::hub::message::IceServer;

/// SRTP's replay window. It is so large because the retransmitted first packets of a burst must still fall into it.
const REPLAY_WINDOW_PACKETS: usize = 2048;

/// The largest message that we accept; the libraries of the official clients have the same limit.
const MAX_MESSAGE_BYTES: u32 = 262_144;

/// Without an answer to ICE's checks for this long, a connection for messages counts as disconnected. The limit is shorter
/// than the stack's own because missing messages, unlike missing frames, do not show that the other side is gone.
const DISCONNECTED_AFTER: Duration = Duration::from_secs(2);

/// A connection for messages that has been disconnected for this long has failed.
const FAILED_AFTER: Duration = Duration::from_secs(18);

/// ICE checks a connection for messages this often.
const KEEP_ALIVE: Duration = Duration::from_millis(400);

pub(super) fn ice_server(server: &IceServer) -> RTCIceServer {
    RTCIceServer {
        urls: server.urls.clone(),
        username: server.username.clone().unwrap_or_default(),
        credential: server.credential.clone().unwrap_or_default(),
    }
}

/// The chain of interceptors that media passes through.
pub(super) fn interceptors(
    media: &mut MediaEngine,
    nacks: SourceNacks,
    reports: SenderReports,
    tap: RtpTap,
) -> Result<Registry, rtc::shared::error::Error> {
    let registry = register_default_interceptors(Registry::new(), media)?
        .with(Slot::NackGenerator, nacks)
        .with(Slot::SenderReport, reports)
        // The official fan-outs drop a viewer that sends no reports, so they go out every second, the first at once.
        .with(
            Slot::ReceiverReport,
            ReceiverReportBuilder::new()
                .with_interval(Duration::from_secs(1))
                .build(),
        );
    debug_assert!(
        registry
            .slots()
            .iter()
            .all(|(slot, _)| slot.slot() != TAP_SLOT),
        "a slot holds one interceptor"
    );
    Ok(registry.with(Slot::from(TAP_SLOT), tap))
}

pub(super) fn engine(settings: &IceSettings, for_media: bool) -> SettingEngine {
    let engine = SettingEngineBuilder::new()
        .with_multicast_dns_mode(if settings.mdns {
            MulticastDnsMode::QueryOnly
        } else {
            MulticastDnsMode::Disabled
        })
        .with_srtp_replay_protection_window(REPLAY_WINDOW_PACKETS)
        .with_sctp_max_message_size(SctpMaxMessageSize::Bounded(MAX_MESSAGE_BYTES))
        .with_include_loopback_candidate(true);
    if for_media {
        return engine.build();
    }
    engine
        .with_ice_timeouts(
            Some(DISCONNECTED_AFTER),
            Some(FAILED_AFTER),
            Some(KEEP_ALIVE),
        )
        .build()
}
