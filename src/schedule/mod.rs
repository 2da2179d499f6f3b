//! Whose frame is inferred next: decode threads offer the frames of all camera streams, inference workers take the frame
//! of the stream that has waited longest. [`SchedulerCore`](scheduler::SchedulerCore) decides,
//! [`Scheduler`](scheduler::Scheduler) shares it between the threads.

mod core;
mod ready_queue;
pub mod scheduler;
