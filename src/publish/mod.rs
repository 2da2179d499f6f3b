//! The end of the path: inferred frames and camera states come in from the stages, events go out on
//! the node's own twin. `event` shapes them, `outbox` bounds them (sans-IO), `publisher` is the task.

pub mod event;
pub mod outbox;
pub mod publisher;
