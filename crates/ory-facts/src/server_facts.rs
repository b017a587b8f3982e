//! What a whole server of PostgreSQL is: its release, how its cluster was made, what it has, and what of it no dump holds.

use std::collections::{BTreeMap, BTreeSet};

use crate::rows::{self, print};

/// The last line: an answer that breaks off is none.
const END: &str = "end";

/// A database of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    pub name: String,
    /// It lets nobody in, so nobody can dump it.
    pub is_closed: bool,
}

/// What a server says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// As `15.8`.
    pub version: String,
    pub major: u32,
    pub data_directory: String,
    /// The role that the cluster was made with.
    pub owner: String,
    /// The arguments by which `initdb` makes another cluster just so, but for those of its own release.
    pub initdb: Vec<String>,
    pub has_checksums: bool,
    pub databases: Vec<Database>,
    /// What of it isn't in a dump, or is elsewhere, in words.
    pub beyond: Vec<String>,
    /// The names of the settings in its files, and the file of each.
    pub settings: BTreeMap<String, String>,
    /// From where sessions are open now, and how many.
    pub sessions: BTreeMap<String, usize>,
}

/// Asks an administrator's session for it.
pub fn query() -> String {
    let json = |name: &str| format!("to_jsonb(d)->>'{name}'");
    let locale = format!("coalesce({}, {})", json("datlocale"), json("daticulocale"));
    [
        print(
            "select 'server', current_setting('server_version_num'), current_setting('server_version'),
               current_setting('data_directory'), (select rolname from pg_roles where oid = 10),
               current_setting('data_checksums'), (select setting::bigint / 1048576 from pg_settings
                 where name = 'wal_segment_size'), current_setting('data_directory_mode')",
        ),
        print(&format!(
            "select 'template', pg_encoding_to_char(encoding), datcollate, datctype,
               coalesce({}, 'c'), coalesce({locale}, ''), coalesce({}, '')
             from pg_database d where datname = 'template0'",
            json("datlocprovider"),
            json("daticurules"),
        )),
        print(
            "select 'database', datname, datallowconn, datconnlimit from pg_database
             where datname <> 'template0' order by datname <> 'template1', datname <> 'postgres', datname",
        ),
        print(
            "select 'beyond', 'the tablespace ' || spcname || ' is in a folder of its own, ' ||
               coalesce(nullif(pg_tablespace_location(oid), ''), '?') from pg_tablespace where oid >= 16384
             union all select 'beyond', 'the replication slot ' || slot_name || ' is somebody''s place in the stream of \
             changes, which starts anew' from pg_replication_slots where not temporary
             union all select 'beyond', 'the subscription ' || subname || ' of the database ' || datname ||
               ' has its place in a stream of changes' from pg_subscription s join pg_database d on d.oid = subdbid
             union all select 'beyond', 'the prepared transaction ' || gid || ' is neither committed nor rolled back'
               from pg_prepared_xacts
             union all select 'beyond', 'it is a standby: upgrade its primary, and make it anew from that'
               where pg_is_in_recovery()
             union all select 'beyond', 'the database ' || name || ' is missing, which PostgreSQL''s programs need'
               from (values ('postgres'), ('template1')) own (name)
               where name not in (select datname from pg_database)
             union all select 'beyond', 'the settings name the data''s folder: remove data_directory from '
               || sourcefile from pg_settings where name = 'data_directory' and sourcefile is not null",
        ),
        print("select distinct 'setting', name, sourcefile from pg_file_settings"),
        print(
            "select 'session', coalesce(host(client_addr), ''), count(*) from pg_stat_activity
             where backend_type in ('client backend', 'walsender') and pid <> pg_backend_pid() group by 2",
        ),
        print(&format!("select '{END}'")),
    ]
    .concat()
}

/// Reads what psql printed; none where it breaks off.
pub fn read(text: &str) -> Option<Facts> {
    let mut facts = Facts::default();
    let mut made = vec![];
    for fields in rows::read(text.lines()) {
        let fields: Vec<_> = fields.iter().map(String::as_str).collect();
        match fields[..] {
            ["server", number, version, folder, owner, checksums, segment, mode] => {
                facts.major = number.parse::<u32>().ok()? / 10000;
                facts.version = version.split(' ').next().unwrap_or_default().into();
                facts.data_directory = folder.into();
                facts.owner = owner.into();
                facts.has_checksums = checksums == "on";
                made.push(format!("--wal-segsize={segment}"));
                if mode == "0750" {
                    made.push("--allow-group-access".into());
                }
            }
            ["template", encoding, collate, ctype, provider, locale, rules] => {
                made.push(format!("--encoding={encoding}"));
                made.push(format!("--lc-collate={collate}"));
                made.push(format!("--lc-ctype={ctype}"));
                match provider {
                    "i" => {
                        made.extend(["--locale-provider=icu".into(), format!("--icu-locale={locale}")]);
                        made.extend((!rules.is_empty()).then(|| format!("--icu-rules={rules}")));
                    }
                    "b" => made
                        .extend(["--locale-provider=builtin".into(), format!("--builtin-locale={locale}")]),
                    _ => {}
                }
            }
            ["database", name, allows, limit] => {
                // Where a `drop database` was ended in its middle, the limit is -2.
                let is_closed = allows != "t" || limit == "-2";
                facts.databases.push(Database { name: name.into(), is_closed });
            }
            ["beyond", what] => facts.beyond.push(what.into()),
            // PostgreSQL takes them in whatever case.
            ["setting", name, file] => _ = facts.settings.insert(name.to_lowercase(), file.into()),
            ["session", address, count] => _ = facts.sessions.insert(address.into(), count.parse().ok()?),
            [END] => {
                facts.initdb = made;
                return (facts.major > 0).then_some(facts);
            }
            _ => return None,
        }
    }
    None
}

