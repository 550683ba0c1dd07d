//! Faults from outside: the N-th system call of a process tree that changes anything is failed, torn
//! or made the last.
//!
//! A seccomp filter hands those calls to the test, which lets them go ahead, answers them itself, or
//! kills who asks (`seccomp_unotify(2)`). It sees every thread and raw system call, which a preloaded
//! library does not, and every process that the agent starts inherits it: what git does at the other
//! end of a pipe, in the remote's repository, is counted with the rest. That end may be another
//! machine in life, so a fault that lasts can stay on one side of the pipe.
//!
//! What is said on the standard streams is a conversation and changes nothing: it goes ahead.

use rustix::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// What happens at the chosen call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The process that makes it is killed before it.
    Kill,
    /// All processes of the tree are.
    KillAll,
    /// A write puts half of its bytes down, and the process that makes it is killed.
    Torn,
    /// It fails with this number.
    Errno(i32, Lasts),
}

/// For how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasts {
    Once,
    /// All later calls on the same side fail as well.
    Here,
    /// All later ones do, whoever makes them: both ends are on one disk.
    Everywhere,
}

/// On which side of the pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Agent,
    /// What the agent started, and what that started.
    Remote,
}

/// Where it happens.
#[derive(Debug, Clone, Copy)]
pub struct At {
    /// Counted from 1.
    pub nth: u64,
    pub fault: Fault,
}

/// One call that changes something.
#[derive(Debug, Clone)]
pub struct Call {
    pub side: Side,
    pub name: &'static str,
    /// The path or, for calls on an open file, the file behind it.
    pub path: String,
    /// The call failed because we said so.
    pub failed: bool,
}

/// What became of a run.
#[derive(Debug)]
pub struct Ran {
    pub status: ExitStatus,
    pub calls: Vec<Call>,
}

#[derive(Clone, Copy, PartialEq)]
enum Named {
    /// The file is the first argument, a descriptor.
    File,
    /// A path in this argument.
    Path(usize),
}

/// What changes something: its number, its name, and how to say to what.
const CALLS: [(libc::c_long, &str, Named); 27] = [
    (libc::SYS_write, "write", Named::File),
    (libc::SYS_pwrite64, "pwrite64", Named::File),
    (libc::SYS_writev, "writev", Named::File),
    (libc::SYS_openat, "openat", Named::Path(1)),
    (libc::SYS_rename, "rename", Named::Path(1)),
    (libc::SYS_renameat, "renameat", Named::Path(3)),
    (libc::SYS_renameat2, "renameat2", Named::Path(3)),
    (libc::SYS_link, "link", Named::Path(1)),
    (libc::SYS_linkat, "linkat", Named::Path(3)),
    (libc::SYS_symlink, "symlink", Named::Path(1)),
    (libc::SYS_symlinkat, "symlinkat", Named::Path(2)),
    (libc::SYS_unlink, "unlink", Named::Path(0)),
    (libc::SYS_unlinkat, "unlinkat", Named::Path(1)),
    (libc::SYS_mkdir, "mkdir", Named::Path(0)),
    (libc::SYS_mkdirat, "mkdirat", Named::Path(1)),
    (libc::SYS_rmdir, "rmdir", Named::Path(0)),
    (libc::SYS_ftruncate, "ftruncate", Named::File),
    (libc::SYS_fallocate, "fallocate", Named::File),
    (libc::SYS_copy_file_range, "copy_file_range", Named::File),
    (libc::SYS_sendfile, "sendfile", Named::File),
    (libc::SYS_fchmod, "fchmod", Named::File),
    (libc::SYS_fsync, "fsync", Named::File),
    (libc::SYS_fdatasync, "fdatasync", Named::File),
    (libc::SYS_syncfs, "syncfs", Named::File),
    (libc::SYS_sync_file_range, "sync_file_range", Named::File),
    (libc::SYS_chmod, "chmod", Named::Path(0)),
    // Only looked at by whoever wants to be told of files that are opened.
    (libc::SYS_openat2, "openat2", Named::Path(1)),
];

