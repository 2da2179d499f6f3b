//! ONNX Runtime's telemetry is off before the library can be loaded. Nothing comes in; the process's environment
//! goes out with one more variable.
//!
//! ONNX Runtime 1.31 begins to collect as soon as it is loaded: it keeps an event database and an id of the device under
//! `$HOME/.cache`, and some nine seconds later it looks up a host of its maker. `DisableTelemetryEvents` of its API
//! comes too late for that; only this variable, there before the library is, stops it.
//!
//! Changing the environment is sound only while no other thread can read it, and C code reads it without Rust's lock. When
//! a model is loaded there are threads of several kinds. So it is done before `main`, where the dynamic loader runs the
//! functions of `.init_array` on the only thread of the process, which is checked. That holds for every
//! program that has this crate in it: the node, its other commands, examples, tests and those of users. Where it could not be
//! done (the crate is a part of a library that a running program loads, or `/proc` is missing), [`is_off`] says so and
//! nothing is loaded.
#![expect(
    unsafe_code,
    reason = "a function of `.init_array` and a variable of the environment, while there is one thread"
)]

use std::ffi::OsStr;

/// The variable that ONNX Runtime reads when it is loaded.
pub(super) const VARIABLE: &str = "ORT_DISABLE_TELEMETRY";

/// True when a library that is loaded now does not collect.
pub(super) fn is_off() -> bool {
    std::env::var_os(VARIABLE).as_deref() == Some(OsStr::new("1"))
}

// SAFETY: the loader calls what stands in this section as functions of C's calling convention; that arguments
// are passed which the function does not take is allowed by it.
#[cfg(target_os = "linux")]
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;

#[cfg(target_os = "linux")]
extern "C" fn before_main() {
    let is_alone = std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1);
    if is_alone && !is_off() {
        #[expect(
            clippy::disallowed_methods,
            reason = "before `main` there is no other thread that reads the environment"
        )]
        // SAFETY: this thread is the only one, so nobody reads the environment meanwhile.
        unsafe {
            std::env::set_var(VARIABLE, "1");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_off_in_every_program_with_this_crate() {
        assert!(is_off());
    }
}
