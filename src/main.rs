//! The `kas402` binary: see [`kas402::cli`].

/// Requests come and go beside a database that stays: the C library's allocator loses time on the fragments (docs/benchmarks.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    kas402::cli::main()
}
