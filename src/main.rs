//! The `kas402` binary: see [`kas402::cli`].

fn main() -> std::process::ExitCode {
    kas402::cli::main()
}
