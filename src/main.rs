//! The program. All of it is `twinsight::cmd`, in the library: a binary that awaited the library's async functions
//! itself would compile every one of them anew.

use std::process::ExitCode;

fn main() -> ExitCode {
    twinsight::cmd::main()
}
