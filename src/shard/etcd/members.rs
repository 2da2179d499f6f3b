//! The members of etcd that a node can ask. It asks one of them, and another one once that does not answer: a member that hangs would
//! else be asked again and again, by a client that takes turns, until the lease has run out.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{Client, ConnectOptions, Error};
use futures_util::future::select_ok;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::super::store::StoreError;
use super::advice::{Advice, History};
use super::tls::TlsFiles;
use super::trouble::{Failure, failed};
use crate::config::EtcdConfig;
use twinsight_client::secret::Secret;

/// The member that is watched.
pub(super) struct Watched {
    pub(super) client: Client,
    pub(super) connection: Connection,
    /// Tells when another one is asked.
    pub(super) another: watch::Receiver<usize>,
}

/// A connection to a member: the member's place among all, and which one it is of all that were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Connection {
    at: usize,
    number: u64,
}

/// The members, by their addresses.
pub(super) struct EtcdMembers {
    urls: Vec<String>,
    tls: TlsFiles,
    login: Option<(String, Secret)>,
    advice: Advice,
    /// No question takes longer.
    limit: Duration,
    /// One for each address, made when it is asked for.
    clients: Mutex<Vec<Option<(Connection, Client)>>>,
    /// One for each address.
    histories: Mutex<Vec<History>>,
    /// How many connections were made.
    made: AtomicU64,
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
    /// Nothing is connected yet. The pool's keys begin with `prefix`. No question is to take longer than `limit`.
    ///
    /// # Errors
    /// When a file that etcd is reached with is of no use. It is read again for each connection.
    pub(super) fn new(
        etcd: &EtcdConfig,
        prefix: &str,
        limit: Duration,
    ) -> Result<Self, StoreError> {
        let tls = TlsFiles::new(etcd);
        if etcd.urls.iter().any(|url| is_encrypted(url)) {
            tls.read()?;
        }
        Ok(Self {
            urls: etcd.urls.clone(),
            tls,
            login: etcd.username.clone().zip(etcd.password.clone()),
            advice: Advice::new(etcd, prefix.to_owned()),
            limit,
            histories: Mutex::new(etcd.urls.iter().map(|_| History::default()).collect()),
            clients: Mutex::new(vec![None; etcd.urls.len()]),
            made: AtomicU64::new(0),
            current: watch::Sender::new(0),
        })
    }

    /// Asks something of a member. Where there are more, another one is asked too if the first has failed, or has not answered in
    /// half of the time. So what is asked may be done twice.
    pub(super) async fn ask<T, F>(&self, question: impl Fn(Client) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let last = AtomicUsize::new(*self.current.borrow());
        let asking = self.ask_one_or_two(&question, &last);
        match tokio::time::timeout(self.limit, asking).await {
            Ok(answer) => answer,
            Err(_) => {
                // Behind the only address there may be several members, and it is the connection to one of them that hangs.
                self.leave(last.load(Ordering::Relaxed));
                Err(self.unanswered())
            }
        }
    }

    /// `last` says which member was asked last.
    async fn ask_one_or_two<T, F>(
        &self,
        question: &impl Fn(Client) -> F,
        last: &AtomicUsize,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let at = last.load(Ordering::Relaxed);
        let mut first = Box::pin(self.ask_one(at, question));
        if self.urls.len() == 1 {
            return first.await;
        }
        match tokio::time::timeout(self.limit / 2, &mut first).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => {
                let next = self.leave(at);
                last.store(next, Ordering::Relaxed);
                self.ask_one(next, question).await
            }
            Err(_) => {
                let next = self.leave(at);
                last.store(next, Ordering::Relaxed);
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
        F: Future<Output = Result<T, Failure>>,
    {
        let mut used = Connection { at, number: 0 };
        let asking = async {
            let (connection, client) = self.client(at).await?;
            used = connection;
            question(client).await
        };
        let answer = asking.await;
        if answer.is_ok() {
            self.histories.lock()[at].has_answered(used.number);
        }
        answer.map_err(|failure| self.failed(used, failure))
    }

    /// Takes in what failed with a member. The next question is asked over a new connection, if that may help.
    pub(super) fn failed(&self, used: Connection, failure: Failure) -> StoreError {
        if failure.is_stale {
            let mut clients = self.clients.lock();
            // Of many questions that fail with a connection, the first has it made anew, and the others leave the new one alone.
            clients[used.at].take_if(|(connection, _)| *connection == used);
        }
        let url = &self.urls[used.at];
        let history = &mut self.histories.lock()[used.at];
        let StoreError { reason, remedy } = self.advice.on(failure, url, history, used.number);
        StoreError {
            reason: format!("{url}: {reason}"),
            remedy,
        }
    }

    /// A client of the member that is asked, and what tells when another one is.
    pub(super) async fn watched(&self) -> Result<Watched, StoreError> {
        let mut another = self.current.subscribe();
        let at = *another.borrow_and_update();
        let client = match tokio::time::timeout(self.limit, self.client(at)).await {
            Ok(client) => {
                client.map_err(|failure| self.failed(Connection { at, number: 0 }, failure))
            }
            Err(_) => Err(self.unanswered()),
        };
        if client.is_err() {
            self.leave(at);
        }
        let (connection, client) = client?;
        Ok(Watched {
            client,
            connection,
            another,
        })
    }

    /// Asks another member from now on, unless that is so already. Gives the one that is asked.
    fn leave(&self, at: usize) -> usize {
        let count = self.urls.len();
        self.current.send_if_modified(|current| {
            if *current != at {
                // Another question has left it already.
                return false;
            }
            // What hangs may be the connection alone.
            self.clients.lock()[at] = None;
            *current = (at + 1) % count;
            count > 1
        });
        *self.current.borrow()
    }

    /// What is said of members that do not answer in time.
    pub(super) fn unanswered(&self) -> StoreError {
        StoreError::new(format!(
            "{} did not answer within {} ms",
            self.urls.join(", "),
            self.limit.as_millis()
        ))
    }

    async fn client(&self, at: usize) -> Result<(Connection, Client), Failure> {
        let known = self.clients.lock()[at].clone();
        if let Some(client) = known {
            return Ok(client);
        }
        let client = self.connect(&self.urls[at]).await?;
        let number = self.made.fetch_add(1, Ordering::Relaxed) + 1;
        let made = (Connection { at, number }, client);
        self.clients.lock()[at] = Some(made.clone());
        Ok(made)
    }

    async fn connect(&self, url: &str) -> Result<Client, Failure> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(self.limit)
            .with_keep_alive(Duration::from_secs(6), Duration::from_secs(3))
            .with_require_leader(true);
        if is_encrypted(url) {
            options = options.with_tls(self.tls.read()?);
        }
        let Some((user, password)) = &self.login else {
            return connect(url, options).await.map_err(|error| failed(&error));
        };
        let password = password.rotated().unwrap_or_else(|| password.clone());
        let as_user = options
            .clone()
            .with_user(user, password.expose())
            .with_auto_token_refresh(true);
        let connected = match connect(url, as_user).await {
            // Users may be told to an etcd before it asks for them. Once it does, it refuses the first question.
            Err(Error::GRpcStatus(status)) if has_no_users(&status) => connect(url, options).await,
            connected => connected,
        };
        connected.map_err(|error| failed(&error))
    }
}

async fn connect(url: &str, options: ConnectOptions) -> Result<Client, Error> {
    Client::connect([url], Some(options)).await
}

fn is_encrypted(url: &str) -> bool {
    url.starts_with("https")
}

fn has_no_users(status: &tonic::Status) -> bool {
    status.message().contains("authentication is not enabled")
}
