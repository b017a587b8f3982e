//! The health checks of Ory's services: `/health/alive` is 200 of a server that can't answer anything.

use super::finding::Finding;
use super::view::View;

pub fn check(view: &View) -> Vec<Finding> {
    let asks_alive = |words: &[String]| words.iter().any(|word| word.contains("/health/alive"));
    let services = view.products.iter().map(|deployed| deployed.serve);
    let services = services.filter(|service| asks_alive(&service.healthcheck));
    services
        .map(|service| {
            let message = "its health check asks /health/alive, which doesn't look at the database";
            Finding::warning(&service.name, message, "ask /health/ready in its healthcheck")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{accepts, finds};
    use super::*;

    #[test]
    fn a_health_check_that_asks_whether_it_is_alive_is_found() {
        let from = "command: serve --dev";
        let test = |path: &str| {
            format!("{from}\n  healthcheck: {{test: 'wget -qO- http://127.0.0.1:4434/health/{path}'}}")
        };
        finds(check, from, &test("alive"));
        accepts(check, from, &test("ready"));
    }
}