// From <linux/seccomp.h>.
const NOTIF_RECV: libc::c_ulong = 0xc050_2100;
const NOTIF_SEND: libc::c_ulong = 0xc018_2101;
const GO_AHEAD: u32 = 1;

#[repr(C)]
#[derive(Clone, Copy)]
struct Asked {
    id: u64,
    pid: u32,
    flags: u32,
    nr: i32,
    arch: u32,
    ip: u64,
    args: [u64; 6],
}

#[repr(C)]
struct Answered {
    id: u64,
    val: i64,
    error: i32,
    flags: u32,
}

/// Says whether this kernel and this sandbox let us in between.
pub fn is_possible() -> bool {
    let ran = std::panic::catch_unwind(|| run(Command::new("true"), None, |_, _| ()));
    ran.is_ok_and(|it| it.status.success())
}

/// What the outside sees of a run, and may change in it.
#[derive(Debug, Default)]
pub struct Lever {
    /// The fault is over.
    pub over: AtomicBool,
    /// The fault has struck.
    pub struck: AtomicBool,
    /// The process that was started, once it is.
    pub pid: AtomicU32,
}

/// Runs a command to the end of its last process, with a fault somewhere. `before` is told of each
/// call, with its number, before it goes ahead.
pub fn run(command: Command, at: Option<At>, before: impl FnMut(u64, &Call)) -> Ran {
    run_with(command, at, false, &Lever::default(), before)
}

/// The same, told of files that are opened for reading, too.
pub fn run_watched(command: Command, before: impl FnMut(u64, &Call)) -> Ran {
    run_with(command, None, true, &Lever::default(), before)
}

/// The same with a fault that somebody else ends.
pub fn run_until_over(command: Command, at: At, lever: &Lever) -> Ran {
    run_with(command, Some(at), false, lever, |_, _| ())
}

fn run_with(
    mut command: Command,
    at: Option<At>,
    reads: bool,
    lever: &Lever,
    mut before: impl FnMut(u64, &Call),
) -> Ran {
    let (listener, mut child) = start(&mut command, reads);
    lever.pid.store(child.id(), Ordering::SeqCst);
    let mut calls: Vec<Call> = Vec::new();
    loop {
        let mut ready = libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd, alive for the call.
        if unsafe { libc::poll(&raw mut ready, 1, -1) } < 0 {
            continue;
        }
        if ready.revents & libc::POLLIN == 0 {
            // Nobody is left who could ask.
            break;
        }
        // SAFETY: plain integers; the kernel wants them to be zero.
        let mut asked: Asked = unsafe { std::mem::zeroed() };
        // SAFETY: a value of the size the kernel expects.
        if unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_RECV, &raw mut asked) } != 0 {
            continue;
        }
        let mut call = call_of(&asked, &child);
        if call.path.starts_with("anon_inode:") || call.path.starts_with("socket:") {
            // Threads wake each other so, and people are answered: no disk has a say in it.
            reply(&listener, &asked, None);
            continue;
        }
        let n = calls.len() as u64 + 1;
        before(n, &call);
        let fault = at.filter(|it| n == it.nth || n > it.nth && goes_on(*it, &call, &calls));
        let fault = fault.filter(|_| !lever.over.load(Ordering::SeqCst));
        lever.struck.fetch_or(fault.is_some(), Ordering::SeqCst);
        match fault.map(|it| it.fault) {
            None => (),
            Some(Fault::Errno(..)) => call.failed = true,
            Some(Fault::Kill) => kill(asked.pid),
            Some(Fault::Torn) => {
                tear(&asked, call.name);
                kill(asked.pid);
            }
            Some(Fault::KillAll) => {
                kill(child.id());
                kill(asked.pid);
            }
        }
        // Who is killed may be quicker back in its call than it dies, so that is refused as well.
        let errno = fault.map(|it| match it.fault {
            Fault::Errno(number, _) => number,
            _ => libc::EIO,
        });
        calls.push(call);
        reply(&listener, &asked, errno);
    }
    Ran { status: child.wait().unwrap(), calls }
}

