# make demo           paid requests and a channel on a real node, told step by step (ONCE=1: end after the story)
# make test           every test
# make check          format, lints, the pure core by itself, known advisories
# make fuzz           every decoder under a coverage-guided fuzzer, FUZZ_SECONDS=600 for each target
# make bench          speed, against a bare pingora and nginx
# make build          what demo and test need, compiled once
#
# Missing Debian packages are installed first. What is built lies outside this folder: CARGO_TARGET_DIR,
# by default ~/.cache/kas402/target.

ONCE ?=
FUZZ_SECONDS ?= 600
export ONCE FUZZ_SECONDS

.PHONY: demo test check fuzz bench build setup clean help
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# \{0,1\}//p' Makefile

setup:
	@scripts/setup

build:
	@scripts/setup
	@scripts/build

demo:
	@scripts/setup
	@scripts/demo

test:
	@scripts/setup test
	@scripts/test

check:
	@scripts/setup
	@scripts/check

fuzz:
	@scripts/setup
	@scripts/fuzz

bench:
	@scripts/setup test bench
	@scripts/bench

clean:
	@scripts/clean
