//! Which processes listen at ports, as Linux tells in `/proc`.

use std::collections::BTreeMap;
use std::fs;

/// The engine's process that holds a published port for a container, and its option that names the port.
const PROXY: (&str, &str) = ("docker-proxy", "-host-port");

/// The processes that listen at some ports, as far as Linux tells this user: their ids and names.
pub fn processes_at(ports: &[u16]) -> BTreeMap<u16, (u32, String)> {
    let tables =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    let listening = |port: &u16| tables.iter().any(|table| !sockets(table, *port).is_empty());
    let mut open: Vec<u16> = ports.iter().copied().filter(listening).collect();
    let mut found = BTreeMap::new();
    if open.is_empty() {
        return found;
    }
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let processes = entries.filter_map(|entry| {
        let id: u32 = entry.file_name().to_str()?.parse().ok()?;
        let name = fs::read_to_string(entry.path().join("comm")).ok()?.trim().to_string();
        Some((id, name, entry.path()))
    });
    // The engine's own tell their port, which costs less than a look at the files of every process.
    let (proxies, others): (Vec<_>, Vec<_>) = processes.partition(|(_, name, _)| name == PROXY.0);
    for (id, name, path) in proxies {
        let line = fs::read_to_string(path.join("cmdline")).unwrap_or_default();
        let mut words = line.split('\0').skip_while(|word| *word != PROXY.1);
        if let Some(port) = words.nth(1).and_then(|port| port.parse().ok()) {
            open.retain(|other| *other != port);
            found.insert(port, (id, name));
        }
    }
    for (id, name, path) in others {
        if open.is_empty() {
            break;
        }
        let files = fs::read_dir(path.join("fd")).into_iter().flatten();
        let links: Vec<_> = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok()).collect();
        open.retain(|port| {
            let is_its = |socket: &String| links.iter().any(|link| link.to_str() == Some(socket));
            let is_found = tables.iter().any(|table| sockets(table, *port).iter().any(is_its));
            if is_found {
                found.insert(*port, (id, name.clone()));
            }
            !is_found
        });
    }
    found
}

/// The sockets that listen at a port, as `/proc/PID/fd` names them, of a table as `/proc/net/tcp`.
fn sockets(table: &str, port: u16) -> Vec<String> {
    let socket = |line: &str| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let is_it = columns.get(1)?.ends_with(&format!(":{port:04X}")) && *columns.get(3)? == "0A";
        is_it.then(|| Some(format!("socket:[{}]", columns.get(9)?)))?
    };
    table.lines().filter_map(socket).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sockets_that_listen_at_a_port_are_read() {
        let table = "sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode\n\
             0: 0100007F:1151 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4242 1 0 100\n\
             1: 0100007F:1151 0100007F:D431 01 00000000:00000000 00:00000000 00000000 0 0 4343 1 0 20\n";
        assert_eq!(sockets(table, 4433), ["socket:[4242]"]);
        assert_eq!(sockets(table, 4434), [""; 0]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_at_a_port_is_this_one() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        assert_eq!(processes_at(&[1, port])[&port].0, std::process::id());
        drop(listener);
        // What another test has just started holds a copy until it is the program that it is to be.
        while processes_at(&[port]).contains_key(&port) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}