/// Lets a call go ahead, or has it fail.
fn reply(listener: &OwnedFd, asked: &Asked, errno: Option<i32>) {
    let (error, flags) = errno.map_or((0, GO_AHEAD), |it| (-it, 0));
    let mut answer = Answered { id: asked.id, val: 0, error, flags };
    // SAFETY: a value of the size the kernel expects. It fails for a process that is gone.
    unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_SEND, &raw mut answer) };
}

/// Says whether a fault that began earlier is one for this call, too.
fn goes_on(at: At, call: &Call, earlier: &[Call]) -> bool {
    match at.fault {
        // Who was not found by then, because it was not known, is killed when it is.
        Fault::KillAll | Fault::Errno(_, Lasts::Everywhere) => true,
        Fault::Errno(_, Lasts::Here) => {
            usize::try_from(at.nth - 1).is_ok_and(|it| earlier[it].side == call.side)
        }
        Fault::Kill | Fault::Torn | Fault::Errno(_, Lasts::Once) => false,
    }
}

fn start(command: &mut Command, reads: bool) -> (OwnedFd, Child) {
    let program = filter(reads);
    let (ours, theirs) = std::os::unix::net::UnixDatagram::pair().unwrap();
    let channel = theirs.as_raw_fd();
    // SAFETY: between fork and exec only system calls are made, on memory that was there before.
    unsafe {
        command.pre_exec(move || {
            let fd = install(&program)?;
            send(channel, fd)
        });
    }
    let child = command.spawn().unwrap();
    let listener = receive(ours.as_raw_fd());
    (listener, child)
}

fn filter(reads: bool) -> Vec<libc::sock_filter> {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const ABOVE: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
    const HAS: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
    const ANSWER: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    const ASK: u32 = libc::SECCOMP_RET_USER_NOTIF;
    const PASS: u32 = libc::SECCOMP_RET_ALLOW;
    let op = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let argument = |n: u32| 16 + 8 * n;
    let mut program = vec![op(LOAD, 0, 0, 0)];
    for (number, name, _) in CALLS {
        let number = u32::try_from(number).unwrap();
        match name {
            "openat2" if !reads => (),
            // Only where it may make or empty a file.
            "openat" if !reads => program.extend([
                op(EQUAL, 0, 4, number),
                op(LOAD, 0, 0, argument(2)),
                op(HAS, 0, 1, (libc::O_CREAT | libc::O_TRUNC) as u32),
                op(ANSWER, 0, 0, ASK),
                op(ANSWER, 0, 0, PASS),
            ]),
            // Not what is said on the standard streams.
            "write" | "writev" => program.extend([
                op(EQUAL, 0, 4, number),
                op(LOAD, 0, 0, argument(0)),
                op(ABOVE, 0, 1, 3),
                op(ANSWER, 0, 0, ASK),
                op(ANSWER, 0, 0, PASS),
            ]),
            _ => program.extend([op(EQUAL, 0, 1, number), op(ANSWER, 0, 0, ASK)]),
        }
    }
    program.push(op(ANSWER, 0, 0, PASS));
    program
}

fn install(program: &[libc::sock_filter]) -> io::Result<RawFd> {
    let filter =
        libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: the program outlives the calls; the kernel copies it.
    let fd = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const filter,
        )
    };
    match fd {
        -1 => Err(io::Error::last_os_error()),
        fd => Ok(fd as RawFd),
    }
}

/// Room for one descriptor in a control message.
#[repr(C, align(8))]
struct Control([u8; 32]);

