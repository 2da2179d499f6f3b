//! `twinsight check` and `twinsight health` as an operator meets them: each mistake has its line with what was found
//! and what to do, and the exit code says whether there is one. The program, hub and cameras are real.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at what it did not expect, and says what it measured"
)]

mod cameras;
mod health;
mod hub;
mod models;
mod network;
mod output;
mod twins;

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::ports::unused_address;
use crate::common::{Outcome, fake, root, start_hub, twinsight};
use twinsight::dev::hub::DevHubOptions;

const FAST: &str = "ssdlite_mobilenet_v2_coco";

/// A camera of the configuration.
fn camera(twin_id: &str, more: &str) -> String {
    format!("[[cameras]]\ntwin_id = \"{twin_id}\"\nmodel = \"{FAST}\"\n{more}")
}

fn twin(id: &str, device_id: &str, tenant_id: &str) -> Value {
    json!({"id": id, "deviceId": device_id, "tenantId": tenant_id, "type": "Edge", "status": "Online"})
}

/// A hub that knows these twins and no other.
async fn strict_hub(twins: Vec<Value>) -> String {
    start_hub(DevHubOptions {
        twins,
        strict: true,
        ..DevHubOptions::default()
    })
    .await
}

/// The outcome of a check.
struct Check(Outcome);

impl Check {
    /// Checks `config` as `node-1` in simulator mode, on loopback.
    fn run(url: &str, config: &str, more: &[(&str, &str)]) -> Self {
        let listen = unused_address();
        let config = format!("[http]\nlisten = \"{listen}\"\n{config}");
        Self::of(url, &config, more)
    }

    /// As `run`, with the whole configuration.
    fn of(url: &str, config: &str, more: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("node.toml");
        fs::write(&file, config).unwrap();
        let mut env = BTreeMap::from([
            ("PHYSTACK_SIMULATOR_URL", url),
            ("TWIN_ID", fake::NODE),
            ("TWINSIGHT_ICE__INTERFACES", "lo"),
        ]);
        env.extend(more.iter().copied());
        let env: Vec<_> = env.into_iter().collect();
        let outcome = twinsight(&["check", "--config", &file.display().to_string()], &env);
        println!("{}{}", outcome.out, outcome.log);
        Self(outcome)
    }

    /// The line about a subject.
    #[track_caller]
    fn line(&self, subject: &str) -> &str {
        self.0
            .out
            .lines()
            .find(|line| {
                line.get(6..)
                    .is_some_and(|rest| rest.starts_with(&format!("{subject}: ")))
            })
            .unwrap_or_else(|| panic!("no line about {subject}:\n{}", self.0.out))
    }

    /// A line is exactly this one.
    #[track_caller]
    fn says(&self, severity: &str, subject: &str, rest: &str) {
        assert_eq!(
            self.line(subject),
            format!("{severity:<4}  {subject}: {rest}"),
            "{}",
            self.0.out
        );
    }

    /// A line begins like this.
    #[track_caller]
    fn begins(&self, severity: &str, subject: &str, rest: &str) {
        let expected = format!("{severity:<4}  {subject}: {rest}");
        assert!(
            self.line(subject).starts_with(&expected),
            "{expected}\n{}",
            self.0.out
        );
    }

    /// So many lines begin with `fail`, and the exit code says so.
    #[track_caller]
    fn fails(&self, failures: usize) {
        let lines = self.0.out.lines();
        let found = lines.filter(|line| line.starts_with("fail ")).count();
        assert_eq!(found, failures, "{}", self.0.out);
        assert_eq!(self.0.code, Some(i32::from(failures > 0)), "{}", self.0.log);
        if failures > 0 {
            let last = self.0.log.lines().last().unwrap_or_default();
            assert!(
                last.contains(&format!(": {failures} failed, "))
                    && last
                        .ends_with("do what the lines that begin with `fail` say, and check again"),
                "{last}"
            );
        } else {
            assert_eq!(self.0.log, "");
        }
    }
}
