//! What runs in containers of ours beside the server's own: shell scripts, each a step that can be run again.

use ory_runner::process::Invocation;

use crate::context::Context;

/// The label of all containers and volumes of an upgrade; its value is the project and the service.
pub const LABEL: &str = "xtask.upgrade";

/// The file in the kept volume that says how far it is.
pub const PHASE: &str = ".xtask-phase";

/// The file beside it that has the moment from which on only the new server has written.
pub const MOMENT: &str = ".xtask-moment";

/// Copies all that is in `/from` into `/to`, which is emptied first.
pub const COPY: &str = "set -eu
find /to -mindepth 1 -maxdepth 1 -exec rm -rf {} +
cp -a /from/. /to/
rm -rf /to/.xtask-new /to/.xtask-old
sync";

/// Puts a copy of `/from` beside what is in `/to`, in a folder that nobody uses.
pub const STAGE: &str = "set -eu
rm -rf /to/.xtask-new /to/.xtask-old
mkdir /to/.xtask-new
cp -a /from/. /to/.xtask-new/
rm -rf /to/.xtask-new/.xtask-* /to/.xtask-new/lost+found
sync";

/// Puts what is staged in `/to` in the place of what is there, by renaming alone. `/kept` knows how far it is: ended in the
/// middle, it goes on where it was. Without its `PG_VERSION`, which goes first and comes last, no server starts.
pub const MOVE: &str = "set -eu
way=$1 moment=$2
phase() {
  printf '%s\\n' \"$1\" > /kept/.xtask-phase.next
  sync
  mv /kept/.xtask-phase.next /kept/.xtask-phase
  sync
}
entries() { find . -mindepth 1 -maxdepth 1 ! -name '.xtask-*' ! -name lost+found ! -name PG_VERSION \"$@\"; }
cd /to
at=$(cat /kept/.xtask-phase 2>/dev/null || :)
if [ \"$at\" = \"$way\" ]; then rm -rf .xtask-old; exit 0; fi
if [ \"$at\" != \"filling $way\" ]; then
  if [ ! -d .xtask-new ]; then echo 'nothing is staged' >&2; exit 1; fi
  if [ -n \"$moment\" ]; then printf '%s\\n' \"$moment\" > /kept/.xtask-moment; fi
  phase \"emptying $way\"
  mkdir -p .xtask-old
  if [ -e PG_VERSION ]; then mv PG_VERSION .xtask-old/; fi
  entries -exec mv {} .xtask-old/ ';'
  if [ -n \"$(entries)\" ]; then echo 'not all can be moved' >&2; exit 1; fi
  phase \"filling $way\"
fi
if [ -d .xtask-new ]; then
  # Its owner has to be the server's only where it is, or was, the data's folder itself.
  if [ -e .xtask-new/PG_VERSION ] || [ -e .xtask-old/PG_VERSION ]; then
    chown \"$(stat -c %u:%g .xtask-new)\" .
    chmod \"$(stat -c %a .xtask-new)\" .
  fi
  cd .xtask-new
  entries -exec mv {} ../ ';'
  if [ -e PG_VERSION ]; then mv PG_VERSION ../; fi
  cd ..
  rmdir .xtask-new
fi
sync
phase \"$way\"
rm -rf .xtask-old";

/// Says how far it is.
pub const SET_PHASE: &str = "set -eu
printf '%s\\n' \"$1\" > /kept/.xtask-phase.next
sync
mv /kept/.xtask-phase.next /kept/.xtask-phase
sync";

/// Removes what is staged and wasn't needed.
pub const UNSTAGE: &str = "rm -rf /to/.xtask-new /to/.xtask-old";

/// A folder for a new cluster, whose owner is the server's user.
pub const PREPARE: &str = "set -eu
mkdir -p \"$1\"
chown -R \"$2\" \"$3\"
chmod 700 \"$1\"";

/// The settings' files of the old cluster, and what else a person has put beside them, as a certificate; the new cluster's
/// owner gets them.
pub const SETTINGS: &str = "set -eu
old=$1 new=$2
for file in postgresql.conf postgresql.auto.conf pg_hba.conf pg_ident.conf; do
  if [ -f \"$old/$file\" ]; then cp -L \"$old/$file\" \"$new/$file\"; fi
done
for path in \"$old\"/* \"$old\"/.[!.]*; do
  name=${path##*/}
  case $name in base|global|log|pg_*|postmaster.*|current_logfiles|backup_*|tablespace_map*|.xtask-*|lost+found) continue ;; esac
  if [ -e \"$path\" ] && [ ! -e \"$new/$name\" ]; then cp -a \"$path\" \"$new/$name\"; fi
done
chown -R \"$(stat -c %u:%g \"$new\")\" \"$new\"";

/// The size of what is in `/from`, and what is free there, in kB.
pub const ROOM: &str = "set -eu
du -sk /from | cut -f1
df -Pk /from | tail -n 1 | awk '{print $4}'";

/// Whether two clusters have given out the same transactions.
pub const SAME: &str = "set -eu
next() { LC_ALL=C pg_controldata -D \"$1\" | grep NextXID; }
[ \"$(next \"/from/$1\")\" = \"$(next \"/to/$1\")\" ]";

/// Asks a cluster of the image that is made for it, and thrown away.
pub const PROBE: &str = "set -eu
umask 077
dir=$(mktemp -d)
initdb -D \"$dir/data\" -U xtask --auth=trust --no-sync --lc-messages=C \"$@\" >&2
pg_ctl -s -w -D \"$dir/data\" -l \"$dir/log\" \\
  -o \"-c listen_addresses='' -c unix_socket_directories=$dir -c fsync=off\" start >&2 || { cat \"$dir/log\" >&2; exit 1; }
psql -wXqAt -v ON_ERROR_STOP=1 -h \"$dir\" -U xtask -d postgres
pg_ctl -s -D \"$dir/data\" -m immediate stop >&2";

/// Becomes a server that lets in whoever is in the container, and nobody else can be.
pub const SERVE: &str = "umask 077
printf 'local all all trust\\nhost all all 127.0.0.1/32 trust\\n' > /tmp/xtask-hba || exit 1
exec \"$@\" -c hba_file=/tmp/xtask-hba -c unix_socket_directories=/tmp";

/// A new cluster, of which all is on the disk when it is stopped.
pub const INIT: &str = "folder=$1 owner=$2; shift 2
exec initdb -D \"$folder\" -U \"$owner\" --auth=trust --no-sync --lc-messages=C \"$@\"";

/// The roles of the server on the loopback network, into the one on the socket. A dump that breaks off is an error there.
pub const ROLES: &str = "set -u
{ pg_dumpall -w -h 127.0.0.1 -U \"$1\" --globals-only || echo \"do 'begin raise; end';\"; } |
  psql -wXqAt -v VERBOSITY=verbose -h /tmp -U \"$1\" -d postgres";

/// A database likewise: all of it, or a failure.
pub const DATABASE: &str = "set -u
rm -f /tmp/xtask-dumped
owner=$1 database=$2 maintenance=$3; shift 3
{ pg_dump -w -h 127.0.0.1 -U \"$owner\" -Fc -Z0 --create -d \"$database\" && : > /tmp/xtask-dumped; } |
  pg_restore -w -h /tmp -U \"$owner\" --exit-on-error --create \"$@\" -d \"$maintenance\" && [ -e /tmp/xtask-dumped ]";

/// A script run as root in an image that has a shell, with nothing but these mounts. `name` is what it is for.
pub fn run(
    cx: &Context,
    image: &str,
    of: &str,
    mounts: &[String],
    script: &str,
    words: &[&str],
) -> Invocation {
    bare(cx, image, of, "0", mounts, script, words)
}

/// The same as another user.
pub fn bare(
    cx: &Context,
    image: &str,
    of: &str,
    user: &str,
    mounts: &[String],
    script: &str,
    words: &[&str],
) -> Invocation {
    let label = format!("{LABEL}={of}");
    let fixed = ["run", "--rm", "-i", "--label", &label, "--network", "none", "--log-driver", "none"];
    let run = cx.engine.docker(fixed).args(mounts.iter().flat_map(|mount| ["--mount", mount]));
    let run = run.args(["--user", user, "--entrypoint", "sh", image, "-c", script, "sh"]);
    run.args(words.iter().copied()).within(cx.options.timeout).called(format!("a script in {image}"))
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    use std::path::Path;
    use std::process::Command;

    use super::MOVE;

    /// Kills the whole group of processes at the move whose number is in `STOP`.
    const MV: &str = "#!/bin/sh\nn=$(($(cat \"$COUNT\" 2>/dev/null || echo 0) + 1)); echo $n > \"$COUNT\"\n\
                      if [ $n = \"$STOP\" ]; then kill -9 0; fi\nPATH=${PATH#*:} exec mv \"$@\"\n";

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn wherever_it_is_killed_no_server_finds_half_of_each_and_the_next_run_goes_on() {
        let root = std::env::temp_dir().join(format!("xtask-move-{}", std::process::id()));
        let (data, kept, bin) = (root.join("data"), root.join("kept"), root.join("bin"));
        let path = |path: &Path| path.display().to_string();
        let script = MOVE
            .replace("/kept/", &format!("{}/", path(&kept)))
            .replace("cd /to", &format!("cd {}", path(&data)));
        let run = |stop: usize| {
            let _ = fs::remove_file(root.join("count"));
            let search = format!("{}:{}", path(&bin), std::env::var("PATH").expect("a PATH"));
            let mut sh = Command::new("sh");
            sh.args(["-c", &script.replace("sync\n", "\n"), "sh", "new", "7"]).process_group(0);
            sh.env("PATH", search).env("STOP", stop.to_string()).env("COUNT", root.join("count"));
            sh.status().expect("it ran").success()
        };
        let mut killed = 0;
        for stop in 1..100 {
            let _ = fs::remove_dir_all(&root);
            for (folder, major, own) in [(data.clone(), "15", "a"), (data.join(".xtask-new"), "17", "b")] {
                fs::create_dir_all(folder.join("base")).expect("a folder");
                fs::write(folder.join("PG_VERSION"), major).expect("a file");
                fs::write(folder.join("base").join(own), "").expect("a file");
                fs::write(folder.join(format!(".{own}")), "").expect("a file");
            }
            for folder in [&kept, &bin] {
                fs::create_dir_all(folder).expect("a folder");
            }
            fs::write(bin.join("mv"), MV).expect("a program");
            fs::set_permissions(bin.join("mv"), PermissionsExt::from_mode(0o755)).expect("a mode");
            let ended = run(stop);
            if let Ok(major) = fs::read_to_string(data.join("PG_VERSION")) {
                let own = if major == "15" { ["a"] } else { ["b"] };
                assert_eq!(names(&data.join("base")), own, "a server would start on half of each: {stop}");
            }
            assert!(run(0), "it goes on after {stop}");
            assert_eq!(names(&data), [".b", "PG_VERSION", "base"], "after {stop}");
            assert_eq!(fs::read_to_string(data.join("PG_VERSION")).expect("a file"), "17");
            assert_eq!(fs::read_to_string(kept.join(".xtask-phase")).expect("a file"), "new\n");
            assert!(run(0), "once more changes nothing");
            assert_eq!(names(&data.join("base")), ["b"]);
            if ended {
                break;
            }
            killed += 1;
        }
        assert!(killed > 8, "{killed}");
        fs::remove_dir_all(&root).expect("removed");
    }
}
