//! What differs between the configuration that a node was started with and a later one, for the keys
//! that hold until a restart. Everything but the cameras and their settings does.

use super::values::{Config, HttpConfig, RuntimeConfig, TelemetryConfig};
use twinsight_client::hub::HubOptions;
use twinsight_client::realtime::ice::IceSettings;
use twinsight_client::secret::Secret;

impl Config {
    /// The keys of `[hub]`, `[ice]`, `[http]`, `[runtime]`, `[telemetry]` and `[[sinks]]` that are not as in `started`: a node has to
    /// be started again for them. The environment's share (STUN, TURN) and the time limits cannot differ.
    pub fn keys_for_a_restart(&self, started: &Self) -> Vec<&'static str> {
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
        } = &self.hub;
        let IceSettings {
            relay_only,
            interfaces,
            udp_ports,
            nat_1to1_ips,
            mdns,
            recv_buffer_bytes,
        } = &self.ice;
        let HttpConfig { listen, token } = &self.http;
        let RuntimeConfig {
            library,
            execution_providers,
            threads,
            models_dir,
        } = &self.runtime;
        let sinks = &self.sinks;
        let TelemetryConfig {
            otlp_endpoint,
            trace_sample_ratio,
            otlp_headers,
            otlp_ca_file,
        } = &self.telemetry;
        let (hub, ice, http, runtime) =
            (&started.hub, &started.ice, &started.http, &started.runtime);
        let telemetry = &started.telemetry;
        // A key that is rotated in its file is followed by the hub client.
        let key_file = access_key.as_ref().and_then(Secret::file);
        let same_key_file =
            key_file.is_some() && key_file == hub.access_key.as_ref().and_then(Secret::file);
        [
            ("hub.mode", *mode == hub.mode),
            ("hub.url", *url == hub.url),
            ("hub.twin_id", *twin_id == hub.twin_id),
            ("hub.device_id", *device_id == hub.device_id),
            (
                "hub.access_key_file",
                same_key_file || *access_key == hub.access_key,
            ),
            ("hub.ca_file", *ca_file == hub.ca_file),
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
            ("sinks", *sinks == started.sinks),
        ]
        .into_iter()
        .filter(|(_, same)| !same)
        .map(|(key, _)| key)
        .collect()
    }
}
