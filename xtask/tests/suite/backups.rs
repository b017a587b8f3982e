//! Backups on a real engine: what is restored is what was backed up, and what can't be restored changes nothing.

use std::path::PathBuf;

use ory_facts::manifest::{MANIFEST, MANIFEST_SUM};
use ory_ops::backup;

use crate::end_to_end::rows_of_a_user;
use crate::project::outcome;
use crate::random::Random;
use crate::stack::{Compose, NEW, OLD, Stack};
use crate::tiers::scenarios_once;

scenarios_once! {
    first: [
        a_backup_is_restored_row_for_row_and_what_was_there_is_kept
        a_backup_that_is_damaged_or_unreadable_changes_nothing
        a_reset_backs_up_and_starts_empty
    ]
    full: [
        a_backup_of_which_any_byte_has_changed_is_refused
        a_backup_that_cannot_be_written_to_its_end_leaves_nothing
        what_is_an_applications_goes_back_only_where_that_is_asked_for
        a_role_that_has_rights_and_owns_nothing_has_them_afterwards
        a_migration_that_is_to_back_up_first_changes_nothing_without_a_good_backup
    ]
}

/// The name of the newest backup.
pub fn newest(stack: &Stack) -> String {
    let list = stack.run("backups").exits(0).stdout;
    list.lines().last().and_then(|line| line.split_whitespace().next()).expect("a backup").to_string()
}

fn assert_serves(stack: &Stack) {
    for (name, port) in &stack.ports {
        let url = format!("http://127.0.0.1:{port}/health/ready");
        let health = minreq::get(url).with_timeout(5).send().expect("an answer");
        assert_eq!(health.status_code, 200, "{name}");
    }
}

fn a_backup_is_restored_row_for_row_and_what_was_there_is_kept(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up").exits(0);
    let rows = rows_of_a_user(&stack);
    // What belongs to the database itself.
    stack
        .sql("postgres", "alter database kratos set work_mem = '5MB'; comment on database kratos is 'it''s'");
    stack.sql("postgres", "create role reader login; grant connect on database kratos to reader");
    let of_database = "select (select string_agg(a::text, ' ' order by a::text) from unnest(d.datacl) a), s.setconfig, shobj_description(d.oid, 'pg_database'), d.encoding, \
                       d.datcollate, d.datconnlimit, pg_get_userbyid(d.datdba) from pg_database d \
                       left join pg_db_role_setting s on s.setdatabase = d.oid where datname = 'kratos'";
    let database = stack.sql("postgres", of_database);

    let made = stack.run("backup --verify").exits(0).says("kratos: restored and compared");
    let folder = PathBuf::from(made.stdout.trim());
    #[cfg(unix)]
    for entry in std::fs::read_dir(&folder).expect("a backup") {
        use std::os::unix::fs::PermissionsExt;
        let entry = entry.expect("a file");
        assert_eq!(entry.metadata().expect("metadata").permissions().mode() & 0o777, 0o600, "{entry:?}");
    }
    let env = stack.project.read(".env");
    for line in env.lines().filter(|line| line.contains("SECRET") || line.contains("PASSWORD")) {
        let secret = line.split_once('=').expect("a setting").1;
        let manifest = std::fs::read_to_string(folder.join("manifest.json")).expect("a manifest");
        assert!(!manifest.contains(secret) && !made.to_string().contains(secret), "{line} is shown");
    }

    stack.insert_rows();
    let changed = stack.rows();
    assert_ne!(changed, rows);
    let networks = "select id from networks order by 1";
    let original = stack.sql("kratos", networks);
    let name = newest(&stack);
    stack.run(&format!("restore {name}")).exits(2).says("there is no terminal to ask on");
    assert_eq!(stack.rows(), changed);
    stack.run(&format!("restore {name} --yes")).exits(0).says("kept until the next restore");
    assert_eq!(stack.rows(), rows);
    assert_eq!(stack.sql("postgres", of_database), database);
    assert_serves(&stack);
    let kept =
        "select string_agg(datname, ' ' order by datname) from pg_database where datname like 'xtask%'";
    let replaced = "xtask_replaced_hydra xtask_replaced_keto xtask_replaced_kratos\n";
    assert_eq!(stack.sql("postgres", kept), replaced);

    // As a run leaves it that is killed before its last step.
    stack.sql("postgres", "create database xtask_before_keto");
    stack.run(&format!("restore {name} keto --yes")).exits(0);
    assert_eq!(stack.rows(), rows);
    assert_eq!(stack.sql("postgres", kept), replaced);

    // As a run leaves it that is killed after its swap: what it has replaced stays, not what was there afterwards.
    stack.sql("postgres", "alter database xtask_replaced_kratos rename to xtask_before_kratos");
    let again = stack.run(&format!("restore {name} kratos --yes")).exits(0);
    again.says("what was there before that run stays");
    assert_eq!(stack.sql("postgres", kept), replaced);
    assert_eq!(stack.sql("xtask_replaced_kratos", networks), original);
    assert_eq!(stack.rows(), rows);

    // One product, into a database of another name, of which nothing else is touched.
    stack.sql("postgres", "create database other owner keto");
    stack.run(&format!("restore {name} keto --into other")).exits(0);
    let networks = "select * from networks order by 1";
    assert_eq!(stack.sql("other", networks), stack.sql("keto", networks));
    stack.run(&format!("restore {name} keto --into other")).exits(1).says("isn't empty");
    assert_eq!(
        stack.sql("postgres", "select count(*) from pg_stat_activity where application_name like 'xtask%'"),
        "0\n"
    );
}

