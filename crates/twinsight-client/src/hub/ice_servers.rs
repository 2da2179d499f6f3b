//! The ICE servers that connections use: the hub's, for as long as it says, then the operator's own.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::HubClient;
use super::error::HubError;
use super::message::IceServer;

/// How long the answer of a hub that has no ICE servers, or gives none, is believed.
const ICE_RETRY: Duration = Duration::from_secs(30);

/// The longest time to live of ICE servers that is believed.
const MAX_ICE_TTL: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug)]
pub(super) struct IceCache {
    fresh_until: Instant,
    servers: Vec<IceServer>,
}

impl HubClient {
    /// The ICE servers of the hub, then the operator's own; only the latter if the hub gives none
    /// in time. Cached for as long as the hub says.
    ///
    /// ```no_run
    /// # async fn example(client: twinsight_client::hub::HubClient) -> Result<(), Box<dyn std::error::Error>> {
    /// for server in client.ice_servers().await {
    ///     println!("{:?}", server.urls);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn ice_servers(&self) -> Vec<IceServer> {
        let mut cache = self.shared.ice.lock().await;
        let fresh = cache
            .as_ref()
            .filter(|cache| Instant::now() < cache.fresh_until)
            .map(|cache| cache.servers.clone());
        let mut servers = match fresh {
            Some(servers) => servers,
            None => self.fetch_ice_servers(&mut cache).await,
        };
        servers.extend(self.shared.options.static_ice_servers());
        servers
    }

    /// The operator's own ICE servers, which need no hub.
    pub fn static_ice_servers(&self) -> Vec<IceServer> {
        self.shared.options.static_ice_servers()
    }

    async fn fetch_ice_servers(&self, cache: &mut Option<IceCache>) -> Vec<IceServer> {
        let payload = json!({ "data": { "useCase": "media" } });
        let limit = self.shared.options.timers.ice_servers;
        let answer = tokio::time::timeout(limit, self.call("getIceServers", payload)).await;
        let (servers, fresh_for) = match answer {
            Ok(Ok(answer)) => match IceServer::list_from_value(&answer) {
                Some(servers) => (servers, ice_lifetime(&answer)),
                None => {
                    self.shared
                        .malformed("a getIceServers answer without a list");
                    (Vec::new(), ICE_RETRY)
                }
            },
            // The next caller may find the hub joined.
            Ok(Err(HubError::Disconnected | HubError::Closed)) => return Vec::new(),
            Ok(Err(_)) | Err(_) => (Vec::new(), ICE_RETRY),
        };
        *cache = Some(IceCache {
            fresh_until: Instant::now() + fresh_for,
            servers: servers.clone(),
        });
        servers
    }
}

/// How long an answer to `getIceServers` may be used: to shortly before it expires.
fn ice_lifetime(answer: &Value) -> Duration {
    let ttl = answer
        .get("ttlSeconds")
        .and_then(Value::as_f64)
        .filter(|ttl| *ttl > 0.0)
        .and_then(|ttl| Duration::try_from_secs_f64(ttl).ok());
    match ttl {
        Some(ttl) => {
            let ttl = ttl.min(MAX_ICE_TTL);
            ttl - (ttl / 2).min(Duration::from_secs(30))
        }
        None => ICE_RETRY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ice_servers_are_renewed_before_they_expire() {
        let lifetime = |ttl: Value| ice_lifetime(&json!({ "ttlSeconds": ttl })).as_secs();
        assert_eq!(lifetime(json!(3600)), 3570);
        assert_eq!(lifetime(json!(40)), 20);
        assert_eq!(lifetime(json!(0)), 30);
        assert_eq!(lifetime(json!(null)), 30);
        assert_eq!(lifetime(json!(-5)), 30);
        assert_eq!(lifetime(json!("60")), 30);
        assert_eq!(lifetime(json!(1e300)), 30);
        assert_eq!(lifetime(json!(1e15)), 24 * 3600 - 30);
    }
}
