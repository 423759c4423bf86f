//! Names of users and groups as numbers, from the root's own files.

use std::collections::HashMap;
use std::io;

use crate::disk::{Disk, Owner};
use crate::path::FilePath;

const MAX_BYTES: u64 = 16 << 20;

/// Users and groups of the root.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    users: HashMap<String, u32>,
    groups: HashMap<String, u32>,
    enforced: bool,
}

fn read_table(disk: &dyn Disk, path: &str) -> io::Result<HashMap<String, u32>> {
    let bytes = disk.read(&FilePath::own(path), MAX_BYTES)?.unwrap_or_default();
    let mut table = HashMap::from([("root".to_owned(), 0)]);
    for line in String::from_utf8_lossy(&bytes).lines() {
        // name:password:number:…
        let mut fields = line.split(':');
        if let (Some(name), Some(number)) = (fields.next(), fields.nth(1))
            && let Ok(number) = number.parse()
        {
            table.insert(name.to_owned(), number);
        }
    }
    Ok(table)
}

impl Owners {
    /// Reads both tables. Without the right to give files away nothing is read and nothing resolved.
    pub(crate) fn read(disk: &dyn Disk) -> io::Result<Self> {
        if !disk.may_chown() {
            return Ok(Self::default());
        }
        let (users, groups) = (read_table(disk, "/etc/passwd")?, read_table(disk, "/etc/group")?);
        Ok(Self { users, groups, enforced: true })
    }

    /// Owner and group as numbers; `None` when files cannot be given away, so that whoever runs the agent owns them.
    pub(crate) fn resolve(&self, user: &str, group: &str) -> Result<Option<Owner>, String> {
        if !self.enforced {
            return Ok(None);
        }
        let look = |table: &HashMap<String, u32>, kind: &str, name: &str| {
            name.parse()
                .ok()
                .or_else(|| table.get(name).copied())
                .ok_or_else(|| format!("{kind} {name:?} does not exist"))
        };
        Ok(Some(Owner { uid: look(&self.users, "user", user)?, gid: look(&self.groups, "group", group)? }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    #[test]
    fn names_and_numbers_are_resolved_and_strangers_named() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::fs::write(root.path().join("etc/passwd"), "app:x:990:990::/:/bin/false\nbroken\n").unwrap();
        let disk = RealDisk::open(root.path()).unwrap();
        let owners = Owners::read(&disk).unwrap();
        if disk.may_chown() {
            assert_eq!(owners.resolve("app", "12"), Ok(Some(Owner { uid: 990, gid: 12 })));
            assert_eq!(owners.resolve("root", "root"), Ok(Some(Owner { uid: 0, gid: 0 })));
            assert_eq!(owners.resolve("app", "wheel"), Err("group \"wheel\" does not exist".to_owned()));
        } else {
            assert_eq!(owners.resolve("app", "wheel"), Ok(None));
        }
    }
}
