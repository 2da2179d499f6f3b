//! Tries the sinks: the configuration comes in, and a finding for each goes out. A broker is joined and left without a word; a webhook
//! is connected to, and nothing is posted, since whoever takes events would take it for one.

use std::time::Duration;

use tokio::net::TcpStream;
use url::Url;

use super::finding::{Finding, Report};
use crate::config::{Config, SinkConfig, SinkTarget};
use crate::sinks::{node_id, probe_broker};

/// A webhook has this long to take a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Tries all sinks at once, and says what came of each in the order of the configuration.
pub(super) async fn check(config: &Config, report: &mut Report<'_>) {
    let node = node_id(config.hub.as_ref());
    let checks = config.sinks.iter().map(|sink| one(sink, &node));
    for finding in futures_util::future::join_all(checks).await {
        report.add(finding);
    }
}

async fn one(sink: &SinkConfig, node: &str) -> Finding {
    let subject = format!("sink {}", sink.name);
    match &sink.target {
        SinkTarget::Mqtt(broker) => {
            let address = format!("{}:{}", broker.host, broker.port);
            match probe_broker(broker, node).await {
                Ok(()) => Finding::ok(subject, format!("the broker {address} lets the node in")),
                Err(reason) => {
                    let (found, remedy) = reason.rsplit_once(": ").unwrap_or((&reason, ""));
                    Finding::fail(subject, format!("the broker {address}: {found}"), remedy)
                }
            }
        }
        SinkTarget::Webhook(webhook) => {
            let url = Url::parse(webhook.url.expose())
                .expect("the address is one, because the configuration was resolved");
            let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
            let port = url.port_or_known_default().unwrap_or(80);
            let connecting = TcpStream::connect((host, port));
            let found = match tokio::time::timeout(CONNECT_LIMIT, connecting).await {
                Ok(Ok(_)) => {
                    return Finding::ok(
                        subject,
                        format!("{host}:{port} takes a connection; nothing was posted"),
                    );
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {} s", CONNECT_LIMIT.as_secs()),
            };
            Finding::fail(
                subject,
                format!("{host}:{port} takes no connection ({found})"),
                "see that it runs and can be reached from here, and correct `sinks.url` if not",
            )
        }
    }
}
