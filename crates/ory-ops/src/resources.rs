//! What the engine has beside containers: volumes, and the names that hosts have in networks.

use anyhow::Result;
use serde_json::Value;

use crate::engine::{Engine, printed};

impl Engine {
    /// Whether there is a volume of this name, whoever has made it.
    pub fn has_volume(&self, name: &str) -> Result<bool> {
        let filter = format!("name={name}");
        let names = self.docker(["volume", "ls", "--quiet", "--filter", &filter]).read()?;
        Ok(names.lines().any(|line| line == name))
    }

    /// The names that hosts have in one of the engine's networks.
    pub fn hosts_in(&self, network: &str) -> Result<Vec<String>> {
        let ids = self.docker(["ps", "--quiet", "--filter", &format!("network={network}")]);
        let ids = ids.read()?;
        if ids.trim().is_empty() {
            return Ok(vec![]);
        }
        let all = printed(&self.docker(["container", "inspect"].into_iter().chain(ids.split_whitespace())))?;
        let names = |one: &Value| {
            let own = one["Name"].as_str().map(|name| name.trim_start_matches('/').to_string());
            let aliases = &one["NetworkSettings"]["Networks"][network]["Aliases"];
            let aliases = aliases.as_array().into_iter().flatten();
            own.into_iter()
                .chain(aliases.filter_map(|name| name.as_str().map(String::from)))
                .collect::<Vec<_>>()
        };
        Ok(all.iter().flat_map(names).collect())
    }
}
