//! The ground that faults are tried on: a stack whose migrations can be held at a known place, and that is looked
//! over after each fault.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::project::workspace;
use crate::stack::{Compose, NEW, Stack, docker};
use ory_runner::own_folder;

pub const PRODUCTS: [&str; 3] = ["kratos", "hydra", "keto"];

/// A statement that defines something can be held, Ory's and the stand-ins' alike. The setting `fault.hold` is
/// `DATABASE APPLIED START NUMBER`: once so many versions are applied there, the next statement waits until the
/// setting is another, for half a minute at most, unless the server was restarted meanwhile. It waits when it
/// is done; a concurrent one, which would be in pieces then, before it begins.
const HOLD: &str = "
    create function public.fault_hold() returns event_trigger language plpgsql as $$
    declare
      setting text := current_setting('fault.hold', true);
      hold text[] := string_to_array(setting, ' ');
      applied int := 0;
    begin
      if hold[1] is distinct from current_database()::text or hold[3] <> pg_postmaster_start_time()::date
        || 'T' || pg_postmaster_start_time()::time
        or (tg_event = 'ddl_command_start') <> (current_query() ilike '%concurrently%') then
        return;
      end if;
      if to_regclass('public.schema_migration') is not null then
        select count(*) into applied from public.schema_migration;
      end if;
      if applied >= hold[2]::int then
        for try in 1..600 loop
          exit when not exists (select from pg_db_role_setting
            where setdatabase = 0 and setrole = 0 and setconfig @> array['fault.hold=' || setting]);
          perform pg_sleep(0.05);
        end loop;
      end if;
    end $$;
    create event trigger fault_start on ddl_command_start execute function public.fault_hold();
    create event trigger fault_end on ddl_command_end execute function public.fault_hold();";

/// A stack to try faults on.
pub struct Ground {
    pub stack: Rc<Stack>,
}

/// A run of xtask in a group of processes of its own, and what it has said so far.
pub struct Run {
    child: Child,
    said: PathBuf,
    started: Instant,
}

/// How a run ended.
pub struct Ended {
    pub code: Option<i32>,
    pub said: String,
    pub took: Duration,
}

impl Ground {
    /// A stack of which the database runs, and nothing else yet.
    pub fn new(compose: Compose) -> Self {
        let mut stack = Stack::new(compose);
        stack.run("up db").exits(0);
        // From here on the images are named, not built: that would only cost time.
        stack.set("XTASK_TEST", "faults");
        let ground = Self { stack: Rc::new(stack) };
        // Faults end processes, not the machine: the disk may be lazy.
        ground.psql(&format!(
            "alter system set fsync = off; select pg_reload_conf();\n\\connect template1\n{HOLD}"
        ));
        ground
    }

    /// Runs a script as the superuser, and returns the rows. Nothing where the database doesn't run.
    pub fn psql(&self, script: &str) -> String {
        let (_, db) = self.stack.container("db");
        if db.is_empty() {
            return String::new();
        }
        let mut psql = Command::new("docker");
        let line = r#"exec psql -XqAt -U "${POSTGRES_USER:-postgres}" -d postgres"#;
        psql.args(["exec", "-i", &db, "sh", "-c", line]);
        psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut psql = psql.spawn().expect("docker starts");
        // Where it has ended, what it said on its standard error is shown.
        let _ = psql.stdin.take().expect("an input").write_all(script.as_bytes());
        let output = psql.wait_with_output().expect("an output");
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// SQL after which a product's migration is held, once so many versions are applied, until [`Self::let_go`].
    pub fn hold_sql(product: &str, applied: usize) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        format!(
            "do $$ begin execute format('alter role all set fault.hold = %L', concat('{product} {applied} ', \
             pg_postmaster_start_time()::date, 'T', pg_postmaster_start_time()::time, ' {number}')); end $$;\n"
        )
    }

    pub fn hold(&self, product: &str, applied: usize) {
        self.psql(&Self::hold_sql(product, applied));
    }

    pub fn let_go(&self) {
        self.psql("alter role all reset fault.hold");
    }

