//! The `turnpike` binary: arguments, then [`turnpike::cli`].

fn main() -> std::process::ExitCode {
    turnpike::cli::main()
}
