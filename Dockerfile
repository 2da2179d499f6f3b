# The node as a container: builds everything from the sources, ships the program, ONNX Runtime, models, clip and
# default configuration. Untested until a later change.

FROM rust:1.95-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ nasm python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# Fetches ONNX Runtime for this architecture into .runtime/, its hash pinned.
RUN scripts/setup
RUN cargo build --locked --release --bin twinsight

FROM debian:bookworm-slim
# Of the program (its decoder is C++) and of ONNX Runtime.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libstdc++6 \
    && rm -rf /var/lib/apt/lists/*
# The program looks for .runtime/, models/ and media/ in the working directory and in the folders above its own file.
WORKDIR /opt/twinsight
COPY --from=build /src/target/release/twinsight bin/
COPY --from=build /src/.runtime/onnxruntime .runtime/onnxruntime
COPY --from=build /src/LICENSE-APACHE /src/LICENSE-MIT ./
COPY --from=build /src/models models
COPY --from=build /src/media media
COPY --from=build /src/config config
ENV PATH=/opt/twinsight/bin:$PATH
USER 10001:10001

# Metrics and probes, on loopback unless TWINSIGHT_HTTP__LISTEN=0.0.0.0:9464 is set.
EXPOSE 9464
# Reads the variables of the container and the same file as the node, to know where it listens.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
    CMD ["twinsight", "health", "--config", "config/node.toml"]
ENTRYPOINT ["twinsight"]
CMD ["run", "--config", "config/node.toml"]