/// What a release can do, as a server of it tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Release {
    pub major: u32,
    pub version: String,
    pub settings: BTreeSet<String>,
    /// The extensions that it has, and the version that it makes of each.
    pub extensions: BTreeMap<String, String>,
}

/// Asks any session for it.
pub fn release_query() -> String {
    [
        print("select 'release', current_setting('server_version_num'), current_setting('server_version')"),
        print("select 'extension', name, default_version from pg_available_extensions"),
        print("select 'setting', name from pg_settings"),
        print(&format!("select '{END}'")),
    ]
    .concat()
}

/// Reads what psql printed; none where it breaks off.
pub fn read_release(text: &str) -> Option<Release> {
    let mut release = Release::default();
    for fields in rows::read(text.lines()) {
        let fields: Vec<_> = fields.iter().map(String::as_str).collect();
        match fields[..] {
            ["release", number, version] => {
                release.major = number.parse::<u32>().ok()? / 10000;
                release.version = version.split(' ').next().unwrap_or_default().into();
            }
            ["extension", name, version] => _ = release.extensions.insert(name.into(), version.into()),
            ["setting", name] => _ = release.settings.insert(name.to_lowercase()),
            [END] => return (release.major > 0).then_some(release),
            // What a start script says before.
            _ => {}
        }
    }
    None
}

/// Asks for the extensions of a database, in lines for [`rows::read`].
pub const EXTENSIONS: &str =
    "copy (select extname, extversion from pg_extension where extname <> 'plpgsql') to stdout;\n";

/// What is in the way of moving a server to a release. `extensions`: of each database.
pub fn in_the_way(
    facts: &Facts,
    extensions: &BTreeMap<String, Vec<(String, String)>>,
    release: Option<&Release>,
) -> Vec<String> {
    let mut found = facts.beyond.clone();
    if facts.major < OLDEST {
        found.push(format!("PostgreSQL {} is older than {OLDEST}, from which on this is done", facts.major));
    }
    let closed = facts.databases.iter().filter(|database| database.is_closed);
    found.extend(closed.map(|database| {
        format!("the database {} lets nobody in, so it can't be dumped: open it, or drop it", database.name)
    }));
    let Some(release) = release else { return found };
    for (database, all) in extensions {
        for (name, _) in all.iter().filter(|(name, _)| !release.extensions.contains_key(name)) {
            found.push(format!("the extension {name} of the database {database} isn't in the new image"));
        }
    }
    // One with a dot is an extension's.
    let is_unknown = |name: &String| !name.contains('.') && !release.settings.contains(name);
    for (name, file) in facts.settings.iter().filter(|(name, _)| is_unknown(name)) {
        found.push(format!(
            "PostgreSQL {} doesn't know the setting {name}: remove it from {file}",
            release.major
        ));
    }
    found
}

/// The oldest release whose rows sum up as those of a new one do.
const OLDEST: u32 = 12;

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "server\t150008\t15.8 (Debian)\t/data\tpostgres\toff\t16\t0700\n\
        template\tUTF8\tC\tC\tc\t\t\ndatabase\ttemplate1\tt\t-1\ndatabase\tshop\tt\t-1\n\
        setting\tdb_user_namespace\t/data/postgresql.conf\nsession\t10.0.0.2\t3\nend\n";

    fn release() -> Release {
        read_release("waiting\nrelease\t170002\t17.2\nextension\tpg_trgm\t1.6\nsetting\tport\nend\n")
            .expect("a release")
    }

    #[test]
    fn a_server_tells_how_another_is_made_just_so() {
        let facts = read(SAID).expect("facts");
        assert_eq!((facts.major, facts.version.as_str()), (15, "15.8"));
        assert_eq!(facts.initdb, ["--wal-segsize=16", "--encoding=UTF8", "--lc-collate=C", "--lc-ctype=C"]);
        assert_eq!(read(&SAID.replace("end\n", "")), None);
        let icu = read(&SAID.replace("C\tc\t\t", "C\ti\tde-DE\t")).expect("facts");
        assert!(icu.initdb.ends_with(&["--locale-provider=icu".into(), "--icu-locale=de-DE".into()]));
    }

    #[test]
    fn what_the_new_release_lacks_is_in_the_way() {
        let facts = read(SAID).expect("facts");
        let has = |name: &str| BTreeMap::from([("shop".to_string(), vec![(name.to_string(), "1".into())])]);
        let setting =
            "PostgreSQL 17 doesn't know the setting db_user_namespace: remove it from /data/postgresql.conf";
        assert_eq!(in_the_way(&facts, &has("pg_trgm"), Some(&release())), [setting]);
        let missing = in_the_way(&facts, &has("postgis"), Some(&release()));
        assert_eq!(missing[0], "the extension postgis of the database shop isn't in the new image");
        assert!(in_the_way(&facts, &has("postgis"), None).is_empty());
        let closed = read(&SAID.replace("shop\tt", "shop\tf")).expect("facts");
        assert!(in_the_way(&closed, &BTreeMap::new(), None)[0].contains("lets nobody in"));
    }
}
