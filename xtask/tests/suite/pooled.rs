//! A pooler between the products and PostgreSQL, as PgBouncer is: its image has no psql, and it forwards what it is told.

use crate::stack::{Compose, Stack};
use crate::tiers::scenarios_once;

scenarios_once! {
    first: [
        past_a_pooler_backups_are_verified_and_restored_and_locks_are_held
    ]
}

/// Without psql. It forwards connections, which is all that a pooler in session mode does that can be told from outside.
const DOCKERFILE: &str = r#"ARG IMAGE
FROM $IMAGE
USER root
RUN rm -f /usr/bin/psql /usr/local/bin/psql /usr/lib/postgresql/*/bin/psql /usr/share/postgresql-common/pg_wrapper
COPY forward /forward
ENTRYPOINT ["sh", "/forward"]
CMD []
"#;

const FORWARD: &str = r#"command -v perl >/dev/null || exec nc -lk -p 6432 -e nc db 5432
exec perl -MIO::Socket::INET -e '
  $SIG{CHLD} = "IGNORE";
  my $all = IO::Socket::INET->new(LocalPort => 6432, Listen => 20, ReuseAddr => 1) or die;
  while (my $in = $all->accept) {
    next if fork;
    my $out = IO::Socket::INET->new("db:5432") or exit;
    my ($from, $to) = fork ? ($in, $out) : ($out, $in);
    while (sysread $from, my $part, 65536) { syswrite $to, $part }
    $to->shutdown(1);
    exit;
  }'
"#;

fn past_a_pooler_backups_are_verified_and_restored_and_locks_are_held(compose: Compose) {
    let mut stack = Stack::new(compose);
    // What asks through the pooler, and what the pooler is made of.
    let image = stack.postgres_image().unwrap_or("postgres:17-alpine".into());
    stack.project.write("pool/Dockerfile", DOCKERFILE);
    stack.project.write("pool/forward", FORWARD);
    let pool = format!(
        "  pool:\n    build: {{ context: pool, args: {{ IMAGE: '{image}' }} }}\n    init: true\n    depends_on:\n      \
         db: {{ condition: service_healthy }}\n\n  kratos:\n"
    );
    stack.run("up db").exits(0);
    stack.run("migrate-all").exits(0);
    stack.project.replace("docker-compose.yml", "  kratos:\n", &pool);
    stack.project.replace("docker-compose.yml", "@db:5432/kratos?", "@pool:6432/kratos?");
    stack.set("XTASK_POSTGRES_IMAGE", &image);

    stack.run("up").exits(0).says("kratos: up to date");
    stack.insert_rows();
    let rows = stack.rows();
    stack.run("backup --verify").exits(0).says("kratos: restored and compared");
    stack.insert_rows();
    stack.run("restore latest --yes").exits(0);
    assert_eq!(stack.rows(), rows);
    stack.run("reset kratos --yes").exits(0);
    stack.run("restore latest kratos --yes").exits(0);
    assert_eq!(stack.rows(), rows);
    stack.run("status --check").exits(0);
    // Whoever holds the lock in PostgreSQL itself holds it through the pooler too.
    let key = "select pg_advisory_lock(hashtext('xtask'), hashtext('kratos/public')), pg_sleep(60)";
    let sleeps = std::thread::spawn({
        let db = stack.container("db").1;
        move || {
            std::process::Command::new("docker")
                .args(["exec", &db, "psql", "-U", "postgres", "-c", key])
                .output()
        }
    });
    let waits = "select count(*) from pg_locks where locktype = 'advisory' and granted";
    while stack.sql("postgres", waits).trim() == "0" {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    stack.run("migrate-kratos --force --lock-timeout 1").exits(6);
    stack.sql("postgres", "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory'");
    let _ = sleeps.join();
}
