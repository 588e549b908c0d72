//! The command over files, hostile input within bounds, and every case that a fuzzer found.

mod hostile;
mod replay;
mod verify;
