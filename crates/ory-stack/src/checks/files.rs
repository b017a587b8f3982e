//! The files that services read: there, valid, and readable by the user of the container.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use yaml_rust2::Yaml;

use super::absent::{Kind, got, quoted};
use super::finding::Finding;
use super::view::View;
use crate::service::{Mount, Service};
use crate::settings;
use ory_runner::failure::Failure;

/// Every file is there; those of Ory can be read as what their names say.
pub fn check(view: &View) -> Vec<Finding> {
    let mut findings: Vec<_> = view.services.values().flat_map(missing).collect();
    let mut seen = BTreeSet::new();
    for deployed in &view.products {
        for service in deployed.services() {
            let files = read_by(service).into_iter().chain(default_of(deployed.product.kind, service));
            let new: Vec<_> = files.filter(|path| path.exists() && seen.insert(path.clone())).collect();
            findings.extend(new.iter().filter_map(|path| invalid(service, path)));
        }
    }
    findings
}

fn default_of(product: ory_facts::product::Product, service: &Service) -> Option<PathBuf> {
    service.on_host(product.default_config()?)
}

/// The files that a service is to read and that aren't there: Docker would make a folder in the place of each, owned by
/// root. And the folders that Docker doesn't make: those that it makes are for the container to write to.
pub fn missing(service: &Service) -> Vec<Finding> {
    let sources = service.mounts.iter().filter_map(|mount| {
        let kind = match (mount.is_secret(), is_of_file(mount)) {
            (true, _) => Kind::Secret,
            (_, true) => Kind::File,
            (_, false) => Kind::Folder,
        };
        (kind != Kind::Folder || !mount.is_made).then_some((mount.source.clone()?, kind))
    });
    let files = sources.chain(read_by(service).into_iter().map(|path| (path, Kind::File)));
    let mut seen = BTreeSet::new();
    let absent = files.filter(|(path, _)| !path.exists() && seen.insert(path.clone()));
    absent
        .map(|(path, kind)| {
            let does = if kind == Kind::Folder { "mounts" } else { "reads" };
            let message =
                format!("{} is missing, which the service `{}` {does}", path.display(), service.name);
            Finding::missing(&service.name, message, got(&path, kind))
        })
        .collect()
}

/// Fails with the first of them.
pub fn require(service: &Service) -> Result<(), Failure> {
    missing(service).into_iter().next().map_or(Ok(()), |finding| Err(finding.into()))
}

/// Whether a file is meant to be there, by its name; a folder such as `conf.d` has a dot in it too.
fn is_of_file(mount: &Mount) -> bool {
    let name = mount.target.rsplit('/').next().unwrap_or_default().trim_start_matches('.');
    name.rsplit_once('.').is_some_and(|(_, extension)| !extension.is_empty() && extension != "d")
}

/// The files on the host that a service is started with, and those that these name.
pub fn read_by(service: &Service) -> Vec<PathBuf> {
    let configs = service.config_files();
    let mut files: Vec<_> = configs.iter().filter_map(|file| service.on_host(file)).collect();
    for file in &configs {
        let config = settings::read(service, file).unwrap_or(Yaml::Null);
        let urls = settings::strings(&config);
        let named = urls.iter().filter_map(|url| service.on_host(url.strip_prefix("file://")?));
        files.extend(named);
    }
    files
}

/// Why a file can't be read as what its name says.
fn invalid(service: &Service, path: &Path) -> Option<Finding> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    if !["yaml", "yml", "json", "toml"].contains(&extension) {
        return None;
    }
    let shown = path.display();
    if path.is_dir() {
        let message = format!("{shown} is a folder, which Docker made where the file was missing");
        let fix = format!("sudo rmdir {}, then {}", quoted(path), got(path, Kind::File));
        return Some(Finding::missing(&service.name, message, fix));
    }
    let error = match std::fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => {
            return Some(Finding::warning(
                &service.name,
                format!("{shown} is empty"),
                "fill it, or name none",
            ));
        }
        Ok(text) => settings::parse(path, &text).err()?,
        // Whether the container may read it is another question.
        Err(_) => {
            let message = format!("{shown} can't be read by you, so it isn't checked");
            return Some(Finding::warning(&service.name, message, format!("ls -l {shown}")));
        }
    };
    // The cause tells where in the file; nothing that is written there.
    let message = format!("{shown} isn't valid: {}", error.root_cause());
    Some(Finding::failure(&service.name, message, format!("mend {shown} there")))
}

