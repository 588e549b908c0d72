//! Child processes: pinned to a core, logged to a file, measured by /proc, ended with their owner.

use crate::Fallible;
use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// The system under test.
pub const SERVER_CORE: usize = 0;
/// Load generator and upstream.
pub const LOAD_CORE: usize = 1;

const START: Duration = Duration::from_secs(20);

/// A running program; dropping it kills it.
pub struct Process {
    pub child: Child,
    log: PathBuf,
}

/// `program`, to be run on one core only. exec keeps the process id, so it is the program's own.
pub fn pinned(core: usize, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.arg("--cpu-list").arg(core.to_string()).arg(program);
    command
}

/// The same for the thread that calls it.
pub fn pin_this_thread(core: usize) -> Fallible<()> {
    // PID/task/TID
    let own = fs::read_link("/proc/thread-self")?;
    pin(&["--pid"], own.file_name().ok_or("/proc/thread-self names no thread")?, core)
}

/// The same for a program that runs already, with all its threads.
pub fn pin_process(id: u32, core: usize) -> Fallible<()> {
    pin(&["--all-tasks", "--pid"], id.to_string().as_ref(), core)
}

fn pin(of: &[&str], id: &std::ffi::OsStr, core: usize) -> Fallible<()> {
    let pinned = Command::new("taskset").args(of).arg("--cpu-list").arg(core.to_string()).arg(id).output()?;
    if pinned.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&pinned.stderr).into()) }
}

impl Process {
    /// Standard error, and standard output unless it is piped, go to `log`.
    pub fn spawn(mut command: Command, log: PathBuf) -> Fallible<Self> {
        let file = File::create(&log)?;
        command.stdin(Stdio::null()).stderr(file);
        let child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        Ok(Self { child, log })
    }

    /// Waits until the program accepts connections.
    pub fn listening(mut self, address: SocketAddr) -> Fallible<Self> {
        let until = Instant::now() + START;
        while TcpStream::connect(address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                return Err(self.failed(&format!("ended with {status}")));
            }
            if Instant::now() > until {
                return Err(self.failed("does not listen"));
            }
            // why: another program's listening socket is no event here
            sleep(Duration::from_millis(20));
        }
        Ok(self)
    }

    pub fn failed(&self, what: &str) -> Box<dyn std::error::Error> {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(10).collect();
        format!("{} {what}; its last words:\n{}", self.log.display(), tail.into_iter().rev().collect::<Vec<_>>().join("\n")).into()
    }

    /// User and system time used so far, by all threads.
    pub fn cpu_seconds(&self) -> Fallible<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The command's name, in parentheses, may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(')').ok_or("/proc/PID/stat has no name")?.1.split_whitespace().collect();
        let ticks = |index: usize| -> Fallible<u64> { Ok(fields.get(index).ok_or("/proc/PID/stat is short")?.parse()?) };
        // utime and stime are fields 14 and 15 of the whole; Linux on every common machine counts 100 ticks a second.
        Ok((ticks(11)? + ticks(12)?) as f64 / 100.0)
    }

    /// Resident memory, KiB.
    pub fn resident_kib(&self) -> Fallible<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("/proc/PID/status has no VmRSS")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A loopback address nobody listens on at this moment, for programs that cannot choose one themselves.
pub fn free_address() -> Fallible<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
