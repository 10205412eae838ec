//! The protocol spoken by hand: a client that sends exactly the bytes it is given, frames as they come, and a
//! scripted server ([`Fake`]) that says what it likes. Blocking, and nothing waits forever: silence fails the test.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};

/// Silence longer than this is a hang.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// One message with a type byte.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// What follows the length.
    pub body: Vec<u8>,
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.body[..self.body.len().min(300)];
        write!(f, "{}[{}]", char::from(self.kind).escape_default(), shown.escape_ascii())
    }
}

impl Frame {
    /// A field of an ErrorResponse or NoticeResponse; empty if it has none.
    pub fn field(&self, tag: u8) -> String {
        let fields = self.body.split(|&b| b == 0).filter(|f| f.first() == Some(&tag));
        fields.map(|f| String::from_utf8_lossy(&f[1..]).into_owned()).next().unwrap_or_default()
    }

    /// The first column of a DataRow, as text; `NULL` for NULL.
    pub fn column(&self) -> String {
        let head: [u8; 4] = self.body[2..6].try_into().expect("a DataRow has a column");
        match usize::try_from(i32::from_be_bytes(head)) {
            Ok(len) => String::from_utf8_lossy(&self.body[6..6 + len]).into_owned(),
            Err(_) => "NULL".into(),
        }
    }
}

/// Our end of a connection, towards a proxy, a server, or (in a [`Fake`]) a proxy that plays the client.
pub struct Raw {
    socket: TcpStream,
    buf: Vec<u8>,
    at: usize,
    /// Process id and secret from BackendKeyData.
    pub key: Vec<u8>,
    /// ParameterStatus messages seen during login.
    pub params: Vec<Frame>,
}

impl Raw {
    /// Connects and says nothing.
    pub fn connect(port: u16) -> Raw {
        Raw::over(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("somebody listens"))
    }

    fn over(socket: TcpStream) -> Raw {
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout for reading");
        socket.set_write_timeout(Some(PATIENCE)).expect("a timeout for writing");
        socket.set_nodelay(true).expect("a socket without delay");
        Raw { socket, buf: Vec::new(), at: 0, key: Vec::new(), params: Vec::new() }
    }

    /// Connects and logs in, up to ReadyForQuery, with whatever password method is asked for.
    #[track_caller]
    pub fn login(port: u16, user: &str, password: &str, database: &str) -> Raw {
        let mut raw = Raw::connect(port);
        raw.send(startup(3 << 16, &[("user", user), ("database", database)]));
        raw.authenticate(password);
        raw.settle_in();
        raw
    }

    /// Answers authentication requests up to AuthenticationOk.
    #[track_caller]
    pub fn authenticate(&mut self, password: &str) {
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        loop {
            let frame = self.expect(b'R');
            let (code, data) = frame.body.split_at(4);
            match code[3] {
                0 => return,
                10 => self.send(sasl_initial(SCRAM_SHA_256, scram.message())),
                11 => {
                    scram.update(data).expect("a server-first-message");
                    self.send(msg(b'p', scram.message()));
                }
                12 => scram.finish(data).expect("the server knows the password"),
                other => panic!("authentication method {other}"),
            }
        }
    }

    /// Reads from AuthenticationOk to ReadyForQuery.
    #[track_caller]
    pub fn settle_in(&mut self) {
        loop {
            let frame = self.frame().expect("a greeting");
            match frame.kind {
                b'S' => self.params.push(frame),
                b'K' => self.key = frame.body,
                b'Z' => return,
                _ => panic!("not a greeting: {frame:?}"),
            }
        }
    }

