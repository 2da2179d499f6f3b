//! Whose frame is inferred next: decode threads offer the frames of all camera streams, inference workers take the frame
//! of the stream that has waited longest. [`SchedulerCore`](scheduler::SchedulerCore) decides,
//! [`Scheduler`](scheduler::Scheduler) shares it between the threads, and [`MotionGate`](motion::MotionGate) says which of the
//! frames that they take show nothing new.

mod core;
pub mod engine;
pub mod motion;
mod ready_queue;
pub mod scheduler;