    /// Waits until a product's migration is held, and returns how many versions it has by then. None where it
    /// doesn't come to it.
    pub fn wait_until_held(&self, product: &str) -> Option<usize> {
        let wait = format!(
            "do $$ begin for try in 1..3000 loop
               if exists (select from pg_stat_activity where application_name like 'xtask-%-migrate-%'
                 and datname = '{product}' and wait_event = 'PgSleep') then return; end if;
               perform pg_stat_clear_snapshot();
               perform pg_sleep(0.01);
             end loop; raise 'it is never held'; end $$;
             \\connect {product}
             select count(*) from schema_migration;\n"
        );
        let held = self.psql(&format!("\\set ON_ERROR_STOP on\n{wait}"));
        held.trim().parse().ok()
    }

    /// The product whose migration has a session in PostgreSQL.
    pub fn migrating(&self) -> Option<String> {
        let sql = "select datname from pg_stat_activity where application_name like 'xtask-%-migrate-%'";
        self.psql(sql).lines().next().map(String::from)
    }

    /// The name of the container that migrates a product.
    pub fn migration(&self, product: &str) -> String {
        format!("xtask-{}-migrate-{product}", self.stack.name)
    }

    /// Starts `cargo xtask ARGS`.
    pub fn start(&self, args: &str) -> Run {
        Run::start(&self.stack, &mut self.stack.command(NEW, args))
    }

    /// Starts it, and waits until a product's migration is held.
    #[track_caller]
    pub fn start_held(&self, args: &str, product: &str) -> Run {
        let run = self.start(args);
        assert!(self.wait_until_held(product).is_some(), "{}", run.said());
        run
    }

    /// Runs it to its end.
    pub fn run(&self, args: &str) -> Ended {
        self.start(args).end()
    }

    /// What must not be there once a command has ended well, in words.
    pub fn leftovers(&self) -> Vec<String> {
        let mut found = Vec::new();
        let project = format!("label=com.docker.compose.project={}", self.stack.name);
        let one_off = ["--filter", &project, "--filter", "label=com.docker.compose.oneoff=True"];
        let named = format!("name=xtask-{}", self.stack.name);
        for filter in [&one_off[..], &["--filter", &named]] {
            let format = ["ps", "--all", "--format", "container {{.Names}}, {{.Status}}"];
            found.extend(docker(&[&format, filter].concat()).lines().map(String::from));
        }
        let mut script = String::from(
            "select concat_ws(' ', 'session', datname, application_name, state, query) from pg_stat_activity
               where application_name like 'xtask%';
             select 'advisory lock of ' || pid from pg_locks where locktype = 'advisory';
             select 'database ' || datname from pg_database
               where datname ~ '^xtask_' and datname !~ '^xtask_replaced_';
             select 'database ' || datname || ' that takes no connections' from pg_database
               where not datallowconn and not datistemplate and datname !~ '^xtask_';\n",
        );
        let there = self.psql("select datname from pg_database where datallowconn");
        for product in PRODUCTS.iter().filter(|product| there.lines().any(|there| there == **product)) {
            let invalid =
                "select 'invalid index ' || indexrelid::regclass from pg_index where not indisvalid";
            script += &format!("\\connect {product}\n{invalid};\n");
        }
        found.extend(self.psql(&script).lines().map(String::from));
        found.extend(self.processes());
        found.extend(self.files());
        found
    }

    /// Processes that work in the stack's folder.
    fn processes(&self) -> Vec<String> {
        let of_stack = |process: std::fs::DirEntry| {
            let folder = std::fs::read_link(process.path().join("cwd")).ok()?;
            let line = std::fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
            let is_ours = folder.starts_with(&self.stack.project.dir);
            is_ours.then(|| format!("process {}", line.replace('\0', " ")))
        };
        let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        all.filter_map(of_stack).collect()
    }

    /// Temporary files, and locks that are held.
    fn files(&self) -> Vec<String> {
        let is_temporary = |path: &PathBuf| path.to_string_lossy().ends_with(".tmp");
        let mut found: Vec<PathBuf> = self.stack.project.paths().into_iter().filter(is_temporary).collect();
        let of_stack = |path: &PathBuf| path.to_string_lossy().contains(&format!("/{}-", self.stack.name));
        for folder in ["", "images", "logs", "locks", "split", "stopped"] {
            // What these two have of a stack is only there while it is needed.
            let is_passing = ["split", "stopped"].contains(&folder);
            let folder = workspace().join("target/ory").join(folder);
            let paths = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
            found.extend(paths.filter(|path| is_temporary(path) || is_passing && of_stack(path)));
        }
        let locks =
            own_folder::find().and_then(|folder| Ok(std::fs::read_dir(folder)?)).into_iter().flatten();
        let is_held = |path: &PathBuf| std::fs::File::open(path).is_ok_and(|file| file.try_lock().is_err());
        found.extend(locks.flatten().map(|entry| entry.path()).filter(of_stack).filter(is_held));
        found.into_iter().map(|path| format!("file {}", path.display())).collect()
    }
}

