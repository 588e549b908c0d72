# syntax=docker/dockerfile:1
# The gateway alone: no node, no wallet's keys, no shell needed. Checked by tests/deploy_files.rs.

ARG RUST_VERSION=1.91
ARG DEBIAN=bookworm

FROM rust:${RUST_VERSION}-slim-${DEBIAN} AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends build-essential cmake pkg-config \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY schemas schemas
COPY devnet devnet
COPY examples examples
COPY benches benches
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --locked --release -p kas402 --bin kas402 \
 && install -D -m 0755 target/release/kas402 /out/kas402

FROM debian:${DEBIAN}-slim AS run
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --system --gid 10001 kas402 \
 && useradd --system --uid 10001 --gid 10001 --home-dir /var/lib/kas402 --shell /usr/sbin/nologin kas402 \
 && install -d -o 10001 -g 10001 -m 0700 /var/lib/kas402 /run/kas402
COPY --from=build /out/kas402 /usr/local/bin/kas402
USER 10001:10001
WORKDIR /var/lib/kas402
VOLUME /var/lib/kas402
ENV KAS402_CONFIG=/etc/kas402/kas402.yaml
ENV KAS402_ADMIN=unix:/run/kas402/admin.sock
EXPOSE 8402
STOPSIGNAL SIGTERM
# Alive, not ready: a gateway without its node still serves the free routes and must not be restarted for it.
HEALTHCHECK --interval=15s --timeout=10s --start-period=30s --retries=3 CMD ["/usr/local/bin/kas402", "health"]
ENTRYPOINT ["/usr/local/bin/kas402"]
CMD ["run"]
