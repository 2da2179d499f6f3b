//! Cameras that answer, and cameras that give no video.

use super::*;
use twinsight_client::hub::{HubClient, HubOptions, TwinMessage};
use twinsight_client::realtime::ice::IceSettings;
use twinsight_client::realtime::peer::Peer;
use twinsight_client::realtime::rtp_track::TrackKind;

/// A camera twin that answers every offer with what `answer` makes of it.
async fn answering<F>(url: &str, twin: &str, answer: impl Fn(String) -> F + Send + 'static)
where
    F: Future<Output = String> + Send,
{
    let hub = HubClient::start(HubOptions::simulator(url, twin));
    hub.joined().await.unwrap();
    let offer_to = format!("media-default-{twin}:offer");
    let mut offers = hub.messages(8, move |message: &TwinMessage| {
        message.message_type() == Some(&offer_to)
    });
    tokio::spawn(async move {
        while let Some(offer) = offers.recv().await {
            let sdp = answer(offer.data["data"]["sdp"].as_str().unwrap().to_owned()).await;
            let data = json!({
                "type": format!("media-default-{}:answer", fake::NODE),
                "data": {"sdp": sdp, "type": "answer"},
                "peerId": offer.data["peerId"],
            });
            hub.send(fake::NODE, data).await.unwrap();
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cameras_that_give_no_video() {
    let url = start_hub(DevHubOptions {
        twins: vec![json!({"id": "mute", "deviceId": "d", "tenantId": "dev-tenant", "type": "Edge", "status": "Offline"})],
        ..DevHubOptions::default()
    })
    .await;
    let sdp = |media: &'static str| {
        move |_| async move {
            format!("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=ice-ufrag:abcd\r\n{media}")
        }
    };
    answering(
        &url,
        "vp8",
        sdp("m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=rtpmap:96 VP8/90000\r\n"),
    )
    .await;
    answering(
        &url,
        "closed",
        sdp("m=video 0 UDP/TLS/RTP/SAVPF 102\r\na=rtpmap:102 H264/90000\r\n"),
    )
    .await;
    answering(
        &url,
        "broken",
        sdp("m=video 9 UDP/TLS/RTP/SAVPF 102\r\na=rtpmap:102 H264/90000\r\na=mid:7\r\n"),
    )
    .await;
    answering(&url, "gone", |offer| async move {
        let ice = IceSettings {
            interfaces: vec!["lo".to_owned()],
            ..IceSettings::default()
        };
        let (peer, _events) = Peer::for_h264(&ice, &[], Arc::new(|_| {})).await.unwrap();
        let answer = peer.answer(&offer.parse().unwrap()).await.unwrap();
        peer.close().await;
        answer.as_str().to_owned()
    })
    .await;
    answering(&url, "still", |offer| async move {
        let ice = IceSettings {
            interfaces: vec!["lo".to_owned()],
            ..IceSettings::default()
        };
        let (peer, _events) = Peer::for_h264(&ice, &[], Arc::new(|_| {})).await.unwrap();
        let _sender = peer.send(TrackKind::Video, "video").await.unwrap();
        let answer = peer.answer(&offer.parse().unwrap()).await.unwrap();
        // It stays open for the rest of the test.
        std::mem::forget(peer);
        answer.as_str().to_owned()
    })
    .await;
    let config = ["mute", "vp8", "closed", "broken", "gone", "still"]
        .map(|id| camera(id, "codecs = [\"h264\"]\n"))
        .concat();
    let started = Instant::now();
    let check = Check::run(&url, &config, &[]);
    println!("took {:?}", started.elapsed());
    check.fails(6);
    check.says(
        "fail",
        "camera mute/default",
        "no answer to the offer within 10 s (the hub says that it is Offline); start the camera's app; see that it \
         streams as twin mute, stream \"default\", in the `dialect` that is configured (now \"current\"), has a \
         place for one more viewer, and takes H.264; a camera that dials by itself needs `connect = \"accept\"`",
    );
    check.says(
        "fail",
        "camera vp8/default",
        "it has no H.264: its answer names VP8; let the camera send H.264 (baseline, \
         packetization-mode=1): its `codecs` and this build allow nothing else",
    );
    check.says(
        "fail",
        "camera closed/default",
        "it refuses H.264 video: its answer closes the video section (port 0); let the camera send H.264 \
         (baseline, packetization-mode=1): its `codecs` and this build allow nothing else",
    );
    check.begins(
        "fail",
        "camera broken/default",
        "the other side's description cannot be used: ",
    );
    check.says(
        "fail",
        "camera gone/default",
        "it answered, and no network path was found within 15 s; see that UDP passes between this machine and \
         the camera (in a container: the network, `ice.udp_ports` and `ice.nat_1to1_ips`), or set up TURN over UDP",
    );
    check.says(
        "fail",
        "camera still/default",
        "connected, but no video came within 10 s; see that the camera's source gives pictures, and what its app logs",
    );
}

/// It has no track before it is connected, and is offered again then, as by the node.
#[cfg(feature = "vp8")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_on_the_npm_client() {
    let url = start_hub(DevHubOptions::default()).await;
    let clip = crate::common::root().join("media/pedestrians.h264");
    let args = ["--send", clip.to_str().unwrap()];
    let mut camera_program = crate::common::Program::npm("media.mjs", &args, &url, "npm");
    camera_program.until("armed").await;
    let config = camera("npm", "dialect = \"legacy\"\n");
    let check = Check::run(&url, &config, &[]);
    check.fails(0);
    assert!(
        check
            .line("camera npm/default")
            .ends_with(" ms, VP8 video comes"),
        "{}",
        check.line("camera npm/default")
    );
}
