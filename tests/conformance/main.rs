//! The command over files, hostile input within bounds, and every case that a fuzzer found.

mod hostile;
mod measure;
mod messages;
mod replay;
mod verify;
