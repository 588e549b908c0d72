# make demo           paid requests and a channel on a real node, told step by step (ONCE=1: end after the story)
# make test           every test
# make check          format, lints, the pure core by itself, known advisories
# make bench          speed, against a bare pingora and nginx
# make build          what demo and test need, compiled once
#
# Missing Debian packages are installed first. What is built lies outside this folder: CARGO_TARGET_DIR,
# by default ~/.cache/kas402/target.

ONCE ?=
export ONCE

.PHONY: demo test check bench build setup clean help
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

bench:
	@scripts/setup test bench
	@scripts/bench

clean:
	@scripts/clean
