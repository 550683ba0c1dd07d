//! A bare repository behind a real server: a file, a git daemon, http and https with and without
//! a login (git http-backend behind nginx), ssh.
//!
//! Everything listens on the loopback on a port of its own and ends with the [`Remote`].
//! A server that is not installed fails the test that asks for it, unless
//! `GIT_INTAKE_SKIP_MISSING_SERVERS` is set: then the test says so and passes.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, dead_code)]

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// What a web server wants to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    None,
    /// [`USER`] and [`PASSWORD`]
    Basic,
    /// [`TOKEN`]
    Bearer,
}

pub const USER: &str = "intake";
pub const PASSWORD: &str = "correct horse";
pub const TOKEN: &str = "battery-staple-1";

/// A bare repository and the way to it.
pub struct Remote {
    pub url: String,
    /// The bare repository on the disk.
    pub path: PathBuf,
    /// For https: the certificate to trust.
    pub ca_file: Option<PathBuf>,
    /// For ssh: the value of `GIT_SSH_COMMAND`.
    pub ssh_command: Option<String>,
    pub auth: Auth,
    pub dir: TempDir,
    servers: Vec<Child>,
}

impl Drop for Remote {
    fn drop(&mut self) {
        for server in &mut self.servers {
            // The workers that a server forked would outlive it. It may have ended by itself; then
            // there is nothing to end.
            let group = rustix::process::Pid::from_child(server);
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            let _ = server.wait();
        }
    }
}

/// Git without the configuration of whoever runs the tests.
pub fn git(dir: &Path) -> Command {
    let mut git = Command::new("git");
    git.current_dir(dir);
    for (name, value) in ENVIRONMENT {
        git.env(name, value);
    }
    git
}

pub const ENVIRONMENT: [(&str, &str); 11] = [
    ("HOME", "/nonexistent"),
    ("XDG_CONFIG_HOME", "/nonexistent"),
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_AUTHOR_NAME", "A U Thor"),
    ("GIT_AUTHOR_EMAIL", "author@example.com"),
    ("GIT_AUTHOR_DATE", "1700000000 +0000"),
    ("GIT_COMMITTER_NAME", "C O Mitter"),
    ("GIT_COMMITTER_EMAIL", "committer@example.com"),
    ("GIT_COMMITTER_DATE", "1700000000 +0000"),
];