fn a_backup_that_is_damaged_or_unreadable_changes_nothing(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up").exits(0);
    stack.insert_rows();
    let folder = PathBuf::from(stack.run("backup").exits(0).stdout.trim());
    let name = newest(&stack);
    stack.insert_rows();
    let (rows, containers) = (stack.rows(), stack.containers());
    let restore = format!("restore {name} --yes");
    for file in ["kratos.dump", "hydra.dump", "keto.dump", "manifest.json", "manifest.json.sha256"] {
        let path = folder.join(file);
        let whole = std::fs::read(&path).expect("a file");
        let mut damaged = whole.clone();
        damaged[whole.len() / 2] ^= 1;
        for bytes in [&damaged[..], &whole[..whole.len() - 1]] {
            std::fs::write(&path, bytes).expect("written");
            stack.run(&restore).exits(1).says("is damaged: ");
        }
        std::fs::write(&path, &whole).expect("written");
    }
    // Hydra's keys are encrypted with a secret that is in no backup.
    let env = stack.project.read(".env");
    let secret = env.lines().find(|line| line.starts_with("HYDRA_SECRETS_SYSTEM=")).expect("a secret");
    stack.project.write(".env", &env.replace(secret, "HYDRA_SECRETS_SYSTEM=another-secret-of-today"));
    stack.run(&restore).exits(5).says("what hydra encrypted could not be read: SECRETS_SYSTEM");
    stack.project.write(".env", &env);
    stack.run("restore 2020-01-01T00-00-00Z --yes").exits(5).says("is no backup");
    assert_eq!((stack.rows(), stack.containers()), (rows, containers));
    let left = "select count(*) from pg_database where datname like 'xtask%'";
    assert_eq!(stack.sql("postgres", left), "0\n");
}

fn a_backup_of_which_any_byte_has_changed_is_refused(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up").exits(0);
    rows_of_a_user(&stack);
    let folder = PathBuf::from(stack.run("backup").exits(0).stdout.trim());
    // As `restore` does it: what it says of a changed byte is tried above.
    let check = || {
        let backup = backup::open(&folder)?;
        backup.manifest.dumps.iter().try_for_each(|dump| backup.compare(dump, |_| Ok(())))
    };
    check().expect("it is whole");
    let is_refused = |path: &PathBuf, bytes: &mut [u8], at: usize, bit: u8| {
        bytes[at] ^= bit;
        std::fs::write(path, &bytes).expect("written");
        let refused = check().expect_err("it isn't whole").to_string();
        assert!(refused.contains(" is damaged: "), "bit {bit} of byte {at} of {}: {refused}", path.display());
        bytes[at] ^= bit;
    };
    // Always the same places.
    let mut random = Random(7);
    for file in ["kratos.dump", "hydra.dump", "keto.dump", MANIFEST, MANIFEST_SUM] {
        let path = folder.join(file);
        let mut bytes = std::fs::read(&path).expect("a file");
        let length = bytes.len();
        if file.ends_with(".dump") {
            (0..200).for_each(|_| is_refused(&path, &mut bytes, random.below(length), 1 << random.below(8)));
        } else {
            (0..length).for_each(|at| is_refused(&path, &mut bytes, at, 1 << random.below(8)));
        }
        std::fs::write(&path, &bytes).expect("written");
        check().expect("it is whole again");
    }
}

