//! Random histories of a repository: what people do to fleets, devices and files, and what goes wrong while they do it.

use std::collections::BTreeSet;

use fleet_test::GitRepo;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// The most fleets at a time; each has a role of its own, so that no device is ever wanted by two.
pub(crate) const FLEETS: usize = 6;
/// Devices without agents: so many for each role.
pub(crate) const DEVICES_PER_ROLE: usize = 3;

/// Nothing waits for a person: what is tested is what becomes of commits that are applied.
const POLICY: &str = "apiVersion: shorebase/v1alpha1\nkind: SyncPolicy\nmetadata:\n  name: free\nspec:\n  \
    forcedPush: Follow\n  deletionGracePeriod: 0s\n  limits:\n    removedFleets: {percent: 100}\n    \
    unmanagedDevices: {percent: 100}\n    changedDevicesWithoutRollout: {percent: 100}\n";

/// A commit that was pushed.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// What was done.
    pub(crate) what: String,
    pub(crate) commit: String,
    /// Whether it can be applied.
    pub(crate) good: bool,
}

/// A repository that is worked in, and the one on the host that it is pushed to.
pub(crate) struct History {
    rng: StdRng,
    work: GitRepo,
    pub(crate) host: GitRepo,
    /// Good commits of the branch, oldest first.
    line: Vec<String>,
    broken: bool,
    fleets: BTreeSet<usize>,
    devices: BTreeSet<usize>,
    count: u64,
}

/// Names that `Device` manifests may have: fingerprints of keys.
fn device(n: usize) -> String {
    format!("{n:051}0")
}

/// SQL that adds the devices, as they are after their enrolment.
pub(crate) fn devices_sql() -> String {
    format!(
        "insert into devices (org_id, name, enrolled_labels, labels, change_seq)
         select '00000000-0000-0000-0000-000000000000', lpad(n::text, 51, '0') || '0', l, l, nextval('device_change_seq')
         from generate_series(0, {last}) n, jsonb_build_object('role', 'role' || n / {DEVICES_PER_ROLE}) l;
         notify shorebase_enrollment",
        last = FLEETS * DEVICES_PER_ROLE - 1
    )
}

impl History {
    /// A history with its first commit, which is pushed.
    pub(crate) fn start(seed: u64) -> Self {
        let work = GitRepo::init();
        work.write("policies/free.yaml", POLICY).write("README.md", "Fleets\n");
        let mut history = Self {
            rng: StdRng::seed_from_u64(seed),
            host: work.bare_clone(),
            work,
            line: Vec::new(),
            broken: false,
            fleets: BTreeSet::new(),
            devices: BTreeSet::new(),
            count: 0,
        };
        for n in 0..3 {
            history.fleet(n);
        }
        let first = history.work.commit("start");
        history.line.push(first);
        history.push(false);
        history
    }

    /// The commit that was good last.
    pub(crate) fn good(&self) -> &str {
        self.line.last().expect("the first commit is good")
    }

    /// A random moment or choice.
    pub(crate) fn rng(&mut self) -> &mut StdRng {
        &mut self.rng
    }

    fn push(&self, forced: bool) {
        self.work.push(&self.host, "main", forced);
    }

    fn pick(&mut self, from: &BTreeSet<usize>) -> usize {
        let at = self.rng.random_range(0..from.len());
        *from.iter().nth(at).expect("within its length")
    }

    fn fleet(&mut self, n: usize) {
        self.count += 1;
        let content = self.count;
        self.work
            .write(
                &format!("fleets/{n}.yaml"),
                format!(
                    "apiVersion: flightctl.io/v1beta1\nkind: Fleet\nmetadata:\n  name: fleet{n}\nspec:\n  selector:\n    \
                     matchLabels:\n      role: role{n}\n  template:\n    spec:\n      config:\n        - name: files\n          \
                     gitRef:\n            repository: .\n            path: config/{n}\n        - name: inline\n          \
                     inline:\n            - path: /etc/name\n              content: \
                     \"{{{{ .metadata.name }}}} {{{{ getOrDefault .metadata.labels \\\"site\\\" \\\"-\\\" }}}} {content}\\n\"\n"
                ),
            )
            .write(&format!("config/{n}/etc/motd"), format!("motd {content}\n"));
        self.fleets.insert(n);
    }

    fn label(&mut self, n: usize) {
        let (role, site) = (self.rng.random_range(0..FLEETS), self.rng.random_range(0..4));
        self.work.write(
            &format!("devices/{n}.yaml"),
            format!(
                "apiVersion: flightctl.io/v1beta1\nkind: Device\nmetadata:\n  name: \"{}\"\n  labels:\n    role: role{role}\n    \
                 site: site{site}\n",
                device(n)
            ),
        );
        self.devices.insert(n);
    }