/// Runs git, which must succeed, and gives what it printed.
pub fn run(dir: &Path, args: &[&str]) -> String {
    let output = git(dir).args(args).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {args:?} in {}: {stderr}", dir.display());
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// Whether all of `programs` are here. If not, and skipping was not allowed, panics.
pub fn installed(programs: &[&str]) -> bool {
    let missing: Vec<_> = programs.iter().filter(|it| find(it).is_none()).collect();
    if missing.is_empty() {
        return true;
    }
    let skip = std::env::var_os("GIT_INTAKE_SKIP_MISSING_SERVERS").is_some();
    assert!(skip, "not installed: {missing:?}; set GIT_INTAKE_SKIP_MISSING_SERVERS to skip");
    eprintln!("SKIPPED: not installed: {missing:?}");
    false
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let places = path.split(':').chain(["/usr/sbin", "/sbin", "/usr/local/sbin"]);
    places.map(|it| Path::new(it).join(program)).find(|it| it.is_file())
}

fn exec_path() -> PathBuf {
    run(Path::new("/"), &["--exec-path"]).into()
}

impl Remote {
    fn bare() -> Remote {
        let dir = tempfile::Builder::new().prefix("remote-").tempdir().unwrap();
        let path = dir.path().join("repo.git");
        run(dir.path(), &["init", "--quiet", "--bare", "-b", "main", "repo.git"]);
        run(&path, &["config", "http.receivepack", "true"]);
        let url = path.to_str().unwrap().to_owned();
        let (ca_file, ssh_command) = (None, None);
        Remote { url, path, ca_file, ssh_command, auth: Auth::None, dir, servers: Vec::new() }
    }

    /// A path.
    pub fn file() -> Remote {
        Remote::bare()
    }

    /// `git://`, if git's daemon is here.
    pub fn daemon() -> Option<Remote> {
        let mut remote = Remote::bare();
        let program = exec_path().join("git-daemon");
        if !program.is_file() && !installed(&["git-daemon"]) {
            return None;
        }
        let port = free_port();
        let mut daemon = Command::new(program);
        daemon
            .args(["--listen=127.0.0.1", "--export-all", "--enable=receive-pack", "--reuseaddr"])
            .arg(format!("--port={port}"))
            .arg(format!("--base-path={}", remote.dir.path().display()))
            .envs(ENVIRONMENT);
        remote.serve(daemon, port);
        remote.url = format!("git://127.0.0.1:{port}/repo.git");
        Some(remote)
    }

    /// `http://`, if nginx and fcgiwrap are here.
    pub fn http(auth: Auth) -> Option<Remote> {
        Remote::web(auth, false, "")
    }

    /// `https://`, if nginx and fcgiwrap are here.
    pub fn https(auth: Auth) -> Option<Remote> {
        Remote::web(auth, true, "")
    }

    /// A web server with lines of its own in its `server` block.
    pub fn web(auth: Auth, tls: bool, extra: &str) -> Option<Remote> {
        if !installed(&["nginx", "fcgiwrap", "openssl"]) {
            return None;
        }
        let mut remote = Remote::bare();
        remote.auth = auth;
        let dir = remote.dir.path().to_owned();
        let port = free_port();
        let socket = dir.join("cgi.sock");
        let mut cgi = Command::new(find("fcgiwrap").unwrap());
        cgi.arg("-s").arg(format!("unix:{}", socket.display())).arg("-c").arg("2");
        cgi.envs(ENVIRONMENT).stdin(Stdio::null()).stdout(Stdio::null());
        cgi.stderr(fs::File::create(dir.join("cgi.log")).unwrap());
        remote.servers.push(cgi.process_group(0).spawn().unwrap());
        let mut listen = format!("listen 127.0.0.1:{port}");
        if tls {
            let certificate = certificate(&dir);
            listen.push_str(&format!(
                " ssl http2; ssl_certificate {c}/cert.pem; ssl_certificate_key {c}/key.pem",
                c = certificate.display()
            ));
            remote.ca_file = Some(certificate.join("cert.pem"));
        }
        let guard = match auth {
            Auth::None => String::new(),
            Auth::Basic => {
                fs::write(dir.join("users"), format!("{USER}:{{PLAIN}}{PASSWORD}\n")).unwrap();
                format!("auth_basic git; auth_basic_user_file {}/users;", dir.display())
            }
            Auth::Bearer => format!(
                "add_header WWW-Authenticate 'Bearer realm=\"git\"' always; \
                 if ($http_authorization != \"Bearer {TOKEN}\") {{ return 401; }}"
            ),
        };
        fs::write(dir.join("nginx.conf"), nginx_conf(&dir, &listen, &guard, extra)).unwrap();
        let mut nginx = Command::new(find("nginx").unwrap());
        nginx.arg("-c").arg(dir.join("nginx.conf")).arg("-p").arg(&dir);
        nginx.arg("-e").arg(dir.join("error.log"));
        remote.serve(nginx, port);
        let scheme = if tls { "https" } else { "http" };
        remote.url = format!("{scheme}://localhost:{port}/repo.git");
        Some(remote)
    }

    /// `ssh://`, if OpenSSH is here.
    pub fn ssh() -> Option<Remote> {
        if !installed(&["sshd", "ssh", "ssh-keygen"]) {
            return None;
        }
        let mut remote = Remote::bare();
        let dir = remote.dir.path().to_owned();
        let port = free_port();
        for key in ["host", "user"] {
            let keygen = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(dir.join(key))
                .output();
            assert!(keygen.unwrap().status.success());
        }
        // Without it sshd does not start as root; it may not be ours to make.
        let _ = fs::create_dir_all("/run/sshd");
        fs::copy(dir.join("user.pub"), dir.join("authorized")).unwrap();
        let host = fs::read_to_string(dir.join("host.pub")).unwrap();
        fs::write(dir.join("known"), format!("[127.0.0.1]:{port} {host}")).unwrap();
        let d = dir.display();
        let config = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {d}/host\nPidFile none\n\
             AuthorizedKeysFile {d}/authorized\nStrictModes no\nUsePAM no\n\
             PermitRootLogin yes\nPasswordAuthentication no\nMaxStartups 100\n"
        );
        fs::write(dir.join("sshd_config"), config).unwrap();
        let mut sshd = Command::new(find("sshd").unwrap());
        sshd.arg("-D").arg("-e").arg("-f").arg(dir.join("sshd_config"));
        remote.serve(sshd, port);
        let user = Command::new("id").arg("-un").output().unwrap().stdout;
        let user = String::from_utf8(user).unwrap();
        remote.url = format!("ssh://{}@127.0.0.1:{port}{}", user.trim(), remote.path.display());
        remote.ssh_command = Some(format!(
            "ssh -F none -i {d}/user -o IdentitiesOnly=yes -o UserKnownHostsFile={d}/known \
             -o StrictHostKeyChecking=yes"
        ));
        Some(remote)
    }

    fn serve(&mut self, mut server: Command, port: u16) {
        let log = self.dir.path().join("server.log");
        let file = fs::File::create(&log).unwrap();
        server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let mut child = server.process_group(0).spawn().unwrap();
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let said = || fs::read_to_string(&log).unwrap_or_default();
            assert!(child.try_wait().unwrap().is_none(), "{server:?} has ended: {}", said());
            assert!(begun.elapsed() < Duration::from_secs(30), "{server:?}: {}", said());
            std::thread::sleep(Duration::from_millis(10));
        }
        self.servers.push(child);
    }

    /// Begins anew with another way to name objects.
    pub fn reformat(&self, object_format: &str) {
        fs::remove_dir_all(&self.path).unwrap();
        let format = format!("--object-format={object_format}");
        let path = self.path.to_str().unwrap();
        run(self.dir.path(), &["init", "--quiet", "--bare", "-b", "main", &format, path]);
        self.git(&["config", "http.receivepack", "true"]);
    }

    /// Runs git in the bare repository.
    pub fn git(&self, args: &[&str]) -> String {
        run(&self.path, args)
    }

    /// The value of a reference, if it exists.
    pub fn value(&self, name: &str) -> Option<String> {
        let output = git(&self.path).args(["rev-parse", "--verify", "--quiet", name]).output();
        let output = output.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        output.status.success().then(|| text.trim().to_owned())
    }

    /// Puts an executable hook in place.
    pub fn hook(&self, name: &str, script: &str) {
        let path = self.path.join("hooks").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The variables that git itself needs to reach this remote.
    pub fn environment(&self) -> Vec<(String, String)> {
        let mut out = Vec::new();
        out.extend(self.ssh_command.clone().map(|it| ("GIT_SSH_COMMAND".to_owned(), it)));
        let ca_file = self.ca_file.as_ref().map(|it| it.display().to_string());
        out.extend(ca_file.map(|it| ("GIT_SSL_CAINFO".to_owned(), it)));
        out
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// One certificate for all web servers of a run would be shared state; one each takes 20 ms.
fn certificate(dir: &Path) -> PathBuf {
    let openssl = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-days", "3650", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(dir.join("key.pem"))
        .arg("-out")
        .arg(dir.join("cert.pem"))
        .output()
        .unwrap();
    assert!(openssl.status.success(), "{}", String::from_utf8_lossy(&openssl.stderr));
    dir.to_owned()
}

fn nginx_conf(dir: &Path, listen: &str, guard: &str, extra: &str) -> String {
    let d = dir.display();
    let backend = exec_path().join("git-http-backend");
    format!(
        r#"daemon off; master_process off; pid {d}/nginx.pid;
events {{ worker_connections 64; }}
http {{
  access_log {d}/access.log;
  client_body_temp_path {d}/body; fastcgi_temp_path {d}/fastcgi; proxy_temp_path {d}/proxy;
  uwsgi_temp_path {d}/uwsgi; scgi_temp_path {d}/scgi;
  client_max_body_size 0;
  server {{
    {listen};
    {extra}
    location / {{
      {guard}
      fastcgi_pass unix:{d}/cgi.sock;
      fastcgi_read_timeout 300s;
      fastcgi_param SCRIPT_FILENAME {backend};
      fastcgi_param GIT_PROJECT_ROOT {d};
      fastcgi_param GIT_HTTP_EXPORT_ALL 1;
      fastcgi_param HOME /nonexistent;
      fastcgi_param GIT_CONFIG_NOSYSTEM 1;
      fastcgi_param GIT_CONFIG_GLOBAL /dev/null;
      fastcgi_param PATH_INFO $uri;
      fastcgi_param QUERY_STRING $query_string;
      fastcgi_param REQUEST_METHOD $request_method;
      fastcgi_param CONTENT_TYPE $content_type;
      fastcgi_param CONTENT_LENGTH $content_length;
      fastcgi_param HTTP_CONTENT_ENCODING $http_content_encoding;
      fastcgi_param REMOTE_USER $remote_user;
      fastcgi_param REMOTE_ADDR $remote_addr;
      fastcgi_param SERVER_PROTOCOL $server_protocol;
    }}
  }}
}}
"#,
        backend = backend.display()
    )
}
