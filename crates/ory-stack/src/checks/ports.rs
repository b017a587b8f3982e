//! The admin ports, which ask for no password: whoever reaches them is the administrator.

use super::finding::Finding;
use super::view::View;
use crate::settings;

pub fn check(view: &View) -> Vec<Finding> {
    let mut findings = Vec::new();
    for deployed in &view.products {
        let service = deployed.serve;
        let listeners = settings::listeners(deployed.product.kind, service).into_iter();
        let admin: Vec<_> = listeners
            .filter(|(name, _)| ["admin", "write"].contains(name))
            .filter_map(|(_, port)| port)
            .collect();
        for port in service.ports.iter().filter(|port| admin.contains(&port.target) && port.is_public()) {
            let (target, published) = (port.target, port.published.map_or(String::new(), |p| p.to_string()));
            let message = format!("its admin port {target} is published on every address of the machine");
            let fix = format!("publish it for this machine only: - 127.0.0.1:{published}:{target}");
            findings.push(Finding::warning(&service.name, message, fix));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::tests::{accepts, finds};
    use super::*;

    const FROM: &str = "command: serve --dev";

    #[test]
    fn an_admin_port_on_every_address_is_found() {
        let ports = |ports: &str| format!("{FROM}\n  ports: {ports}");
        for public in
            ["['4434:4434']", "['4434']", "['0.0.0.0:4434:4434/tcp']", "[{target: 4434, published: '4434'}]"]
        {
            finds(check, FROM, &ports(public));
        }
        let finding = finds(check, FROM, &ports("['4433:4433', '5555:4434']"));
        assert_eq!(finding.fix.as_deref(), Some("publish it for this machine only: - 127.0.0.1:5555:4434"));
        accepts(check, FROM, &ports("['4433:4433', '127.0.0.1:4434:4434']"));
        accepts(check, FROM, &ports("[{target: 4434, published: '4434', host_ip: 127.0.0.1}]"));
    }

    #[test]
    fn the_admin_port_is_the_one_that_the_settings_name() {
        let moved =
            "command: serve --dev\n  ports: ['80:4434', '81:9999']\n  environment: {SERVE_ADMIN_PORT: 9999, ";
        let finding = finds(check, "command: serve --dev\n  environment: {", moved);
        assert!(finding.message.contains("9999"), "{finding:?}");
    }
}