fn message(part: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: plain integers and pointers, all of which may be zero.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    // SAFETY: arithmetic on a constant.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(4) } as usize;
    message
}

fn send(channel: RawFd, fd: RawFd) -> io::Result<()> {
    let mut byte = [b'x'];
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let mut control = Control([0; 32]);
    let message = message(&mut part, &mut control);
    // SAFETY: the control buffer has room for one header and one descriptor.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(4) as usize;
        libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(fd);
        match libc::sendmsg(channel, &raw const message, 0) {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}

fn receive(channel: RawFd) -> OwnedFd {
    let mut byte = [0];
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let mut control = Control([0; 32]);
    let mut message = message(&mut part, &mut control);
    // SAFETY: as above; what arrives is a descriptor that nobody else owns here.
    unsafe {
        assert_eq!(libc::recvmsg(channel, &raw mut message, libc::MSG_CMSG_CLOEXEC), 1);
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        assert!(!header.is_null(), "no descriptor came");
        OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<RawFd>().read_unaligned())
    }
}

/// Kills a process by the id of any of its threads.
fn kill(thread: u32) {
    let pid = i32::try_from(thread).ok().and_then(rustix::process::Pid::from_raw);
    // It may be gone already.
    let _ = pid.map(|it| rustix::process::kill_process(it, rustix::process::Signal::KILL));
}

fn call_of(asked: &Asked, child: &Child) -> Call {
    let agents = format!("/proc/{}/task/{}", child.id(), asked.pid);
    let side = if std::path::Path::new(&agents).exists() { Side::Agent } else { Side::Remote };
    let found = CALLS.iter().find(|it| it.0 == libc::c_long::from(asked.nr)).unwrap();
    let path = match found.2 {
        Named::File => {
            let link = format!("/proc/{}/fd/{}", asked.pid, asked.args[0]);
            let target = std::fs::read_link(link).unwrap_or_default();
            target.to_string_lossy().into_owned()
        }
        Named::Path(n) => {
            let bytes = memory(asked.pid, asked.args[n], 512);
            let end = bytes.iter().position(|it| *it == 0).unwrap_or(bytes.len());
            String::from_utf8_lossy(&bytes[..end]).into_owned()
        }
    };
    Call { side, name: found.1, path, failed: false }
}

/// Bytes of another process, as far as they can be read.
fn memory(pid: u32, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    // A string may end just before a page that is not there.
    for len in [len, 256, 64, 16] {
        let here = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: len };
        let there = libc::iovec { iov_base: at as *mut libc::c_void, iov_len: len };
        // SAFETY: `here` is as long as `bytes`; `there` is only read, by the kernel, with its checks.
        let read = unsafe {
            libc::process_vm_readv(pid as libc::pid_t, &raw const here, 1, &raw const there, 1, 0)
        };
        if let Ok(read) = usize::try_from(read) {
            bytes.truncate(read);
            return bytes;
        }
    }
    Vec::new()
}

/// Does half of a write in the name of the process.
fn tear(asked: &Asked, name: &str) {
    if name != "write" && name != "pwrite64" {
        return;
    }
    let half = usize::try_from(asked.args[2] / 2).unwrap().min(1 << 20);
    let bytes = memory(asked.pid, asked.args[1], half);
    // SAFETY: both give new descriptors or -1, and the write reads `bytes`.
    unsafe {
        let process = libc::syscall(libc::SYS_pidfd_open, asked.pid, 0);
        let file = libc::syscall(libc::SYS_pidfd_getfd, process, asked.args[0], 0) as RawFd;
        if file >= 0 {
            match name {
                "pwrite64" => {
                    libc::pwrite(file, bytes.as_ptr().cast(), bytes.len(), asked.args[3] as i64)
                }
                _ => libc::write(file, bytes.as_ptr().cast(), bytes.len()),
            };
            libc::close(file);
        }
        libc::close(process as RawFd);
    }
}
