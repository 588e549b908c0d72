# Shared by the scripts of this folder; sourced, never run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Outside the clone, so that a new clone starts warm.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/kas402/target}"
# rustup puts cargo here; not every shell has it in its path.
if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then
    PATH="$HOME/.cargo/bin:$PATH"
fi

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# The one build of demo and tests: dependencies are compiled once, with one set of features.
build_all() {
    say "building into $CARGO_TARGET_DIR (the first time takes a while: a whole Kaspa node is among it)"
    cargo build --locked --workspace --all-targets
}