    /// One thing that somebody may do to good files.
    fn change(&mut self) -> &'static str {
        let known = self.fleets.clone();
        match self.rng.random_range(0..11) {
            0 if known.len() < FLEETS => {
                let free: BTreeSet<usize> = (0..FLEETS).filter(|n| !known.contains(n)).collect();
                let n = self.pick(&free);
                self.fleet(n);
                "adds a fleet"
            }
            1 if known.len() > 1 => {
                let n = self.pick(&known);
                self.work.remove(&format!("fleets/{n}.yaml"));
                self.fleets.remove(&n);
                "removes a fleet"
            }
            2 | 3 => {
                let n = self.pick(&known);
                self.count += 1;
                let text = format!("more {}\n", self.count);
                let file = self.rng.random_range(0..4);
                self.work.write(&format!("config/{n}/etc/more{file}"), text);
                "changes a file"
            }
            4 | 5 => {
                let n = self.rng.random_range(0..FLEETS * DEVICES_PER_ROLE);
                self.label(n);
                "labels a device"
            }
            6 if !self.devices.is_empty() => {
                let n = self.pick(&self.devices.clone());
                self.work.remove(&format!("devices/{n}.yaml"));
                self.devices.remove(&n);
                "takes a device's labels away"
            }
            7 => {
                self.count += 1;
                self.work.write("README.md", format!("Fleets, {}\n", self.count));
                "changes what no device gets"
            }
            8 => {
                for n in known {
                    self.fleet(n);
                }
                for n in 0..4 {
                    self.label(n);
                }
                "changes everything"
            }
            9 => "changes nothing",
            _ => {
                let n = self.pick(&known);
                self.fleet(n);
                "changes a fleet"
            }
        }
    }

    /// Something that must not be applied.
    fn damage(&mut self) -> &'static str {
        let known = self.fleets.clone();
        let n = self.pick(&known);
        let file = format!("fleets/{n}.yaml");
        let text = std::fs::read_to_string(self.work.path().join(&file)).expect("the fleet's file is there");
        match self.rng.random_range(0..7) {
            0 => {
                self.work.write(&file, text.replace("kind: Fleet", "kind: Flet"));
                "bad: a kind that nobody knows"
            }
            1 => {
                self.work.write("fleets/again.yaml", text);
                "bad: a name twice"
            }
            2 => {
                self.work.write(&file, text.replace("  name:", "\tname:"));
                "bad: a tab"
            }
            3 => {
                self.work.write(&file, text.replace("path: config/", "path: nowhere/"));
                "bad: a directory that is not there"
            }
            4 => {
                self.work.remove("fleets").remove("policies").remove("config");
                if self.work.path().join("devices").exists() {
                    self.work.remove("devices");
                }
                "bad: nothing is left"
            }
            5 => {
                self.work.write(&file, &text[..text.len() / 2 + 7]);
                "bad: half of a file"
            }
            _ => {
                self.work.write(&file, b"kind: \xff\xfe\n");
                "bad: no text"
            }
        }
    }

    /// Reads back which fleets and devices the work tree has, after the branch was moved.
    fn reread(&mut self) {
        let names = |directory: &str| -> BTreeSet<usize> {
            let Ok(entries) = std::fs::read_dir(self.work.path().join(directory)) else { return BTreeSet::new() };
            entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".yaml")?.parse().ok()).collect()
        };
        (self.fleets, self.devices) = (names("fleets"), names("devices"));
    }

    /// The next commit, pushed.
    pub(crate) fn next(&mut self) -> Step {
        let mut what = Vec::new();
        let mut forced = false;
        if self.broken {
            let good = self.good().to_owned();
            if self.rng.random_bool(0.5) {
                self.work.force(&good);
                forced = true;
                what.push("the bad commit is taken off");
            } else {
                self.work.git(&["rm", "-r", "-q", "--ignore-unmatch", "."]);
                self.work.git(&["checkout", "-q", &good, "--", "."]);
                what.push("on top of the bad commit");
            }
            self.broken = false;
            self.reread();
        } else if self.line.len() > 4 && self.rng.random_bool(0.12) {
            let back = self.rng.random_range(1..4);
            self.line.truncate(self.line.len() - back);
            let to = self.good().to_owned();
            self.work.force(&to);
            forced = true;
            what.push("forced back");
            self.reread();
            if self.rng.random_bool(0.3) {
                self.push(true);
                return Step { what: what.join(", "), commit: to, good: true };
            }
        }
        let good = !self.rng.random_bool(0.2);
        if good {
            for _ in 0..self.rng.random_range(1..4) {
                what.push(self.change());
            }
        } else {
            what.push(self.damage());
        }
        let commit = self.work.commit(&what.join(", "));
        if good {
            self.line.push(commit.clone());
        }
        self.broken = !good;
        self.push(forced);
        Step { what: what.join(", "), commit, good }
    }
}