/// A user of a container, as the system numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
}

impl User {
    /// `10000:10000`; no name.
    pub fn of_numbers(text: &str) -> Option<Self> {
        let (uid, gid) = text.split_once(':')?;
        Some(Self { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
    }

    /// A user of this name, or of this number, in the text of `/etc/passwd`. A number that isn't there is of the
    /// group root, as the engine has it.
    pub fn of_passwd(text: &str, name: &str) -> Option<Self> {
        let name = name.split(':').next().unwrap_or(name);
        let is_it = |line: &&str| [0, 2].iter().any(|column| line.split(':').nth(*column) == Some(name));
        let Some(line) = text.lines().find(is_it) else {
            return Some(Self { uid: name.parse().ok()?, gid: 0 });
        };
        let mut numbers = line.split(':').skip(2).map(str::parse);
        Some(Self { uid: numbers.next()?.ok()?, gid: numbers.next()?.ok()? })
    }
}

/// The files and folders of a service that not everybody can read: to tell more, its user must be known. The
/// folders above a mount's source don't count: the container doesn't go through them.
#[cfg(unix)]
pub fn private(service: &Service) -> Vec<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let mut found = BTreeSet::new();
    for file in read_by(service) {
        let sources = service.mounts.iter().filter_map(|mount| mount.source.clone());
        let Some(source) = sources.filter(|source| file.starts_with(source)).max() else { continue };
        for path in file.ancestors().take_while(|path| path.starts_with(&source)) {
            let Ok(metadata) = path.metadata() else { continue };
            let needed = if metadata.is_dir() { 0o001 } else { 0o004 };
            if metadata.permissions().mode() & needed == 0 {
                found.insert(path.to_path_buf());
            }
        }
    }
    found.into_iter().collect()
}

#[cfg(not(unix))]
pub fn private(_: &Service) -> Vec<PathBuf> {
    vec![]
}

/// Those of these files that the user of the container can't read; `name` is what the image calls it. Of a user
/// that isn't known, all of them.
#[cfg(unix)]
pub fn unreadable(service: &Service, paths: &[PathBuf], name: &str, user: Option<User>) -> Vec<Finding> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let may = |path: &Path, user: User| {
        let Ok(metadata) = path.metadata() else { return true };
        let needed = if metadata.is_dir() { 0o1 } else { 0o4 };
        let shift = match () {
            () if user.uid == 0 => return true,
            () if metadata.uid() == user.uid => 6,
            () if metadata.gid() == user.gid => 3,
            () => 0,
        };
        metadata.permissions().mode() >> shift & needed != 0
    };
    let mut findings = Vec::new();
    for path in paths {
        let shown = path.display();
        let fix = format!("chmod a+{} {}", if path.is_dir() { "rx" } else { "r" }, quoted(path));
        match user {
            Some(user) if may(path, user) => {}
            Some(user) if user.uid.to_string() == name => {
                let message = format!("{shown} can't be read by its user, {name}");
                findings.push(Finding::failure(&service.name, message, fix));
            }
            Some(user) => {
                let message = format!("{shown} can't be read by its user, {name} ({})", user.uid);
                findings.push(Finding::failure(&service.name, message, fix));
            }
            None => {
                let message = format!("{shown} isn't for everybody, and its user {name} isn't known");
                findings.push(Finding::warning(&service.name, message, fix));
            }
        }
    }
    findings
}

