//! What differs between the configuration that a node was started with and a later one, for the keys
//! that hold until a restart. Everything but the cameras and their settings does.

use super::values::{Config, HttpConfig, RuntimeConfig, TelemetryConfig};
use twinsight_client::hub::HubOptions;
use twinsight_client::realtime::ice::IceSettings;
use twinsight_client::secret::Secret;

impl Config {
    /// The keys of `[hub]`, `[ice]`, `[http]`, `[node]`, `[runtime]`, `[models]`, `[telemetry]` and `[[sinks]]` that are not as in
    /// `started`: a node has to be started again for them. The environment's share (STUN, TURN) and the time limits cannot differ.
    pub fn keys_for_a_restart(&self, started: &Self) -> Vec<&'static str> {
        // Without `..`, so that a new field is not forgotten here.
        let IceSettings {
            relay_only,
            interfaces,
            udp_ports,
            nat_1to1_ips,
            mdns,
            recv_buffer_bytes,
        } = &self.ice;
        let HttpConfig {
            listen,
            token,
            edit,
        } = &self.http;
        let RuntimeConfig {
            library,
            execution_providers,
            threads,
            models_dir,
        } = &self.runtime;
        // These hold as a whole.
        let (node, models, sinks) = (&self.node, &self.models, &self.sinks);
        let TelemetryConfig {
            otlp_endpoint,
            trace_sample_ratio,
            otlp_headers,
            otlp_ca_file,
        } = &self.telemetry;
        let (ice, http, runtime) = (&started.ice, &started.http, &started.runtime);
        let telemetry = &started.telemetry;
        let of_others = [
            ("ice.policy", *relay_only == ice.relay_only),
            ("ice.interfaces", *interfaces == ice.interfaces),
            ("ice.udp_ports", *udp_ports == ice.udp_ports),
            ("ice.nat_1to1_ips", *nat_1to1_ips == ice.nat_1to1_ips),
            ("ice.mdns", *mdns == ice.mdns),
            (
                "ice.recv_buffer_bytes",
                *recv_buffer_bytes == ice.recv_buffer_bytes,
            ),
            ("http.listen", *listen == http.listen),
            ("http.token_file", *token == http.token),
            ("http.edit", *edit == http.edit),
            ("runtime.library", *library == runtime.library),
            (
                "runtime.execution_providers",
                *execution_providers == runtime.execution_providers,
            ),
            ("runtime.threads", *threads == runtime.threads),
            ("runtime.models_dir", *models_dir == runtime.models_dir),
            (
                "telemetry.otlp_endpoint",
                *otlp_endpoint == telemetry.otlp_endpoint,
            ),
            (
                "telemetry.trace_sample_ratio",
                trace_sample_ratio.to_bits() == telemetry.trace_sample_ratio.to_bits(),
            ),
            (
                "telemetry.otlp_headers_file",
                *otlp_headers == telemetry.otlp_headers,
            ),
            (
                "telemetry.otlp_ca_file",
                *otlp_ca_file == telemetry.otlp_ca_file,
            ),
            ("node", *node == started.node),
            ("models", *models == started.models),
            ("sinks", *sinks == started.sinks),
        ];
        let of_hub = match (&self.hub, &started.hub) {
            (Some(hub), Some(started)) => hub_keys(hub, started).to_vec(),
            (now, before) => vec![("hub.mode", now.is_none() && before.is_none())],
        };
        of_hub
            .into_iter()
            .chain(of_others)
            .filter(|(_, same)| !same)
            .map(|(key, _)| key)
            .collect()
    }
}

/// The keys of `[hub]`, and whether each is the same.
fn hub_keys(hub: &HubOptions, started: &HubOptions) -> [(&'static str, bool); 6] {
    // Without `..`, so that a new field is not forgotten here.
    let HubOptions {
        mode,
        url,
        twin_id,
        device_id,
        access_key,
        ca_file,
        stun_url: _,
        turn: _,
        timers: _,
    } = hub;
    // A key that is rotated in its file is followed by the hub client.
    let key_file = access_key.as_ref().and_then(Secret::file);
    let same_key_file =
        key_file.is_some() && key_file == started.access_key.as_ref().and_then(Secret::file);
    [
        ("hub.mode", *mode == started.mode),
        ("hub.url", *url == started.url),
        ("hub.twin_id", *twin_id == started.twin_id),
        ("hub.device_id", *device_id == started.device_id),
        (
            "hub.access_key_file",
            same_key_file || *access_key == started.access_key,
        ),
        ("hub.ca_file", *ca_file == started.ca_file),
    ]
}
