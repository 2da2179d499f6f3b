//! The node's HTTP server: metrics and probes for everybody, the dashboard and its API for those who may.
//!
//! `server` accepts connections and `connections` bounds them; `routes` has the one table of what is served and what each route
//! needs, which `access` checks. `api` makes JSON of what the node knows, `events` and `live` stream, `tracks` lists what is
//! followed, and `assets` has the pages.

pub(crate) mod access;
pub(crate) mod answer;
pub mod api;
mod assets;
pub mod connections;
mod events;
mod live;
pub mod probe;
pub mod routes;
pub mod scene_edit;
pub mod server;
pub mod state;
mod tracks;