/// What is desired, and what of it devices have: a line for each thing. It depends on the commit in force alone, not on the
/// way there.
pub(crate) const STATE: &str = "
    select string_agg(line, E'\\n' order by line) from (
      select concat_ws(' ', 'manifest', kind, name, source, file, line, end_line, encode(digest, 'hex'),
                       md5(document::text), revision, problem) as line from desired.manifests
      union all
      select concat_ws(' ', 'fleet', name, source, selector, revision, problem) from desired.fleets
      union all
      select concat_ws(' ', 'revision', r.fleet, r.name, encode(r.digest, 'hex'), md5(r.template::text))
        from desired.fleet_revisions r join desired.fleets f on f.name = r.fleet and f.revision = r.name
      union all
      select concat_ws(' ', 'source', name, origin, revision, path, applied_commit) from desired.sources
      union all
      select concat_ws(' ', 'position', source, commit_id, manifests) from source_positions
      union all
      select concat_ws(' ', 'device', name, owner_fleet, conflicting_fleets, labels, dirty, render_error,
                       case when owner_fleet is not null then encode(rendered_digest, 'hex') || fleet_revision end)
        from devices
    ) lines";

/// What does not agree: a line for each contradiction between tables that are written together.
pub(crate) const CONTRADICTIONS: &str = "
    select 'source ' || s.name || ' is at ' || s.applied_commit || ', its position is ' || coalesce(p.commit_id, 'none')
      from desired.sources s left join source_positions p on p.source = s.name
      where s.applied_commit is not null and s.applied_commit is distinct from p.commit_id
    union all
    select 'no verdict on the applied commit of ' || s.name from desired.sources s
      where s.applied_commit is not null and not exists
        (select from desired.commits c where c.source = s.name and c.commit_id = s.applied_commit and c.verdict = 'Applied')
    union all
    select 'no plan of the applied commit of ' || s.name from desired.sources s
      where s.applied_commit is not null and not exists
        (select from desired.plans p where p.source = s.name and p.commit_id = s.applied_commit)
    union all
    select 'the plan of ' || p.commit_id || ' is another than the one that was applied' from desired.plans p
      where not exists (select from events e where e.reason = 'ResourceSyncSynced' and e.name = p.source
        and e.details->>'commitHash' = p.commit_id and position(encode(p.digest, 'hex') in e.details->>'planDigest') > 0)
    union all
    select 'position says ' || p.manifests || ' manifests of ' || p.source from source_positions p
      join desired.sources s on s.name = p.source and s.applied_commit is not null
      where p.manifests <> (select count(*) from desired.manifests m where m.source = p.source)
    union all
    select concat_ws(' ', coalesce(m.kind, o.kind), coalesce(m.name, o.name), 'is of', m.source, 'and owned by', o.source)
      from (select * from desired.manifests m where not exists
              (select from tombstones t where t.kind = m.kind and t.name = m.name)) m
      full join object_owners o on o.kind = m.kind and o.name = m.name
      where m.source is distinct from o.source
        and exists (select from desired.sources having bool_and(applied_commit is not null))
    union all
    select 'pinned of ' || p.owner || ' is not what is in force' from source_pins p
      join desired.fleets f on f.name = p.owner and f.revision is not null and f.problem is null
      where f.revision <> p.revision or f.source <> p.source
    union all
    select 'fleet ' || f.name || ' has no manifest' from desired.fleets f
      where not exists (select from desired.manifests m where m.kind = 'Fleet' and m.name = f.name and m.source = f.source)
    union all
    select 'manifest of ' || m.name || ' has no fleet' from desired.manifests m
      where m.kind = 'Fleet' and not exists (select from desired.fleets f where f.name = m.name)
    union all
    select 'revision ' || f.revision || ' is missing' from desired.fleets f
      where f.revision is not null and not exists
        (select from desired.fleet_revisions r where r.fleet = f.name and r.name = f.revision)
    union all
    select 'tree ' || (i->>'tree') || ' is missing' from desired.fleet_revisions r, jsonb_array_elements(r.inputs) i
      where not exists (select from desired.file_trees t where position(encode(t.digest, 'hex') in i->>'tree') > 0)
    union all
    select 'blob ' || (e->>'digest') || ' is missing' from desired.file_trees t, jsonb_array_elements(t.entries) e
      where not exists (select from desired.blobs b where position(encode(b.digest, 'hex') in e->>'digest') > 0)
    union all
    select 'device ' || d.name || ' belongs to ' || d.owner_fleet || ', which is no fleet' from devices d
      where d.owner_fleet is not null and not dirty
        and exists (select from desired.sources having bool_and(applied_commit is not null))
        and not exists (select from desired.fleets f where f.name = d.owner_fleet)
    union all
    select 'device ' || d.name || ' has a document that is not there' from devices d
      where d.rendered_digest is not null and not exists (select from rendered.specs s where s.digest = d.rendered_digest)";
