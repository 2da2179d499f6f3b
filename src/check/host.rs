//! Checks what the node needs of its machine: the port of its HTTP server, open files and UDP ports for the cameras. The
//! configuration comes in, findings go out.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::finding::{Finding, Report};
use crate::descriptors::Descriptors;
use crate::http::probe::{self, ProbeError};
use crate::http::server::{self, HttpError};
use twinsight_client::realtime::ice::IceSettings;
use twinsight_client::realtime::socket::bind_addresses;

/// A program that listens on the node's port has this long to answer a probe.
const PROBE_LIMIT: Duration = Duration::from_secs(3);

/// Whether another node runs on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Neighbour {
    /// None that is known of.
    Nobody,
    /// There is one, perhaps the one with this very configuration.
    Node,
}

/// How many UDP ports there are for cameras that are dialled at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ports {
    /// There are as many as are asked for.
    Any,
    /// This many of the configured range are free.
    Free(usize),
}

/// Tries to listen on the port of metrics and probes. If it is taken, asks the program that has it whether it is a node.
pub(super) async fn http_listen(listen: SocketAddr, report: &mut Report<'_>) -> Neighbour {
    let subject = format!("http.listen {listen}");
    let mut neighbour = Neighbour::Nobody;
    report.add(match server::bind(listen).await {
        Ok(_) if listen.port() == 0 => Finding::warn(
            subject,
            "the system chooses another port at every start, which `twinsight health` and Prometheus do not know",
            "give a port, as in \"127.0.0.1:9464\"",
        ),
        Ok(_) => Finding::ok(subject, "free"),
        Err(HttpError::InUse(_)) => match probe::health(listen, PROBE_LIMIT).await {
            Ok(()) => {
                neighbour = Neighbour::Node;
                Finding::warn(
                    subject,
                    "a node runs here already, and it is healthy",
                    "stop it before you start another with this address; its UDP ports count as taken below",
                )
            }
            Err(ProbeError::Unhealthy(what)) => {
                neighbour = Neighbour::Node;
                Finding::warn(
                    subject,
                    format!("a node runs here already, and it is not healthy ({what})"),
                    "restart that node",
                )
            }
            Err(_) => Finding::fail(
                subject,
                "in use by something that is not a node",
                "stop what listens there, or set `http.listen` to another port",
            ),
        },
        Err(error) => Finding::fail(subject, error.to_string(), ""),
    });
    neighbour
}

/// Checks whether the limit of open files is enough for the camera streams.
pub(super) fn open_files(
    descriptors: Descriptors,
    ice: &IceSettings,
    streams: usize,
    report: &mut Report<'_>,
) {
    // What is wrong with the interfaces is reported with the UDP ports.
    let addresses = bind_addresses(&ice.interfaces, None).map_or(1, |addresses| addresses.len());
    let carried = descriptors.streams(addresses);
    let limit = descriptors.limit;
    let found = format!("{limit} at once, which carries {carried} camera streams");
    report.add(if carried >= streams {
        Finding::ok("open files", found)
    } else {
        Finding::fail(
            "open files",
            format!("{found}, and {streams} are configured"),
            "raise the limit: `ulimit -n`, `LimitNOFILE=` of the service, `--ulimit nofile=` of the container",
        )
    });
}

/// Counts the free ports of `ice.udp_ports`: each camera stream needs one on each address.
pub(super) fn udp_ports(
    ice: &IceSettings,
    streams: usize,
    neighbour: Neighbour,
    report: &mut Report<'_>,
) -> Ports {
    let addresses: Vec<IpAddr> = match bind_addresses(&ice.interfaces, None) {
        Ok(addresses) => addresses.iter().map(SocketAddr::ip).collect(),
        Err(error) => {
            report.add(Finding::fail(
                "ice.interfaces",
                error.to_string(),
                "name interfaces of this machine (`ip address` lists them), or remove the key",
            ));
            return Ports::Free(0);
        }
    };
    if ice.interfaces.is_empty() && addresses.iter().all(IpAddr::is_loopback) {
        report.add(Finding::warn(
            "network",
            "this machine has no address but loopback: only cameras on this machine can be reached",
            "connect it to the cameras' network",
        ));
    }
    let Some(udp_ports) = &ice.udp_ports else {
        return Ports::Any;
    };
    let (first, last) = (udp_ports.start(), udp_ports.end());
    let subject = format!("ice.udp_ports {first}-{last}");
    let free: Vec<usize> = addresses
        .iter()
        .map(|ip| {
            udp_ports
                .clone()
                .filter(|port| UdpSocket::bind((*ip, *port)).is_ok())
                .count()
        })
        .collect();
    let all = udp_ports.len();
    let best = free.iter().copied().max().unwrap_or(0);
    let worst = free.iter().copied().min().unwrap_or(0);
    let counted = |free| {
        format!(
            "{free} of {all} ports are free, and {streams} are needed, one for each camera stream"
        )
    };
    report.add(if worst >= streams {
        Finding::ok(subject, counted(worst))
    } else if neighbour == Neighbour::Node {
        Finding::warn(
            subject,
            format!("{}; the node that runs here has the others", counted(best)),
            "stop it for a complete check",
        )
    } else if best >= streams {
        let poor: Vec<String> = addresses
            .iter()
            .zip(&free)
            .filter(|(_, free)| **free < streams)
            .map(|(ip, _)| ip.to_string())
            .collect();
        Finding::warn(
            subject,
            format!("on {} {}", poor.join(" and "), counted(worst)),
            "stop what has them (`ss -lunp` lists it), widen the range, or leave that address out by `ice.interfaces`",
        )
    } else {
        Finding::fail(
            subject,
            counted(best),
            "stop what has the others (`ss -lunp` lists it), or widen the range",
        )
    });
    Ports::Free(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_open_files_are_told_with_what_they_carry() {
        let ice = crate::config::Config::load(
            None,
            &[("TWIN_ID", "n"), ("PHYSTACK_SIMULATOR_URL", "http://h")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into_iter()
                .collect::<crate::config::Env>(),
        )
        .unwrap()
        .ice;
        let ice = IceSettings {
            interfaces: vec!["lo".to_owned()],
            ..ice
        };
        let addresses = bind_addresses(&ice.interfaces, None).unwrap().len();
        let descriptors = Descriptors { limit: 256 };
        let carried = descriptors.streams(addresses);
        let mut lines = Vec::new();
        let mut tell = |finding: &Finding| lines.push(finding.to_string());
        let mut report = Report::new(&mut tell);
        open_files(descriptors, &ice, carried, &mut report);
        open_files(descriptors, &ice, carried + 1, &mut report);
        assert_eq!(
            lines[0],
            format!("ok    open files: 256 at once, which carries {carried} camera streams")
        );
        assert_eq!(
            lines[1],
            format!(
                "fail  open files: 256 at once, which carries {carried} camera streams, and {} are configured; raise the limit: \
                 `ulimit -n`, `LimitNOFILE=` of the service, `--ulimit nofile=` of the container",
                carried + 1
            )
        );
    }
}
