//! Real Redis servers on free ports, each with a directory of its own, killed with the test. The store's own tests use this file too.
#![allow(dead_code)]

use std::{
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

pub struct Server {
    pub port: u16,
    directory: tempfile::TempDir,
    arguments: Vec<String>,
    child: Option<Child>,
}

/// Nothing is lost that was answered.
pub const SAFE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

impl Server {
    pub fn start(arguments: &[&str]) -> Self {
        let mut server = Self {
            port: free_port(),
            directory: tempfile::tempdir().unwrap(),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            child: None,
        };
        server.run();
        server
    }

    /// A sentinel with these lines of configuration.
    pub fn start_sentinel(configuration: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("sentinel.conf");
        std::fs::write(&file, configuration).unwrap();
        let arguments = vec![file.display().to_string(), "--sentinel".to_owned()];
        let mut sentinel = Self { port: free_port(), directory, arguments, child: None };
        sentinel.run();
        sentinel
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Where its files lie.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Over the same directory and port.
    pub fn run(&mut self) {
        let arguments = self.arguments.clone();
        self.run_with(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    }

    /// The same with other settings than its own, for once.
    pub fn run_with(&mut self, arguments: &[&str]) {
        let mut command = Command::new("redis-server");
        // The file of a sentinel comes first, and it has no data.
        if arguments.contains(&"--sentinel") {
            command.arg(arguments[0]).args(["--sentinel", "--port", &self.port.to_string(), "--bind", "127.0.0.1"]);
        } else {
            command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]);
            command.arg(self.directory.path()).args(arguments);
        }
        let child = command.stdout(Stdio::null()).spawn();
        let child = self.child.insert(child.expect("redis-server is installed (make installs it)"));
        wait_until("the server listens", || {
            // Whoever else has the port by now would answer as well.
            assert_eq!(child.try_wait().unwrap(), None, "the server ended: was its port {} taken?", self.port);
            TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that nobody has now.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(90);
    while !done() {
        assert!(Instant::now() < end, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(5)); // why: another process says nothing when it is ready
    }
}
