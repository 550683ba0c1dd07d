//! Parse, run, exit code.

fn main() -> std::process::ExitCode {
    git_intake::cli::main()
}