#[cfg(not(unix))]
pub fn unreadable(_: &Service, _: &[PathBuf], _: &str, _: Option<User>) -> Vec<Finding> {
    vec![]
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::super::tests::found;
    use super::*;
    use crate::checks::Level;
    use std::os::unix::fs::PermissionsExt;
    use yaml_rust2::YamlLoader;

    /// A folder of a test, with a file in it; gone when it is dropped.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str, text: &str) -> Self {
            let folder = Self(std::env::temp_dir().join(format!("ory-facts-{}-{name}", std::process::id())));
            std::fs::create_dir_all(&folder.0).expect("a folder");
            folder.write("kratos.yml", text);
            folder
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.0.join(name), text).expect("a file");
        }

        fn set_mode(&self, name: &str, mode: u32) {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(self.0.join(name), permissions).expect("a mode");
        }

        fn stack(&self) -> String {
            format!(
                "kratos: {{command: serve -c /etc/kratos/kratos.yml, volumes: ['{}:/etc/kratos:ro']}}",
                self.0.display()
            )
        }

        fn service(&self) -> Service {
            let yaml = YamlLoader::load_from_str(&self.stack()).expect("YAML").remove(0);
            Service::read("kratos", &yaml["kratos"])
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).expect("a folder removed");
        }
    }

    const SCHEMA: &str = "identity: {schemas: [{id: a, url: 'file:///etc/kratos/a.json'}]}\n";

    #[test]
    fn files_that_are_there_and_valid_are_not_found() {
        let folder = Folder::new("valid", SCHEMA);
        folder.write("a.json", "{}");
        assert_eq!(found(check, &folder.stack()), []);
    }

    #[test]
    fn a_file_that_another_one_names_and_that_is_missing_is_found() {
        let folder = Folder::new("missing", SCHEMA);
        let findings = found(check, &folder.stack());
        assert_eq!((findings.len(), findings[0].level), (1, Level::Missing));
        assert!(findings[0].message.contains("a.json is missing"), "{findings:?}");
        folder.write("a.json", "{");
        assert!(found(check, &folder.stack())[0].message.contains("a.json isn't valid"));
    }

    #[test]
    fn a_folder_that_docker_makes_is_not_missing_and_a_file_is() {
        let folder = Folder::new("made", "a: 1\n");
        let at = |source: &str, target: &str, more: &str| {
            let source = folder.0.join(source).display().to_string();
            let volume = format!("{{type: bind, source: {source}, target: {target}{more}}}");
            let yaml = YamlLoader::load_from_str(&format!("volumes: [{volume}]")).expect("YAML").remove(0);
            missing(&Service::read("db", &yaml)).into_iter().next().map(|found| found.fix.expect("a fix"))
        };
        let made = ", bind: {create_host_path: true}";
        assert_eq!(at("pgdata", "/var/lib/postgresql/data", made), None);
        assert_eq!(at("conf.d", "/etc/conf.d", made), None);
        assert!(at("pgdata", "/data", ", bind: {}").is_some_and(|fix| fix.starts_with("mkdir -p /")));
        let fix = || at("init.sql", "/docker-entrypoint-initdb.d/init.sql", made).expect("missing");
        assert!(fix().contains("own instructions"), "{}", fix());
        folder.write("setup.sh", "psql > init.sql\n");
        assert!(fix().ends_with("setup.sh names it, and may write it: look there"), "{}", fix());
        folder.write(".env", "INIT=./init.sql\n");
        assert!(fix().contains("mend INIT in .env"), "{}", fix());
        folder.write("init.sql.example", "");
        assert!(fix().starts_with("cp /") && fix().contains("init.sql.example "), "{}", fix());
        let git = |args: &[&str]| {
            let git = std::process::Command::new("git").args(args).current_dir(&folder.0).output();
            assert!(git.expect("git").status.success(), "{args:?}");
        };
        folder.write("init.sql", "");
        git(&["init", "-q"]);
        git(&["add", "init.sql"]);
        std::fs::remove_file(folder.0.join("init.sql")).expect("removed");
        assert!(fix().starts_with("put it back: git checkout -- /"), "{}", fix());
    }

    #[test]
    fn a_secret_that_is_missing_is_written_after_its_example() {
        let folder = Folder::new("examples", "");
        let secrets = folder.0.join("secrets");
        let mut service = folder.service();
        service.mounts[0].source = Some(secrets.join("kratos.yml"));
        service.mounts[0].target = "/run/secrets/kratos.yml".into();
        let fix = || missing(&service).remove(0).fix.expect("a fix");
        assert_eq!(fix(), "put it there: a secret is in no repository");
        std::fs::create_dir(folder.0.join("secrets.example")).expect("a folder");
        folder.write("secrets.example/kratos.yml", "dsn: change-me");
        assert!(fix().contains(&format!("{0} && chmod 700 {0}", secrets.display())), "{}", fix());
        std::fs::create_dir(&secrets).expect("a folder");
        assert!(
            fix().starts_with("cp /") && fix().contains(&format!(" {}/, ", secrets.display())),
            "{}",
            fix()
        );
    }

    #[test]
    fn a_file_that_is_not_yaml_is_found_with_the_place_and_without_its_text() {
        let folder = Folder::new("invalid", "secrets:\n  cipher: [geheim\n");
        let findings = found(check, &folder.stack());
        assert_eq!((findings.len(), findings[0].level), (1, Level::Failure));
        assert!(findings[0].message.contains("line 3"), "{findings:?}");
        assert!(!findings[0].message.contains("geheim"), "{findings:?}");
        folder.write("kratos.yml", "\n");
        assert_eq!(found(check, &folder.stack())[0].level, Level::Warning);
    }

    #[test]
    fn a_folder_in_the_place_of_a_file_is_found() {
        let folder = Folder::new("folder", "");
        std::fs::remove_file(folder.0.join("kratos.yml")).expect("removed");
        std::fs::create_dir(folder.0.join("kratos.yml")).expect("a folder");
        let findings = found(check, &folder.stack());
        assert!(findings[0].message.contains("is a folder"), "{findings:?}");
    }

    #[test]
    fn a_file_is_readable_by_everybody_by_its_owner_and_by_its_group() {
        use std::os::unix::fs::MetadataExt;
        let folder = Folder::new("mode", "a: 1\n");
        let (service, other) = (folder.service(), User { uid: 4_000_001, gid: 4_000_001 });
        folder.set_mode("kratos.yml", 0o644);
        assert!(private(&service).is_empty());
        folder.set_mode("kratos.yml", 0o640);
        let paths = private(&service);
        let metadata = paths[0].metadata().expect("a file");
        let may = |user| unreadable(&service, &paths, "ory", user).is_empty();
        assert!(may(Some(User { uid: metadata.uid(), ..other })), "its owner");
        assert!(may(Some(User { gid: metadata.gid(), ..other })), "its group");
        assert!(may(Some(User { uid: 0, ..other })), "root");
        let findings = unreadable(&service, &paths, "ory", Some(other));
        assert!(findings[0].message.ends_with("kratos.yml can't be read by its user, ory (4000001)"));
        assert!(findings[0].fix.as_ref().is_some_and(|fix| fix.starts_with("chmod a+r /")));
        assert_eq!(unreadable(&service, &paths, "ory", None)[0].level, Level::Warning);
    }

    #[test]
    fn a_folder_that_only_its_owner_may_enter_is_found_and_those_above_the_mount_are_not() {
        let folder = Folder::new("enter", "a: 1\n");
        folder.set_mode("", 0o750);
        assert_eq!(private(&folder.service()), vec![folder.0.clone()]);
        let mut service = folder.service();
        service.mounts[0].source = Some(folder.0.join("kratos.yml"));
        service.mounts[0].target = "/etc/kratos/kratos.yml".into();
        assert!(private(&service).is_empty());
    }

    #[test]
    fn a_user_is_read_from_numbers_and_from_passwd() {
        assert_eq!(User::of_numbers("10000"), None);
        assert_eq!(User::of_numbers("1:2"), Some(User { uid: 1, gid: 2 }));
        assert_eq!(User::of_numbers("ory"), None);
        let passwd = "root:x:0:0:root:/root:/bin/sh\nory:x:1000:1001:ory:/home/ory:/bin/sh\n";
        assert_eq!(User::of_passwd(passwd, "ory"), Some(User { uid: 1000, gid: 1001 }));
        assert_eq!(User::of_passwd(passwd, "1000"), Some(User { uid: 1000, gid: 1001 }));
        assert_eq!(User::of_passwd("", "10000"), Some(User { uid: 10000, gid: 0 }));
        assert_eq!(User::of_passwd(passwd, "or"), None);
    }
}