/// Unpauses a container, as this command does.
///
/// Docker 20.10 waits for ever where the container was paused while a program was being started in it: that one is
/// frozen half-way, and holds what `unpause` waits for. Thawed for a moment, it lets go.
pub fn unpause(command: &mut Command, container: &str) {
    let mut child = command.spawn().expect("it starts");
    let start = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        if start.elapsed() > Duration::from_secs(10) {
            freeze(container, false);
            child.wait().expect("it ends");
            freeze(container, true);
            docker(&["unpause", container]);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    // What Docker says of it is what the next command sees.
    assert_eq!(docker(&["inspect", "--format", "{{.State.Paused}}", container]).trim(), "false");
}

/// Freezes or thaws a container behind the engine's back, in either generation of control groups.
fn freeze(container: &str, is_frozen: bool) {
    let old = if is_frozen { "FROZEN" } else { "THAWED" };
    let new = if is_frozen { "1" } else { "0" };
    let files = [
        (format!("/sys/fs/cgroup/freezer/docker/{container}/freezer.state"), old),
        (format!("/sys/fs/cgroup/docker/{container}/cgroup.freeze"), new),
        (format!("/sys/fs/cgroup/system.slice/docker-{container}.scope/cgroup.freeze"), new),
    ];
    let (file, state) =
        files.into_iter().find(|(file, _)| Path::new(file).exists()).expect("a control group");
    std::fs::write(file, state).expect("it is written");
}

impl Run {
    /// No command takes so long, whatever happens to it and however slow the machine is.
    const LIMIT: Duration = Duration::from_secs(200);

    /// Starts a command; what it says goes to a file beside the stack's folder.
    pub fn start(stack: &Stack, command: &mut Command) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}.said", NUMBER.fetch_add(1, Ordering::Relaxed));
        let said = stack.project.dir.parent().expect("a folder").join(name);
        let file = std::fs::File::create(&said).expect("a file");
        let command = command.stdout(Stdio::null()).stderr(file).process_group(0);
        Self { child: command.spawn().expect("xtask starts"), said, started: Instant::now() }
    }

    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap_or_default()
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }

    /// Where it is, in words.
    pub fn phase(&mut self) -> String {
        if self.has_ended() {
            return "after the end".into();
        }
        let at = format!("at {:.1} s", self.started.elapsed().as_secs_f64());
        self.said().lines().last().map_or(at.clone(), |line| format!("{at}, after {line:?}"))
    }

    /// Waits until it says something.
    #[track_caller]
    pub fn wait_until_said(&mut self, text: &str) {
        while !self.said().contains(text) {
            assert!(!self.has_ended() || self.said().contains(text), "it never says {text}: {}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends a signal to xtask alone, or to its group of processes as a terminal does.
    pub fn signal(&self, signal: &str, to_group: bool) {
        let target = format!("{}{}", if to_group { "-" } else { "" }, self.child.id());
        let signal = format!("-{signal}");
        // Where the process has ended before, there is nothing to be done.
        let mut kill = Command::new("kill");
        kill.args([&signal, "--", &target]).stderr(Stdio::null()).status().expect("kill starts");
    }

    /// Waits for its end, which must come.
    #[track_caller]
    pub fn end(mut self) -> Ended {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return Ended { code: status.code(), said: self.said(), took: self.started.elapsed() };
            }
            if start.elapsed() > Self::LIMIT {
                self.signal("KILL", true);
                panic!("xtask goes on after {:?}; it said:\n{}", Self::LIMIT, self.said());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Ended {
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.said);
        self
    }

    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.said.contains(text), "it doesn't say: {text}\n{}", self.said);
        self
    }

    /// With which code, and when.
    pub fn in_words(&self) -> String {
        let code = self.code.map_or("killed".into(), |code| format!("exit {code}"));
        format!("{code} after {:.1} s", self.took.as_secs_f64())
    }

    /// The next command to type.
    pub fn hint(&self) -> &str {
        self.said.lines().find_map(|line| line.strip_prefix("hint: ")).unwrap_or_default()
    }
}
