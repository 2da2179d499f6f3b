# What people and CI run. Everything else is cargo.
.PHONY: demo test check bench bench-channels bench-compare bench-media bench-remote long docs clean

# Beside the defaults: the VP8 decoder, whose libvpx scripts/setup installs, and where pools of nodes keep their leases, which
# needs protoc. `make demo FEATURES=` goes without.
FEATURES ?= --features vp8,etcd,kubernetes

# A hub, three cameras that play the shipped clip, and the node, with a live table. ARGS="--cameras 1"
demo:
	scripts/setup
	cargo run --locked --release $(FEATURES) -- demo $(ARGS)

# Tests are built with these too: they link nothing, and the tests see to it that a provider that cannot run is an error, and that
# traces are sent.
PROVIDERS = --features cuda,tensorrt,openvino,xnnpack,coreml,otlp

# All that has to hold before a change lands. The two floors below the node are also checked with as little of them as can be.
test: check-format
	scripts/setup --test
	cargo clippy --locked --workspace --all-targets $(FEATURES) -- -D warnings
	cargo clippy --locked -p twinsight --lib --test node $(FEATURES) --features otlp -- -D warnings
	cargo clippy --locked -p twinsight-client --no-default-features -- -D warnings
	.venv/bin/python scripts/test --locked --workspace $(FEATURES) $(PROVIDERS)

# The quick part of it: codecs and decoding, everything of them, in a minute from nothing.
check: check-format
	cargo test --locked -p twinsight-media --all-features

.PHONY: check-format
check-format:
	cargo fmt --all --check

# Each stage alone, then how well tracks and counts of lines fit the annotated clip.
bench:
	scripts/setup --test
	cargo bench --locked $(FEATURES) $(ARGS)
	cargo build --locked --release $(FEATURES) --bin twinsight
	.venv/bin/python benches/mot.py
	.venv/bin/python benches/crossings.py

# Data channels from Rust and Python to Rust and Python, side by side.
bench-channels:
	scripts/setup --test
	FEATURES="$(FEATURES)" benches/channels $(ARGS)

# The node beside a Python node and beside decoding and inference alone: a table of goals, and docs/images. Half an hour.
bench-compare:
	scripts/setup --test
	cargo build --locked --release $(FEATURES) --bin twinsight --example bare_decode --example bare_loop --example watch_events
	.venv/bin/python benches/compare/compare.py $(ARGS)

# Media streams of this crate and the official clients, side by side.
bench-media:
	scripts/setup --test
	FEATURES="$(FEATURES)" benches/media $(ARGS)

# What a model on a server costs and brings, with the real Triton beside the node.
bench-remote:
	scripts/setup --test
	cargo build --locked --release $(FEATURES) --bin twinsight
	.venv/bin/python benches/remote.py $(ARGS)

# Writes docs/reference/configuration.md, and the reference of the manifest in docs/models.md, from the code.
docs:
	DOCS_RENEW=1 cargo test --locked $(FEATURES) --test docs the_reference

# What takes longer: licences, bans and sources of all dependencies, and the tests that are marked as long.
long: .tools/bin/cargo-deny
	scripts/setup --test
	.tools/bin/cargo-deny --locked --all-features check licenses bans sources
	cargo test --locked --workspace --release $(FEATURES) -- --ignored

.tools/bin/cargo-deny:
	cargo install --locked --root .tools cargo-deny@0.20.2

clean:
	cargo clean
	rm -rf .runtime .tools .venv .npm
