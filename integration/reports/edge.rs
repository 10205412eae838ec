//! A Varnish of one's own, with the configuration that is shipped.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// See the module. Ends with the value.
#[derive(Debug)]
pub struct Varnish {
    /// Where it listens.
    pub port: u16,
    dir: TempDir,
    child: Child,
}

impl Varnish {
    /// In front of an origin on this machine, listening on `port`.
    #[track_caller]
    pub fn before(origin: u16, port: u16) -> Varnish {
        let dir = TempDir::with_prefix("turnpike-varnish-").expect("a directory");
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/varnish/reports.vcl");
        let vcl =
            fs::read_to_string(shipped).expect("it is shipped").replace("\"9931\"", &format!("\"{origin}\""));
        fs::write(dir.path().join("reports.vcl"), vcl).expect("written");
        let log = fs::File::create(dir.path().join("log")).expect("a log");
        let path = |name: &str| dir.path().join(name).display().to_string();
        let program = ["/usr/sbin/varnishd", "/usr/bin/varnishd"].into_iter().find(|p| Path::new(p).exists());
        let child = Command::new(program.expect("scripts/setup peers installs varnish"))
            .args(["-F", "-j", "none", "-a", &format!("127.0.0.1:{port}"), "-s", "malloc,32m"])
            .args(["-n", &path("work"), "-f", &path("reports.vcl")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("varnish starts");
        let varnish = Varnish { port, dir, child };
        let deadline = Instant::now() + Duration::from_secs(60);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "varnish does not listen: {}", varnish.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        varnish
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Varnish {
    fn drop(&mut self) {
        // Asked to end, it ends its own child, too.
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(self.child.id() as i32),
            nix::sys::signal::Signal::SIGTERM,
        );
        let _ = self.child.wait();
    }
}
