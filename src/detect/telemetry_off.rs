//! Switches ONNX Runtime's telemetry off before the library can be loaded, by a variable in the environment of the process. The
//! dynamic loader runs it before `main`.
//!
//! ONNX Runtime 1.31 begins to collect as soon as it is loaded: it keeps an event database and an id of the device under
//! `$HOME/.cache`, and some nine seconds later it looks up a host of its maker. `DisableTelemetryEvents` of its API
//! comes too late for that; only this variable, there before the library is, stops it.
//!
//! To change the environment is sound only while no other thread can read it, since C code reads it without Rust's lock. When a
//! model is loaded, there are threads of several kinds. So the change is made before `main`, where the dynamic loader runs the
//! functions of `.init_array` on the only thread of the process; that there is only one is checked. This holds for every
//! program with this crate in it: the node, its other commands, examples and tests. If the change could not be made, because
//! the crate is a part of a library that a running program loads or `/proc` is missing, [`is_off`] says so and no library is
//! loaded.
#![expect(
    unsafe_code,
    reason = "a function of `.init_array` and a variable of the environment, while there is one thread"
)]

use std::ffi::OsStr;

/// The variable that ONNX Runtime reads when it is loaded.
pub(super) const VARIABLE: &str = "ORT_DISABLE_TELEMETRY";

/// True if a library that is loaded now does not collect telemetry.
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
    // Nothing of `/proc` is parsed here, so that as little code as possible runs before `main`.
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
