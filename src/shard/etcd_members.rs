//! The members of etcd that a node can ask. It asks one of them, and another one once that does not answer: a member that hangs would
//! else be asked again and again, by a client that takes turns, until the lease has run out.

use std::path::PathBuf;
use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, TlsOptions};
use futures_util::future::select_ok;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::etcd::failed;
use super::store::StoreError;
use crate::config::EtcdConfig;
use twinsight_client::secret::Secret;

/// The members, by their addresses.
pub(super) struct EtcdMembers {
    urls: Vec<String>,
    ca_file: Option<PathBuf>,
    login: Option<(String, Secret)>,
    /// No question takes longer.
    limit: Duration,
    /// One for each address, made when it is asked for.
    clients: Mutex<Vec<Option<Client>>>,
    /// Which of them is asked.
    current: watch::Sender<usize>,
}

impl std::fmt::Debug for EtcdMembers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdMembers")
            .field("urls", &self.urls)
            .field("current", &*self.current.borrow())
            .finish_non_exhaustive()
    }
}

impl EtcdMembers {
    /// Nothing is connected yet. No question is to take longer than `limit`.
    pub(super) fn new(etcd: &EtcdConfig, limit: Duration) -> Self {
        Self {
            urls: etcd.urls.clone(),
            ca_file: etcd.ca_file.clone(),
            login: etcd.username.clone().zip(etcd.password.clone()),
            limit,
            clients: Mutex::new(vec![None; etcd.urls.len()]),
            current: watch::Sender::new(0),
        }
    }

    /// Asks something of a member. Where there are more, another one is asked too if the first has failed, or has not answered in
    /// half of the time. So what is asked may be done twice.
    pub(super) async fn ask<T, F>(&self, question: impl Fn(Client) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let asking = self.ask_one_or_two(&question);
        match tokio::time::timeout(self.limit, asking).await {
            Ok(answer) => answer,
            Err(_) => Err(self.unanswered()),
        }
    }

    async fn ask_one_or_two<T, F>(&self, question: &impl Fn(Client) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let at = *self.current.borrow();
        let mut first = Box::pin(self.ask_one(at, question));
        if self.urls.len() == 1 {
            return first.await;
        }
        match tokio::time::timeout(self.limit / 2, &mut first).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => {
                let next = self.leave(at);
                self.ask_one(next, question).await
            }
            Err(_) => {
                let next = self.leave(at);
                let second = Box::pin(self.ask_one(next, question));
                let (answer, _) = select_ok([first, second]).await?;
                Ok(answer)
            }
        }
    }

    async fn ask_one<T, F>(
        &self,
        at: usize,
        question: &impl Fn(Client) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let asking = async { question(self.client(at).await?).await };
        asking
            .await
            .map_err(|StoreError(error)| StoreError(format!("{}: {error}", self.urls[at])))
    }

    /// A client of the member that is asked, and what tells when another one is.
    pub(super) async fn watched(&self) -> Result<(Client, watch::Receiver<usize>), StoreError> {
        let mut current = self.current.subscribe();
        let at = *current.borrow_and_update();
        let connecting = tokio::time::timeout(self.limit, self.client(at));
        let client = connecting.await.unwrap_or_else(|_| Err(self.unanswered()));
        if client.is_err() {
            self.leave(at);
        }
        Ok((client?, current))
    }

    /// Asks another member from now on, unless that is so already. Gives the one that is asked.
    fn leave(&self, at: usize) -> usize {
        let count = self.urls.len();
        // What hangs may be the connection alone.
        self.clients.lock()[at] = None;
        self.current.send_if_modified(|current| {
            let is_asked = count > 1 && *current == at;
            if is_asked {
                *current = (at + 1) % count;
            }
            is_asked
        });
        *self.current.borrow()
    }

    /// What is said of members that do not answer in time.
    pub(super) fn unanswered(&self) -> StoreError {
        StoreError(format!(
            "{} did not answer within {} ms",
            self.urls.join(", "),
            self.limit.as_millis()
        ))
    }

    async fn client(&self, at: usize) -> Result<Client, StoreError> {
        let known = self.clients.lock()[at].clone();
        if let Some(client) = known {
            return Ok(client);
        }
        let client = self.connect(&self.urls[at]).await?;
        self.clients.lock()[at] = Some(client.clone());
        Ok(client)
    }

    async fn connect(&self, url: &str) -> Result<Client, StoreError> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(self.limit)
            .with_keep_alive(Duration::from_secs(6), Duration::from_secs(3))
            .with_require_leader(true);
        if url.starts_with("https") {
            let mut tls = TlsOptions::new().with_enabled_roots();
            if let Some(file) = &self.ca_file {
                let pem = tokio::fs::read(file).await.map_err(|error| {
                    let file = file.display();
                    StoreError(format!(
                        "{file} of `node.lease.ca_file` is not read: {error}"
                    ))
                })?;
                tls = tls.ca_certificate(Certificate::from_pem(pem));
            }
            options = options.with_tls(tls);
        }
        if let Some((user, password)) = &self.login {
            let password = password.rotated().unwrap_or_else(|| password.clone());
            options = options
                .with_user(user, password.expose())
                .with_auto_token_refresh(true);
        }
        let connected = Client::connect([url], Some(options)).await;
        connected.map_err(|error| failed(&error))
    }
}
