//! One question to one listener of an Ory service: does `/health/ready` answer 200? Asked over the ways that there may be
//! to it from here: what the stack publishes, the engine's networks, a program inside of one of its containers.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::mpsc;
use std::time::Duration;

use ory_runner::at_once::work;
use ory_runner::process::{self, Invocation};

/// How long one probe may take. Shorter than what docker-proxy lets a connection hang that it accepted
/// too early.
const PROBE: Duration = Duration::from_millis(200);

/// What Ory's servers, as all of Go's, answer to who doesn't speak TLS with one that does.
const SPEAKS_TLS: &str = "Client sent an HTTP request to an HTTPS server";

/// What is there in Ory's alpine images.
const WGET: &str = "command -v wget >/dev/null || exit 127; for url in http https; do wget -q --no-check-certificate -O /dev/null \"$url://127.0.0.1:$0/health/ready\" \
                    && exit 0; done; exit 1";

/// What is there in PostgreSQL's images, for one of Ory's without any program. The admin port of Kratos before v26 has its
/// health elsewhere.
const BASH: &str = "for path in /health/ready /admin/health/ready; do exec 3<>\"/dev/tcp/$0/$1\" || exit 2; \
                    printf 'GET %s HTTP/1.0\\r\\nHost: xtask\\r\\n\\r\\n' \"$path\" >&3; read -r _ status _ <&3; \
                    [ \"$status\" = 200 ] && exit 0; done; exit 1";

/// A way to a listener.
#[derive(Debug, Clone)]
pub enum Way {
    /// A published port, or an address in the engine's networks.
    Address(String),
    /// A program in a container.
    Exec(Box<Invocation>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Ready,
    /// Something is there, and isn't ready.
    NotReady,
    /// Nothing is there, as far as this way goes.
    Silence,
}

/// What of a container is asked, from the inside.
pub fn wget(exec: Invocation, port: u16) -> Way {
    Way::Exec(Box::new(exec.args(["sh", "-c", WGET]).arg(port.to_string())))
}

/// The same from another container of its network.
pub fn bash(exec: Invocation, host: &str, port: u16) -> Way {
    Way::Exec(Box::new(exec.args(["bash", "-c", BASH, host]).arg(port.to_string())))
}

/// Whether a listener is ready, over the first way that leads to it: a port that this machine doesn't reach may be the port
/// of another one, whose engine is used here. `few`: the ways that cost a process are left out.
pub fn is_ready(ways: &[Way], few: bool) -> bool {
    for way in ways.iter().filter(|way| !few || matches!(way, Way::Address(_))) {
        match way.ask() {
            Answer::Ready => return true,
            Answer::NotReady => return false,
            Answer::Silence => {}
        }
    }
    false
}

/// The URL of an address that something listens at: of TLS, where it speaks that.
pub fn url(address: &str) -> String {
    let scheme = if matches!(get(address), Ok((_, true))) { "https" } else { "http" };
    format!("{scheme}://{address}")
}

impl Way {
    fn ask(&self) -> Answer {
        match self {
            Self::Address(address) => match get(address) {
                Ok((200, _)) => Answer::Ready,
                Ok((_, true)) => ask_tls(address),
                Ok(_) => Answer::NotReady,
                Err(answer) => answer,
            },
            Self::Exec(command) => match command.output().map(|output| output.status.code()) {
                Ok(Some(0)) => Answer::Ready,
                Ok(Some(1)) => Answer::NotReady,
                _ => Answer::Silence,
            },
        }
    }
}

/// The status of an answer, and whether it says that TLS is spoken there. Redirects are followed: the admin port of Kratos
/// before v26 has its health elsewhere.
fn get(address: &str) -> Result<(u16, bool), Answer> {
    let (answer, wait) = mpsc::channel();
    let request = minreq::get(format!("http://{address}/health/ready")).with_timeout(1);
    // The library counts in whole seconds: the thread is left to itself when that is too long.
    std::thread::spawn(work(move || _ = answer.send(request.send())));
    match wait.recv_timeout(PROBE) {
        Ok(Ok(said)) => {
            let is_tls = said.status_code == 400 && said.as_str().is_ok_and(|text| text.contains(SPEAKS_TLS));
            Ok((said.status_code, is_tls))
        }
        // Nobody listens, or the address is none of this machine's networks. What docker-proxy accepts, and drops, is there.
        Ok(Err(minreq::Error::IoError(error)))
            if [ErrorKind::ConnectionRefused, ErrorKind::HostUnreachable, ErrorKind::NetworkUnreachable]
                .contains(&error.kind()) =>
        {
            Err(Answer::Silence)
        }
        Err(_) if !address.starts_with("127.") => Err(Answer::Silence),
        _ => Err(Answer::NotReady),
    }
}

/// The certificate may be anybody's: nothing is told, and nothing is believed but that it answers.
fn ask_tls(address: &str) -> Answer {
    static CURL: LazyLock<Option<std::path::PathBuf>> = LazyLock::new(|| process::find("curl"));
    let Some(curl) = CURL.as_ref() else { return Answer::Silence };
    let url = format!("https://{address}/health/ready");
    let ask = Invocation::new(curl, Path::new(".")).args([
        "-skL",
        "--max-time",
        "1",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
    ]);
    match ask.arg(url).output() {
        Ok(output) if output.stdout == b"200" => Answer::Ready,
        _ => Answer::NotReady,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// A server that answers each request with this, and its address.
    fn server(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let _ = stream.read(&mut [0; 1024]);
                stream.write_all(answer.as_bytes()).expect("written");
            }
        });
        address
    }

    fn nobody() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address").to_string()
    }

    #[test]
    fn the_first_way_that_leads_to_a_listener_counts() {
        let ready = Way::Address(server("HTTP/1.0 200 OK\r\n\r\n"));
        let starting = Way::Address(server("HTTP/1.0 503 Service Unavailable\r\n\r\n"));
        let nobody = Way::Address(nobody());
        let inside = Way::Exec(Box::new(Invocation::new("true", Path::new("."))));
        assert!(is_ready(&[nobody.clone(), ready.clone()], true));
        assert!(!is_ready(&[starting, ready], true));
        assert!(is_ready(&[nobody.clone(), inside.clone()], false));
        assert!(!is_ready(&[nobody, inside], true));
        assert!(!is_ready(&[], false));
    }

    #[test]
    fn a_server_that_speaks_tls_is_known_by_what_it_answers_to_others() {
        let tls = server("HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n");
        assert_eq!(url(&tls), format!("https://{tls}"));
        let plain = server("HTTP/1.0 400 Bad Request\r\n\r\nno\n");
        assert_eq!(url(&plain), format!("http://{plain}"));
    }
}