    /// Sends bytes.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the other side reads");
    }

    /// Sends bytes, or says why not.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.socket.write_all(bytes.as_ref())
    }

    /// The next frame; `None` when the connection is closed. Silence panics.
    #[track_caller]
    pub fn frame(&mut self) -> Option<Frame> {
        let head: [u8; 5] = self.take(5)?.try_into().expect("five bytes");
        let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        Some(Frame { kind: head[0], body: self.take(len - 4)? })
    }

    /// The next `n` bytes; `None` when the connection closes before.
    #[track_caller]
    pub fn take(&mut self, n: usize) -> Option<Vec<u8>> {
        while self.buf.len() - self.at < n {
            if !self.fill() {
                return None;
            }
        }
        let taken = self.buf[self.at..self.at + n].to_vec();
        self.at += n;
        Some(taken)
    }

    /// Reads and forgets `n` bytes; `each` is called for every piece, and may take its time. False when the connection
    /// closes before.
    #[track_caller]
    pub fn skim(&mut self, n: usize, mut each: impl FnMut(usize)) -> bool {
        let mut left = n;
        loop {
            let here = left.min(self.buf.len() - self.at);
            self.at += here;
            left -= here;
            each(n - left);
            if left == 0 {
                return true;
            }
            if !self.fill() {
                return false;
            }
        }
    }

    /// The head of the next frame: type, and bytes of body.
    #[track_caller]
    pub fn head(&mut self) -> (u8, usize) {
        let head = self.take(5).expect("a frame");
        (head[0], u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize - 4)
    }

    #[track_caller]
    fn fill(&mut self) -> bool {
        self.buf.drain(..self.at);
        self.at = 0;
        let mut chunk = [0; 16 << 10];
        match self.socket.read(&mut chunk) {
            Ok(n) => {
                self.buf.extend_from_slice(&chunk[..n]);
                n > 0
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                panic!("the other side hangs; it said {:?} before", self.buf.escape_ascii().to_string())
            }
            Err(_) => false,
        }
    }

    /// The next frame, of this type.
    #[track_caller]
    pub fn expect(&mut self, kind: u8) -> Frame {
        let frame = self.frame().unwrap_or_else(|| panic!("closed instead of {:?}", char::from(kind)));
        assert_eq!(char::from(frame.kind), char::from(kind), "{frame:?}");
        frame
    }

    /// All frames up to and including `n` ReadyForQuery, or to the end of the connection.
    #[track_caller]
    pub fn until_ready(&mut self, n: usize) -> Vec<Frame> {
        let (mut frames, mut ready) = (Vec::new(), 0);
        while ready < n {
            let Some(frame) = self.frame() else { break };
            ready += usize::from(frame.kind == b'Z');
            frames.push(frame);
        }
        frames
    }

    /// All frames up to and including one of this type.
    #[track_caller]
    pub fn until(&mut self, kind: u8) -> Vec<Frame> {
        let mut frames = Vec::new();
        loop {
            let frame = self.frame().unwrap_or_else(|| panic!("closed after {frames:?}"));
            let last = frame.kind == kind;
            frames.push(frame);
            if last {
                return frames;
            }
        }
    }

    /// All frames until the connection is closed.
    #[track_caller]
    pub fn until_closed(&mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.frame()).collect()
    }

    /// A simple Query and its answer.
    #[track_caller]
    pub fn query(&mut self, sql: &str) -> Vec<Frame> {
        self.send(query(sql));
        self.until_ready(1)
    }

    /// The first column of the first row of a simple Query.
    #[track_caller]
    pub fn value(&mut self, sql: &str) -> String {
        let frames = self.query(sql);
        match frames.iter().find(|f| f.kind == b'D') {
            Some(row) => row.column(),
            None => panic!("no row from {sql}: {frames:?}"),
        }
    }

    /// Says that we have no more to say, but listens on.
    pub fn half_close(&self) {
        self.socket.shutdown(Shutdown::Write).expect("an open connection");
    }

    /// Vanishes with a reset instead of a proper end.
    pub fn reset(self) {
        let socket = socket2::Socket::from(self.socket);
        let _ = socket.set_linger(Some(Duration::ZERO));
    }

    /// A second handle of the same connection, for writing from another thread.
    pub fn writer(&self) -> TcpStream {
        self.socket.try_clone().expect("a second handle")
    }
}

