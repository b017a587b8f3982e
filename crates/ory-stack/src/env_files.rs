//! The files that the containers of a stack were made with, where they aren't the usual `.env`: what else would be made,
//! with other secrets, from the stack as it looks without them.

use std::path::{Path, PathBuf};

use crate::container::Listed;
use crate::env_file;
/// The lists of files, each once; none where the containers were made with the usual one, or don't tell.
pub fn env_files(listed: &[Listed], project: &str, dir: &Path) -> Vec<Vec<PathBuf>> {
    let own = listed.iter().filter(|container| !container.one_off && !container.env_files.is_empty());
    let (of_project, others): (Vec<_>, Vec<_>) = own.partition(|container| container.project == project);
    // The project may have its name from there.
    let named = others.into_iter().filter(|container| {
        let names = |file: &PathBuf| {
            env_file::value_in(file, "COMPOSE_PROJECT_NAME").as_ref() == Some(&container.project)
        };
        of_project.is_empty()
            && Path::new(&container.folder) == dir
            && files(container, dir).iter().any(names)
    });
    let mut lists = Vec::new();
    for list in of_project.iter().copied().chain(named).map(|container| files(container, dir)) {
        if let Err(at) = lists.binary_search(&list) {
            lists.insert(at, list);
        }
    }
    let is_usual = |list: &Vec<PathBuf>| *list == [dir.join(".env")];
    if lists.iter().all(is_usual) { vec![] } else { lists }
}

/// Those of one container, below this folder where they were below its own.
fn files(container: &Listed, dir: &Path) -> Vec<PathBuf> {
    let here = |file: &str| match Path::new(file).strip_prefix(&container.folder) {
        Ok(below) if !container.folder.is_empty() => dir.join(below),
        _ => dir.join(file),
    };
    container.env_files.split(',').map(here).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(project: &str, folder: &str, env_files: &str) -> Listed {
        let line = format!("1\tname\trunning\t{project}\tdb\tFalse\t{env_files}\t{folder}");
        Listed::read(&line).expect("a container")
    }

    fn read(listed: &[Listed]) -> Vec<Vec<PathBuf>> {
        env_files(listed, "shop", Path::new("/srv/shop"))
    }

    #[test]
    fn another_file_than_the_usual_one_is_told() {
        let usual = container("shop", "/srv/shop", "/srv/shop/.env");
        let silent = container("shop", "/srv/shop", "");
        let local = container("shop", "/srv/shop", "/srv/shop/.env.local");
        // Another clone of the same project has a usual one of its own.
        let clone = container("shop", "/home/me/shop", "/home/me/shop/.env");
        assert!(read(&[usual.clone(), silent, clone]).is_empty());
        assert_eq!(read(std::slice::from_ref(&local)), [[PathBuf::from("/srv/shop/.env.local")]]);
        assert_eq!(read(&[usual, local]).len(), 2);
        let two = container("shop", "/home/me/shop", "/home/me/shop/.env,/etc/shop.env");
        assert_eq!(read(&[two]), [["/srv/shop/.env", "/etc/shop.env"].map(PathBuf::from)]);
    }

    #[test]
    fn what_is_of_another_project_tells_nothing() {
        assert!(read(&[container("other", "/srv/shop", "/srv/shop/.env.other")]).is_empty());
    }
}
