//! The containers of a service, all of them: Compose makes as many as its `deploy.replicas` or `scale` says.

use ory_facts::sorted::Sorted;
use ory_stack::container::Container;
use ory_stack::service::Service;

/// Services with their containers.
pub struct Replicas<'a> {
    wanted: usize,
    containers: Vec<&'a Container>,
}

impl<'a> Replicas<'a> {
    /// Those of one service, or of several that are one product.
    pub fn of(containers: &'a [Container], services: &[&Service]) -> Self {
        let is_own = |container: &&Container| services.iter().any(|s| s.name == container.service);
        Self {
            wanted: services.iter().map(|service| service.replicas).sum(),
            containers: containers.iter().filter(is_own).collect(),
        }
    }

    /// Each container.
    pub fn iter(&self) -> impl Iterator<Item = &'a Container> {
        self.containers.iter().copied()
    }

    /// Whether there are fewer than the stack says.
    pub fn are_missing(&self) -> bool {
        self.containers.len() < self.wanted
    }

    /// Whether one runs for each that the stack says.
    pub fn all_run(&self) -> bool {
        !self.containers.is_empty() && !self.are_missing() && self.iter().all(Container::is_running)
    }

    /// What they are in: the engine's word for one; of several how many run, unless all do.
    pub fn state(&self) -> String {
        let states = self.iter().map(|container| container.state.as_str()).into_set();
        match states.first() {
            None => "none".into(),
            Some(state) if states.len() == 1 && !self.are_missing() => state.to_string(),
            Some(_) => {
                let running = self.iter().filter(|container| container.is_running()).count();
                format!("{running} of {} running", self.wanted.max(self.containers.len()))
            }
        }
    }

    /// The images that they were made from; none where there is no container.
    pub fn images(&self) -> Option<String> {
        let images = self.iter().map(|container| container.image.as_str()).into_set();
        (!images.is_empty()).then(|| images.into_iter().collect::<Vec<_>>().join(", "))
    }
}