/// A message with a type byte.
pub fn msg(kind: u8, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let len = u32::try_from(body.len() + 4).expect("a message of less than 4 GB");
    [&[kind][..], &len.to_be_bytes(), body].concat()
}

/// A packet of the startup phase.
pub fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len() + 8).expect("a small packet");
    [&len.to_be_bytes()[..], &code.to_be_bytes(), body].concat()
}

/// SSLRequest.
pub fn ssl_request() -> Vec<u8> {
    packet(1234 << 16 | 5679, b"")
}

/// GSSENCRequest.
pub fn gss_request() -> Vec<u8> {
    packet(1234 << 16 | 5680, b"")
}

/// A StartupMessage.
pub fn startup(version: u32, params: &[(&str, &str)]) -> Vec<u8> {
    let mut body: Vec<u8> = params.iter().flat_map(|(n, v)| format!("{n}\0{v}\0").into_bytes()).collect();
    body.push(0);
    packet(version, &body)
}

/// CancelRequest for what BackendKeyData said.
pub fn cancel(port: u16, key: &[u8]) {
    let mut raw = Raw::connect(port);
    raw.send(packet(1234 << 16 | 5678, key));
    assert_eq!(raw.take(1), None, "a cancel request is answered by closing");
}

/// SASLInitialResponse.
pub fn sasl_initial(mechanism: &str, data: &[u8]) -> Vec<u8> {
    let len = i32::try_from(data.len()).expect("a short message");
    msg(b'p', [mechanism.as_bytes(), b"\0", &len.to_be_bytes(), data].concat())
}

/// Query.
pub fn query(sql: &str) -> Vec<u8> {
    msg(b'Q', format!("{sql}\0"))
}

/// Parse without parameter types.
pub fn parse(name: &str, sql: &str) -> Vec<u8> {
    msg(b'P', format!("{name}\0{sql}\0\0\0"))
}

/// Bind with parameters and results as text.
pub fn bind(portal: &str, statement: &str, params: &[&str]) -> Vec<u8> {
    let mut body = format!("{portal}\0{statement}\0\0\0").into_bytes();
    body.extend_from_slice(&u16::try_from(params.len()).expect("few parameters").to_be_bytes());
    for param in params {
        body.extend_from_slice(&u32::try_from(param.len()).expect("short parameters").to_be_bytes());
        body.extend_from_slice(param.as_bytes());
    }
    body.extend_from_slice(&[0, 0]);
    msg(b'B', body)
}

/// Describe of a statement (`S`) or portal (`P`).
pub fn describe(kind: char, name: &str) -> Vec<u8> {
    msg(b'D', format!("{kind}{name}\0"))
}

/// Close of a statement (`S`) or portal (`P`).
pub fn close(kind: char, name: &str) -> Vec<u8> {
    msg(b'C', format!("{kind}{name}\0"))
}

/// Execute of a portal, for at most `rows` rows (0: all).
pub fn execute(portal: &str, rows: u32) -> Vec<u8> {
    msg(b'E', [portal.as_bytes(), b"\0", &rows.to_be_bytes()].concat())
}

/// Sync.
pub fn sync() -> Vec<u8> {
    msg(b'S', b"")
}

/// Flush.
pub fn flush() -> Vec<u8> {
    msg(b'H', b"")
}

/// A scripted server's ErrorResponse.
pub fn error(fields: &[(char, &str)]) -> Vec<u8> {
    let fields: String = fields.iter().map(|(tag, text)| format!("{tag}{text}\0")).collect();
    msg(b'E', fields + "\0")
}

/// A scripted server's RowDescription of one text column, one row of it, CommandComplete, ReadyForQuery.
pub fn one_row(value: &str) -> Vec<u8> {
    [row_description(), data_row(value), msg(b'C', "SELECT 1\0"), ready('I')].concat()
}

