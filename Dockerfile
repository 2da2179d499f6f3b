# The node as a container: program, ONNX Runtime, models, clip and default configuration on a base with nothing but
# the C and C++ libraries. No shell, no package manager; runs as uid 10001 on a read-only root. For x86_64 and
# aarch64. `scripts/check-dockerfile` runs these very steps without a Docker engine. How to run it: docs/guide/docker.md.

FROM rust:1.95-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ libvpx-dev nasm pkg-config protobuf-compiler python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# ONNX Runtime for this architecture into .runtime/, its hash pinned. A layer of its own, as it seldom changes.
COPY scripts/setup scripts/setup
RUN scripts/setup
# libvpx goes into the program, as the last stage has none: a folder with nothing but the static library, whatever the
# architecture calls its own.
ENV VPX_STATIC=1 VPX_LIB_DIR=/usr/lib/libvpx VPX_VERSION=1.12.0
RUN mkdir $VPX_LIB_DIR && ln -s "/usr/lib/$(uname -m)-linux-gnu/libvpx.a" $VPX_LIB_DIR/
# The dependencies, also a layer of their own: rebuilt only when these files change.
COPY Cargo.toml Cargo.lock ./
COPY crates/twinsight-media/Cargo.toml crates/twinsight-media/
COPY crates/twinsight-client/Cargo.toml crates/twinsight-client/
# Benches have to be there because Cargo.toml names them.
RUN mkdir -p src benches crates/twinsight-media/src crates/twinsight-client/src \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs crates/twinsight-media/src/lib.rs crates/twinsight-client/src/lib.rs \
    && sed -n '/^\[\[bench]]/{n;s/^name = "\(.*\)"/benches\/\1.rs/p}' Cargo.toml | xargs touch \
    && cargo build --locked --release --features vp8,etcd,kubernetes --bin twinsight \
    && rm -r src benches crates
COPY . .
# Cargo goes by times, and the sources may be older than the empty ones before.
RUN touch src/main.rs src/lib.rs crates/twinsight-media/src/lib.rs crates/twinsight-client/src/lib.rs \
    && cargo build --locked --release --features vp8,etcd,kubernetes --bin twinsight \
    && install -D -s target/release/twinsight /out/opt/twinsight/bin/twinsight \
    && cp -r models media config LICENSE-APACHE LICENSE-MIT /out/opt/twinsight/ \
    && mkdir /out/opt/twinsight/.runtime \
    && cp -r .runtime/onnxruntime /out/opt/twinsight/.runtime/

# glibc, libgcc, libstdc++, time zones and CA certificates, nothing else.
FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="Twinsight" \
      org.opencontainers.image.description="A computer-vision inference node: the freshest frames of WebRTC cameras in, detections out" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="0.1.0"
COPY --from=build /out/ /
# The program looks for models/, media/ and .runtime/ in the working directory and in the folders above its own file.
WORKDIR /opt/twinsight
ENV PATH=/opt/twinsight/bin
USER 10001:10001

# Metrics and probes, on loopback unless TWINSIGHT_HTTP__LISTEN=0.0.0.0:9464 is set.
EXPOSE 9464
# SIGTERM drains: what a stage has in hand still goes through the next ones, within 5 s.
STOPSIGNAL SIGTERM
# Reads the variables of the container and the same file as the node, to know where it listens.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["twinsight", "health", "--config", "config/node.toml"]
ENTRYPOINT ["twinsight"]
CMD ["run", "--config", "config/node.toml"]
