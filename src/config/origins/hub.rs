//! Where the values of `[hub]` and `[ice]` came from.

use serde_json::{Value, json};

use super::super::file::Origin;
use super::super::in_force::{EntryInForce, SectionInForce};
use super::super::resolve::ACCESS_KEY;
use super::super::sections::{
    ACCESS_KEY_VARIABLES, DEVICE_ID_VARIABLES, STUN_VARIABLE, TURN_CREDENTIAL_VARIABLE,
    TURN_USERNAME_VARIABLE, TURN_VARIABLE, TWIN_ID_VARIABLES, mode_name,
};
use super::{Origins, path};
use twinsight_client::hub::text::redacted_url;
use twinsight_client::hub::{HubMode, HubOptions, TurnServer};
use twinsight_client::realtime::ice::IceSettings;

impl Origins<'_> {
    pub(super) fn hub(&self, hub: &HubOptions) -> SectionInForce {
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
        let given = &self.file.hub;
        let address = self.resolver.hub_url(self.file, *mode).ok();
        let (url_origin, region) = match address {
            Some(address) => (address.origin, address.region),
            None => (None, None),
        };
        // In a mode that does not ask for an id, none is in force, whatever is given.
        let id = |id: &str, given, official: &[&str]| {
            let origin = self
                .resolver
                .text(given, official)
                .map(|given| given.origin);
            self.optional((!id.is_empty()).then(|| id.into()), origin.as_ref())
        };
        let (key, key_file) = self.secret(
            access_key.as_ref(),
            ACCESS_KEY,
            ACCESS_KEY_VARIABLES,
            given.origin("access_key_file"),
        );
        SectionInForce(vec![
            ("mode", self.mode(Some(*mode))),
            (
                "url",
                self.entry(redacted_url(url).into(), url_origin.as_ref()),
            ),
            (
                "region",
                self.optional(region.map(Value::from), url_origin.as_ref()),
            ),
            (
                "twin_id",
                id(twin_id, given.twin_id.as_ref(), TWIN_ID_VARIABLES),
            ),
            (
                "device_id",
                id(device_id, given.device_id.as_ref(), DEVICE_ID_VARIABLES),
            ),
            ("access_key_file", key_file),
            ("access_key", key),
            (
                "ca_file",
                self.optional(ca_file.as_deref().map(path), given.origin("ca_file")),
            ),
        ])
    }

    /// Of the section of a node without a hub only the mode is in force.
    pub(super) fn without_hub(&self) -> SectionInForce {
        let unset = |key: &'static str| (key, self.optional(None, None));
        SectionInForce(vec![
            ("mode", self.mode(None)),
            unset("url"),
            unset("region"),
            unset("twin_id"),
            unset("device_id"),
            unset("access_key_file"),
            ("access_key", self.concealed(false, None)),
            unset("ca_file"),
        ])
    }

    fn mode(&self, mode: Option<HubMode>) -> EntryInForce {
        let chosen = self.resolver.hub_mode(self.file).ok();
        let origin = chosen.and_then(|(_, origin)| origin);
        self.entry(mode_name(mode).into(), origin.as_ref())
    }

    pub(super) fn ice(
        &self,
        ice: &IceSettings,
        stun_url: Option<&str>,
        turn: Option<&TurnServer>,
    ) -> SectionInForce {
        let IceSettings {
            relay_only,
            interfaces,
            udp_ports,
            nat_1to1_ips,
            mdns,
            recv_buffer_bytes,
        } = ice;
        let given = &self.file.ice;
        let variable = |name: &str| Origin::Variable(name.to_owned());
        let by_turn = turn.map(|_| variable(TURN_VARIABLE));
        let ports = udp_ports
            .as_ref()
            .map(|ports| format!("{}-{}", ports.start(), ports.end()));
        let addresses: Vec<String> = nat_1to1_ips.iter().map(ToString::to_string).collect();
        let secret = |part: Option<&str>, name: &str| {
            let set = part.is_some_and(|part| !part.is_empty());
            self.concealed(set, set.then(|| variable(name)).as_ref())
        };
        SectionInForce(vec![
            (
                "policy",
                self.entry(
                    if *relay_only { "relay" } else { "all" }.into(),
                    given.origin("policy").or(by_turn.as_ref()),
                ),
            ),
            (
                "interfaces",
                self.entry(json!(interfaces), given.origin("interfaces")),
            ),
            (
                "udp_ports",
                self.optional(ports.map(Value::from), given.origin("udp_ports")),
            ),
            (
                "nat_1to1_ips",
                self.entry(json!(addresses), given.origin("nat_1to1_ips")),
            ),
            ("mdns", self.entry((*mdns).into(), given.origin("mdns"))),
            (
                "recv_buffer_bytes",
                self.entry(
                    (*recv_buffer_bytes).into(),
                    given.origin("recv_buffer_bytes"),
                ),
            ),
            (
                "stun_url",
                self.optional(
                    stun_url.map(|url| redacted_url(url).into()),
                    Some(&variable(STUN_VARIABLE)),
                ),
            ),
            (
                "turn_url",
                self.optional(
                    turn.map(|turn| redacted_url(&turn.url).into()),
                    by_turn.as_ref(),
                ),
            ),
            (
                "turn_username",
                secret(
                    turn.map(|turn| turn.username.as_str()),
                    TURN_USERNAME_VARIABLE,
                ),
            ),
            (
                "turn_credential",
                secret(
                    turn.map(|turn| turn.credential.expose()),
                    TURN_CREDENTIAL_VARIABLE,
                ),
            ),
        ])
    }
}
