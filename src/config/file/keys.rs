//! The sections of the file and their keys. What is written here is the reference page, too.

use serde::Deserialize;
use serde_json::Value;
use toml::Spanned;

use super::section::{Key, plain, section};
use super::setting::{Setting, Texts};
use super::{Given, Origin};

/// All keys, in the order of the file.
pub fn keys() -> impl Iterator<Item = &'static Key> {
    [
        HubSection::KEYS,
        IceSection::KEYS,
        HttpSection::KEYS,
        NodeSection::KEYS,
        ShardSection::KEYS,
        LeaseSection::KEYS,
        RuntimeSection::KEYS,
        ModelSection::KEYS,
        TelemetrySection::KEYS,
        SinkSection::KEYS,
        DefaultsSection::KEYS,
        TrackSection::KEYS,
        CameraSection::KEYS,
        ZoneSection::KEYS,
        LineSection::KEYS,
        MaskSection::KEYS,
    ]
    .into_iter()
    .flatten()
}

/// The settings that a camera may have of its own, twice: as defaults and as a camera's.
macro_rules! stream_sections {
    ($($(#[doc = $doc:literal])+ $field:ident: $type:ty,)+) => {
        section! {
            /// Settings of every camera that has none of its own.
            pub struct DefaultsSection = "defaults" {
                $($(#[doc = $doc])+ $field: $type,)+
                ;
                /// How what is seen is followed.
                track: TrackSection,
            }
        }
        section! {
            /// One stream of one camera.
            pub struct CameraSection = "cameras" {
                /// The twin id of the camera, not its device id. With `connect = "accept"` it is the
                /// twin that signs the camera's offers: for a peripheral that of its owner.
                twin_id: String,
                /// The camera's name for people; the twin id where it is not given.
                name: String,
                /// The address of an IP camera, `rtsp://…`, for a camera that is no twin by itself: this program
                /// [makes it one](../guide/cameras.md). It may have user and password in it, and need not.
                rtsp: String,
                /// A video device of this machine in place of an IP camera, such as `/dev/video0`.
                device: String,
                $($(#[doc = $doc])+ $field: $type,)+
                ;
                /// How what is seen is followed.
                track: TrackSection,
                /// Regions that tell what is in them.
                zones: Vec<Spanned<ZoneSection>>,
                /// Lines that count what crosses them.
                lines: Vec<Spanned<LineSection>>,
                /// Regions in which nothing is detected.
                masks: Vec<Spanned<MaskSection>>,
            }
        }
        impl CameraSection {
            /// The settings that take the place of the defaults.
            pub fn settings(&self) -> DefaultsSection {
                DefaultsSection { $($field: self.$field.clone(),)+ track: self.track.clone() }
            }
        }
    };
}

section! {
    /// The hub and how the node presents itself to it.
    pub struct HubSection = "hub" {
        /// How to talk to the hub: `direct` (with device id and access key), `simulator` (a development
        /// hub) or `phyos` (the device's own service, the default). `PHYHUB_DIRECT=true` and
        /// `PHYSTACK_SIMULATOR_URL` choose as in the official clients. With `none` there is [no hub at all](../guide/no-hub.md):
        /// every camera has `rtsp` or `device`, nothing else of this section counts, and beside `none` in the file neither of the
        /// two variables may be set.
        mode: String,
        /// The hub's address: `https://…`, `http://…`, `wss://…` or `ws://…`. `PHYHUB_URL` in direct mode,
        /// `PHYSTACK_SIMULATOR_URL` in simulator mode; `http://phyos:55000` unless given in phyos mode.
        url: String,
        /// In direct mode, in place of `url`: `eu`, `us`, `uae`, `au`, `in`, `qa`, `dev` or `local`.
        /// `PHYHUB_REGION`.
        region: String,
        /// The node's own twin. `TWIN_ID` or `INSTANCE_ID`. Not needed in direct mode: the hub tells it.
        twin_id: String,
        /// The device that the node runs on. `DEVICE_ID` or `PHYGRID_DEVICE_ID`. Needed in direct mode.
        device_id: String,
        /// A file with the device's access key, needed in direct mode; or `ACCESS_KEY`,
        /// `PHYGRID_DEVICE_KEY` or `TWINSIGHT_HUB__ACCESS_KEY` in the environment.
        access_key_file: String,
        /// A file of PEM certificates to trust beside the built-in roots.
        ca_file: String,
    }
}

section! {
    /// How peer connections find their way.
    pub struct IceSection = "ice" {
        /// `all` candidates or those of a TURN server alone, `relay`. Unless given, `relay` where
        /// `PHYSTACK_TURN_URL` is set, else `all`.
        policy: String,
        /// Names of the network interfaces to use; none: all but loopback.
        interfaces: Vec<String>,
        /// First and last UDP port, as in `"50000-50100"`; each camera stream needs one. Unless given,
        /// the system chooses.
        udp_ports: String,
        /// Public addresses of a one-to-one NAT before the node.
        nat_1to1_ips: Vec<String>,
        /// Resolve the `.local` candidates that browsers send; off unless given.
        mdns: bool,
        /// Receive buffer to ask of the system for each UDP socket: a keyframe comes as one burst.
        /// 65536 to 67108864, 1048576 unless given; the system may grant less (`net.core.rmem_max`).
        recv_buffer_bytes: i64,
    }
}

section! {
    /// The node's own HTTP server: metrics, probes and the API.
    pub struct HttpSection = "http" {
        /// Address and port, `127.0.0.1:9464` unless given. Port 0 is the system's choice.
        listen: String,
        /// A file with the bearer token of the API; or `TWINSIGHT_HTTP__TOKEN` in the environment. Without
        /// one the API answers on loopback only; metrics and probes are always open.
        token_file: String,
        /// Let zones, lines and masks be [changed over HTTP](../guide/zones.md), which writes them into this file; off unless given, and
        /// nobody may without a token.
        edit: bool,
    }
}

section! {
    /// The node among others, which share the cameras of [one configuration](../guide/fleet.md). With neither `pool` nor
    /// `[node.shard]` all cameras are this node's.
    pub struct NodeSection = "node" {
        /// What the node is called in its pool: 1 to 63 letters, digits and hyphens. Unless given, its twin id, and where the hub tells
        /// that, the name of the machine, with hyphens for other characters.
        name: String,
        /// How many cameras it can carry, 1 to 10000, as [`twinsight capacity`](../guide/fleet.md) measures it; 10 unless given. It is
        /// the node's weight: one with twice the capacity gets twice as many cameras.
        capacity: i64,
        /// The pool whose nodes share the cameras, each of which has one living node: 1 to 40 letters, digits and hyphens. It needs
        /// `[node.lease]`.
        pool: String,
        ;
        /// A fixed part of the cameras.
        shard: ShardSection,
        /// Where the leases of the pool are kept.
        lease: LeaseSection,
    }
}

section! {
    /// A fixed part of the cameras, in place of a pool: nobody takes the cameras of a node that is gone.
    pub struct ShardSection = "node.shard" {
        /// Which part is this node's, from 0 on.
        index: i64,
        /// How many parts there are, 1 to 10000.
        count: i64,
    }
}

section! {
    /// Where the nodes of a pool keep their leases.
    pub struct LeaseSection = "node.lease" {
        /// `kubernetes` for Lease objects of the cluster that the node runs in, or `etcd`.
        engine: String,
        /// Addresses of etcd, `http://…` or `https://…`, one or a list.
        url: Texts,
        /// A node that has not renewed its lease for this long is taken for dead: 3000 to 60000, 6000 unless given. All nodes of a
        /// pool have the same.
        duration_ms: i64,
        /// For Kubernetes: the namespace of the leases, that of the node's pod unless given.
        namespace: String,
        /// For etcd: a file of PEM certificates to trust beside the built-in roots.
        ca_file: String,
        /// For etcd: a file with the node's certificate in PEM form, for an etcd that asks its clients for one. A renewed one is read
        /// at the next connection. It needs `client_key_file`.
        client_cert_file: String,
        /// For etcd: a file with the private key of that certificate in PEM form, not encrypted.
        client_key_file: String,
        /// For etcd: who the node is. With a certificate of its own it may be left out: etcd takes the common name for the user.
        username: String,
        /// For etcd: a file with the password of that user, which is read again when etcd does not take it.
        password_file: String,
    }
}

section! {
    /// ONNX Runtime and models.
    pub struct RuntimeSection = "runtime" {
        /// The library of ONNX Runtime. Unless given, `ORT_DYLIB_PATH`, else where `scripts/setup` puts it.
        library: String,
        /// [Execution providers](../guide/execution-providers.md), the preferred first: `cpu`, and by Cargo features `cuda`,
        /// `tensorrt`, `openvino`, `xnnpack` and `coreml`; `["cpu"]` unless given. One that is asked for and cannot run is an error.
        execution_providers: Vec<String>,
        /// Threads of inference, 0 to 1024; 0, the default, takes all cores. They are sessions of one thread, as many as there are
        /// camera streams; with at most half as many streams as threads, sessions of several.
        threads: i64,
        /// The folder with the models and their manifests, `models` unless given.
        models_dir: String,
    }
}

section! {
    /// A model that runs [on a server](../guide/inference-server.md): `[models.NAME]`, where cameras ask for NAME. Models without a
    /// section run on this machine.
    pub struct ModelSection = "models" {
        /// `kserve`: a server of the Open Inference Protocol, such as Triton, OpenVINO Model Server, KServe or MLServer.
        backend: String,
        /// The server's address, or a list of several of one kind: `grpc://…`, `grpcs://…` (encrypted), `http://…` or `https://…`.
        url: Texts,
        /// What the servers call the model, NAME unless given.
        model: String,
        /// Its version there; the servers' choice unless given.
        version: String,
        /// The manifest in the models folder that says what the model takes and gives, NAME unless given. Its `file` need not be here.
        manifest: String,
        /// A request that is not answered by then is given up, and its frame with it: 20 to 15000, 500 unless given.
        deadline_ms: i64,
        /// The most requests under way at once, 1 to 256, 16 unless given. How many there are is found by measuring.
        max_in_flight: i64,
        /// A model of this machine, with the same labels, that takes its place while no server can be used.
        fallback: String,
        /// A file of PEM certificates to trust beside the built-in roots.
        ca_file: String,
        /// A file with the token that the servers ask for.
        token_file: String,
    }
}

section! {
    /// [Traces](../guide/tracing.md) for a collector of OpenTelemetry, in builds with the Cargo feature `otlp`.
    pub struct TelemetrySection = "telemetry" {
        /// Where the collector listens for OTLP over HTTP: `http://…` or `https://…`, to which `/v1/traces` is added. Without it
        /// nothing is traced.
        otlp_endpoint: String,
        /// The part of the frames with an event that have a trace, 0 to 1; 0.01 unless given, which is one in a hundred.
        trace_sample_ratio: f64,
        /// A file with HTTP headers that the collector asks for, such as `Authorization: Bearer …`, each in a line of its own.
        otlp_headers_file: String,
        /// A file of PEM certificates to trust beside the built-in roots.
        otlp_ca_file: String,
    }
}

section! {
    /// Where events go [besides the hub](../guide/sinks.md). A hub that is away holds up no sink, nor a sink the hub.
    pub struct SinkSection = "sinks" {
        /// `mqtt` for a broker, `webhook` for a server that events are posted to.
        r#type: String,
        /// The sink's name in metrics and in the log; the type unless given.
        name: String,
        /// `mqtt://HOST[:PORT]` or `mqtts://HOST[:PORT]` for a broker, `http://…` or `https://…` for a webhook.
        url: String,
        /// The events that it gets: `detections`, `cameraStatus`, `track`, `lineCrossed`. All unless given for a broker, all but
        /// `detections` for a webhook.
        events: Vec<String>,
        /// A file of PEM certificates to trust beside the built-in roots.
        ca_file: String,
        /// Who the node is to the broker.
        username: String,
        /// A file with the password of that user.
        password_file: String,
        /// What all topics begin with, `twinsight` unless given.
        topic: String,
        /// What the node is called in topics: its twin id unless given, and without a hub the name of the machine, which changes with
        /// each new container.
        node: String,
        /// The quality of service of what tells a change, 0 to 2, 1 unless given. Detections go with 0: the next one is fresher.
        qos: i64,
        /// Tell Home Assistant by its discovery which entities there are; on unless given.
        home_assistant: bool,
        /// What the topics of Home Assistant's discovery begin with, `homeassistant` unless given.
        discovery_prefix: String,
        /// A file with the secret that signs what a webhook gets (HMAC-SHA256).
        secret_file: String,
        /// An event that a webhook did not take at this age is dropped; 100 to 600000, 10000 unless given.
        max_age_ms: i64,
    }
}

section! {
    /// How what a camera sees [is followed](../guide/tracks.md). `[defaults.track]` is for every camera, and `[cameras.track]` below a
    /// `[[cameras]]` for that one. All times are of the camera's media, so that they mean the same at each frame rate.
    pub struct TrackSection = "defaults.track" {
        /// Follow what is seen; on unless given. Without it there are no tracks, and zones and lines tell nothing.
        enabled: bool,
        /// A track is confirmed when it was seen twice and is this old; 0 to 60000, 300 unless given.
        confirm_ms: i64,
        /// A track that is not seen for this long ends; 100 to 600000, 2000 unless given.
        lost_ms: i64,
        /// What has not left its place for this long is stationary; 1000 to 86400000, 10000 unless given.
        stationary_ms: i64,
        /// A track has at most one `update` in this time, unless its zones, its label or whether it is stationary change;
        /// 100 to 3600000, 1000 unless given.
        update_ms: i64,
    }
}

section! {
    /// [Zones](../guide/zones.md) of a camera, each below its `[[cameras]]`: regions that tell what is in them.
    pub struct ZoneSection = "cameras.zones" {
        /// Its name in events and metrics, 1 to 64 characters.
        name: String,
        /// 3 to 32 corners in parts of the picture, such as `[[0.1, 0.5], [0.9, 0.5], [0.9, 1.0]]`: 0, 0 is the top left one and
        /// 1, 1 the bottom right one.
        points: Vec<Vec<f64>>,
        /// The labels that count; none, the default: all.
        labels: Vec<String>,
        /// Who is in the region for this long is in the zone; 0 to 3600000, 0 unless given.
        min_dwell_ms: i64,
    }
}

section! {
    /// [Lines](../guide/zones.md) of a camera, each below its `[[cameras]]`, that count what crosses them.
    pub struct LineSection = "cameras.lines" {
        /// Its name in events and metrics, 1 to 64 characters.
        name: String,
        /// Where its arrow begins, in parts of the picture. What crosses from the left of the arrow to its right goes `in`.
        from: Vec<f64>,
        /// Where its arrow ends.
        to: Vec<f64>,
        /// The labels that count; none, the default: all.
        labels: Vec<String>,
    }
}

section! {
    /// [Masks](../guide/zones.md) of a camera, each below its `[[cameras]]`: regions in which detections are dropped.
    pub struct MaskSection = "cameras.masks" {
        /// 3 to 32 corners in parts of the picture, as those of a zone.
        points: Vec<Vec<f64>>,
        /// The labels that are dropped; none, the default: all.
        labels: Vec<String>,
    }
}

stream_sections! {
    /// Name of the model in the models folder, `nanodet_g_coco_int8` unless given.
    model: String,
    /// Who makes the offer: the node with `dial`, the default, or the camera with `accept`.
    connect: String,
    /// The name of the media stream, `default` unless given.
    stream: String,
    /// Codecs to offer, the preferred first: `h264` and, in builds with the feature `vp8`, `vp8`. All that the build
    /// decodes unless given, `h264` first.
    codecs: Vec<String>,
    /// Detections a second at most, 0 to 1000; 0 takes every frame. 10 unless given.
    max_fps: f64,
    /// A frame older than this at the start of inference is not inferred; 1 to 60000, 500 unless given.
    max_age_ms: i64,
    /// Objects with a lower score are left out; 0 to 1, 0.4 unless given.
    min_score: f64,
    /// Labels to report; none, the default: all.
    classes: Vec<String>,
    /// Publish an event also when nothing was seen; on unless given.
    emit_empty: bool,
    /// Which events `detections` are published: `all`, the default, one for each frame that was inferred, or `none`, where tracks
    /// tell enough.
    detections: String,
    /// With `gate`, a picture that does not differ from the last one that was inferred [is not inferred](../guide/motion.md); `off`
    /// unless given.
    motion: String,
    /// With `motion = "gate"`, one picture is inferred in this time even if nothing changes; 100 to 3600000, 5000 unless given.
    motion_max_skip_ms: i64,
    /// Names of the signals: `current`, the default, or `legacy` for cameras on the npm client 4.x.
    dialect: String,
    /// With `connect = "accept"`: take offers that are signed with the node's own twin, which do not say
    /// who sends them. Off unless given.
    allow_unsigned: bool,
    /// Who asks an IP camera, if it does not let everybody look and `rtsp` does not say it. `TWINSIGHT_DEFAULTS__RTSP_USER`
    /// sets it for all.
    rtsp_user: String,
    /// A file with the password of that user.
    rtsp_password_file: String,
    /// What the pictures of an IP camera come by: `tcp`, the default, or `udp`.
    rtsp_transport: String,
}