/// RowDescription of one text column.
pub fn row_description() -> Vec<u8> {
    let mut body = b"\0\x01x\0".to_vec();
    body.extend_from_slice(&[0; 6]);
    body.extend_from_slice(&25u32.to_be_bytes());
    body.extend_from_slice(&[0xff; 6]);
    body.extend_from_slice(&[0, 0]);
    msg(b'T', body)
}

/// DataRow of one column.
pub fn data_row(value: &str) -> Vec<u8> {
    let len = u32::try_from(value.len()).expect("a short value");
    msg(b'D', [b"\0\x01", &len.to_be_bytes()[..], value.as_bytes()].concat())
}

/// ReadyForQuery.
pub fn ready(status: char) -> Vec<u8> {
    msg(b'Z', status.to_string())
}

/// A server that a test scripts. Ends with the value; its scripts end when the proxy hangs up on them.
pub struct Fake {
    /// Where it listens.
    pub port: u16,
    /// Cancel requests that came.
    pub cancels: Arc<AtomicUsize>,
    /// Ordinary connections that came.
    pub visits: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
}

impl Fake {
    /// Runs `script` for each connection, with its number (from 0), after its startup packet has been read.
    pub fn start(script: impl Fn(usize, &mut Raw) + Send + Sync + 'static) -> Fake {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let fake = Fake { port, cancels: Arc::default(), visits: Arc::default(), over: Arc::default() };
        let (cancels, visits, over) = (fake.cancels.clone(), fake.visits.clone(), fake.over.clone());
        let script = Arc::new(script);
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                if over.load(SeqCst) {
                    return;
                }
                let (script, cancels, visits) = (script.clone(), cancels.clone(), visits.clone());
                thread::spawn(move || visit(Raw::over(socket), &*script, &cancels, &visits));
            }
        });
        fake
    }

    /// As [`Fake::start`], for what comes after a login without password.
    pub fn greeting(script: impl Fn(usize, &mut Raw) + Send + Sync + 'static) -> Fake {
        Fake::start(move |n, raw| {
            raw.greet();
            script(n, raw);
        })
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.over.store(true, SeqCst);
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

fn visit(mut raw: Raw, script: &dyn Fn(usize, &mut Raw), cancels: &AtomicUsize, visits: &AtomicUsize) {
    let Some(head) = raw.take(8) else { return };
    let len = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
    if raw.take(len - 8).is_none() {
        return;
    }
    if head[4..] == (1234u32 << 16 | 5678).to_be_bytes() {
        cancels.fetch_add(1, SeqCst);
        return;
    }
    script(visits.fetch_add(1, SeqCst), &mut raw);
}

impl Raw {
    /// As a server: lets the client in and tells it what clients are told.
    pub fn greet(&mut self) {
        let param = |name: &str, value: &str| msg(b'S', format!("{name}\0{value}\0"));
        let greeting = [
            msg(b'R', [0; 4]),
            param("server_version", "18.0"),
            param("client_encoding", "UTF8"),
            param("standard_conforming_strings", "on"),
            msg(b'K', [0, 0, 0, 7, 1, 2, 3, 4]),
            ready('I'),
        ];
        let _ = self.try_send(greeting.concat());
    }

    /// As a server: answers simple Queries for as long as they come; `answer` may give up by returning false.
    pub fn serve(&mut self, mut answer: impl FnMut(&str, &mut Raw) -> bool) {
        while let Some(frame) = self.frame() {
            let sql =
                String::from_utf8_lossy(frame.body.strip_suffix(b"\0").unwrap_or(&frame.body)).into_owned();
            let done = match frame.kind {
                b'X' => true,
                b'Q' if sql.is_empty() => self.try_send([msg(b'I', b""), ready('I')].concat()).is_err(),
                _ => !answer(&sql, self),
            };
            if done {
                return;
            }
        }
    }
}
