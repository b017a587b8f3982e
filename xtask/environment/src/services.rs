//! Services held still while their database is put in another one's place, and set going again.

use std::time::Instant;

use anyhow::Result;
use ory_facts::product::Product;

use crate::context::Context;
use crate::diagnosis;
use crate::readiness;

/// Containers that ran, and were stopped.
pub struct Stopped {
    services: Vec<String>,
    ids: Vec<String>,
}

/// Stops the running containers that serve these products.
pub fn stop(cx: &Context, products: &[Product]) -> Result<Stopped> {
    let serving: Vec<_> = products.iter().filter_map(|product| cx.stack.serving(*product).ok()?).collect();
    let mut listed = cx.listed()?;
    listed.retain(|c| c.is_running() && serving.iter().any(|service| service.name == c.service));
    let stopped = Stopped {
        services: listed.iter().map(|container| container.service.clone()).collect(),
        ids: listed.into_iter().map(|container| container.id).collect(),
    };
    if let Err(error) = stopped.run(cx, "stop") {
        // Some of them may have stopped before.
        return Err(cx.options.interrupt.clean_up_after(error, || stopped.start(cx)));
    }
    Ok(stopped)
}

impl Stopped {
    /// Their services' names.
    pub fn names(&self) -> String {
        self.services.join(", ")
    }

    /// Whether there was none to be stopped.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Starts them again, as they were.
    pub fn start(&self, cx: &Context) -> Result<()> {
        self.run(cx, "start")
    }

    /// Waits until they are ready.
    pub fn wait(&self, cx: &Context) -> Result<()> {
        let services: Vec<_> = self.services.iter().map(String::as_str).collect();
        readiness::wait(cx, &services, Instant::now()).map(|_| ())
    }

    fn run(&self, cx: &Context, verb: &str) -> Result<()> {
        if self.ids.is_empty() {
            return Ok(());
        }
        let command = cx.engine.docker([verb]).args(self.ids.iter().cloned());
        let done = command.read(&cx.secrets).map_err(diagnosis::of_engine);
        cx.known.forget();
        done.map(|_| ())
    }
}
