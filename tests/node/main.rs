//! The node and the other commands, as their users start them.

#[path = "../common/mod.rs"]
mod common;
#[cfg(feature = "etcd")]
#[path = "../common/etcd.rs"]
mod etcd;
#[path = "../common/made_models.rs"]
mod made_models;

mod air_gapped;
mod bad_config;
mod blind;
mod bridge;
mod camera_command;
mod camera_life;
mod camera_sources;
mod check_command;
mod command_line;
mod demo;
mod execution_providers;
mod http_access;
mod http_load;
mod http_server;
mod no_hub;
mod openapi;
mod reload;
mod scene_edit;
#[cfg(feature = "etcd")]
mod shard_pool;
#[cfg(feature = "etcd")]
mod shard_secured;
mod shutdown;
mod slow_model;
#[cfg(feature = "otlp")]
mod tracing;
mod watch;
mod webhook;