fn a_backup_that_cannot_be_written_to_its_end_leaves_nothing(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up").exits(0);
    // Kratos's dump fits, Hydra's doesn't.
    let many = "insert into networks select gen_random_uuid(), now(), now() from generate_series(1, 60000)";
    stack.sql("hydra", many);
    let backup = stack.command(NEW, "backup --output kept");
    // As a full disk does, but for the number of the error: a file gets no longer than 512 KiB.
    let limited = "trap '' XFSZ; ulimit -f 1024; exec \"$0\" \"$@\"";
    let mut sh = stack.project.command("sh");
    sh.args(["-c", limited]).arg(backup.get_program()).args(backup.get_args());
    sh.envs(backup.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let refused = outcome(&mut sh).exits(1).says("hydra.dump can't be written").says("File too large");
    refused.says("hint: free some space, or name another folder: cargo xtask backup --output DIR");
    let kept = stack.project.dir.join("kept");
    let names = || {
        let entries = std::fs::read_dir(&kept).expect("a folder");
        entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(), [".gitignore"]);
    let sessions = "select count(*) from pg_stat_activity where application_name like 'xtask%'";
    assert_eq!(stack.sql("postgres", sessions), "0\n");
    stack.run("backup --output kept").exits(0);
    assert_eq!(names().len(), 2);
}

fn a_reset_backs_up_and_starts_empty(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up").exits(0);
    let rows = rows_of_a_user(&stack);
    stack.run("reset keto").exits(2).says("cargo xtask reset keto --yes");
    assert_eq!(stack.rows(), rows);

    // What the images don't make isn't lost with what they make.
    stack.sql("keto", "create table application (id int); alter table application owner to keto");
    stack.run("reset keto --yes").exits(1).says("public.application");
    assert_eq!(stack.rows(), rows);
    stack.sql("keto", "drop table application");

    stack.run("reset keto --yes").exits(0).says("keto: empty, with");
    let after = stack.rows();
    assert_eq!(after[..2], rows[..2], "another product's rows");
    assert_ne!(after[2], rows[2]);
    assert_serves(&stack);
    stack.run(&format!("restore {} keto --yes", newest(&stack))).exits(0);
    assert_eq!(stack.rows(), rows);
    stack.run("migrate-all").exits(0).says("keto: up to date");
}

fn what_is_an_applications_goes_back_only_where_that_is_asked_for(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up").exits(0);
    // As somebody keeps them before an update: no image makes a table of that name.
    stack.sql("keto", "create table orders (id int); insert into orders values (1); create schema shop");
    stack.sql("keto", "create table keto_relation_tuples_of_may as select 1 as id");
    let name = stack.run("backup keto").exits(0).stdout;
    let name = name.trim().rsplit('/').next().expect("a name");
    stack.sql("keto", "insert into orders values (2); create table shop.networks (id int)");
    let orders = || stack.sql("keto", "select count(*) from orders").trim().to_string();
    for flags in ["--dry-run", "--yes"] {
        let refused = stack.run(&format!("restore latest keto {flags}")).exits(1);
        let refused = refused.says("public.orders (2 rows, 1 in the backup)");
        let refused = refused.says("public.keto_relation_tuples_of_may (1 row, 1 in the backup)");
        let refused = refused.says("shop.networks (0 rows, none in the backup)");
        let refused = refused.says(&format!("cargo xtask restore {name} keto --force"));
        assert!(!refused.stderr.contains("public.networks"), "{refused}");
        assert_eq!(orders(), "2");
    }
    stack.run("restore latest keto --force --dry-run").exits(0).says("public.orders (2 rows, 1 in the");
    stack.run("restore latest keto --force --yes").exits(0).says("public.orders (2 rows, 1 in the backup)");
    assert_eq!(orders(), "1");
    stack.sql("keto", "drop table orders, keto_relation_tuples_of_may");
    stack.run("restore latest keto --yes").exits(0);
    assert_eq!(orders(), "1");
}

fn a_role_that_has_rights_and_owns_nothing_has_them_afterwards(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up").exits(0);
    // Migrated by the administrator, and served by a role that may use the tables.
    stack.sql("postgres", "alter database keto owner to postgres; create role reader");
    stack.sql(
        "keto",
        "do $$ declare t text; begin for t in select format('%I.%I', schemaname, tablename) from pg_tables
           where schemaname = 'public' loop
             execute format('alter table %s owner to postgres; grant select, insert, update, delete on %s to keto', t, t);
           end loop; end $$;
         revoke create on schema public from public, keto; grant usage on schema public to keto;
         grant select on networks to reader; create schema shop; grant usage on schema shop to keto",
    );
    stack.sql(
        "postgres",
        "revoke connect, temporary on database keto from public; grant connect on database keto to keto",
    );
    let rights = "select relname, pg_get_userbyid(relowner), (select string_agg(a::text, ' ' order by a::text) from unnest(relacl) a)
                    from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' union all
                  select nspname, pg_get_userbyid(nspowner), (select string_agg(a::text, ' ' order by a::text) from unnest(nspacl) a)
                    from pg_namespace where nspname in ('public', 'shop') union all
                  select datname, pg_get_userbyid(datdba), (select string_agg(a::text, ' ' order by a::text) from unnest(datacl) a)
                    from pg_database where datname = 'keto' order by 1";
    let (rows, had) = (stack.rows(), stack.sql("keto", rights));
    assert!(had.contains("networks|postgres|keto=arwd/postgres"), "{had}");
    for command in ["backup keto --verify", "restore latest keto --yes", "restore latest keto --yes"] {
        stack.run(command).exits(0);
        assert_eq!((stack.rows(), stack.sql("keto", rights)), (rows.clone(), had.clone()), "{command}");
    }
    assert_serves(&stack);
}

fn a_migration_that_is_to_back_up_first_changes_nothing_without_a_good_backup(compose: Compose) {
    let stack = Stack::new(compose);
    let fresh = stack.run_release(OLD, "up --backup").exits(0);
    assert!(!fresh.stderr.contains("backed up"), "an empty database: {fresh}");
    let rows = rows_of_a_user(&stack);
    let [kratos, hydra, keto] = ["kratos", "hydra", "keto"].map(|product| stack.applied(product));

    // A file is in the way of the folder.
    stack.project.write("backups", "");
    let failed =
        stack.run("migrate-all --backup").exits(1).says("failed to back up, so nothing was migrated");
    failed.says("backups can't be written");
    assert_eq!(["kratos", "hydra", "keto"].map(|product| stack.applied(product)), [kratos, hydra, keto]);
    stack.project.remove("backups");

    let up = stack.run("up --backup").exits(0).says("kratos: backed up");
    assert!(up.stderr.contains("hydra: backed up") && !up.stderr.contains("keto: backed up"), "{up}");
    assert!(up.stdout.starts_with(&*stack.project.dir.join("backups").to_string_lossy()), "{up}");
    assert!(stack.applied("kratos") > kratos && stack.applied("hydra") > hydra);
    let name = newest(&stack);
    let again = stack.run("migrate-all --backup").exits(0).says("kratos: up to date");
    assert!(!again.stderr.contains("backed up"), "nothing is pending: {again}");
    assert_eq!(newest(&stack), name);

    // The way back, with the images of before.
    stack.run_release(OLD, &format!("restore {name} --yes")).exits(0);
    assert_eq!(stack.applied("kratos"), kratos);
    assert_eq!(stack.rows(), rows);
    stack.run_release(OLD, "status --check").exits(0);

    // What the stack says by now can't serve it: the database is as before, and so is the other server.
    stack.insert_rows();
    let rows = stack.rows();
    let served = stack.container("keto");
    let (file, command, other) =
        ("docker-compose.yml", "serve --config /etc/config/kratos/", "serve --config /etc/config/no/");
    stack.project.replace(file, command, other);
    let failed = stack.run_release(OLD, "--timeout 3 restore latest --yes").exits(1);
    let failed = failed.says("kratos was recreated as the stack says now; the data that is there needs ");
    assert_eq!((stack.rows(), stack.container("keto")), (rows, served), "{failed}");
    stack.project.replace(file, other, command);
    stack.run_release(OLD, "up").exits(0);
}
