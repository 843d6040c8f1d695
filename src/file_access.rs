//! Which other users can change a file or put another one in its place: by its owner, its mode, and the directories above it.
//!
//! Root and the user of this process do not count. Only on Unix; access-control lists are not read.

use std::fmt;
use std::path::{Path, PathBuf};

#[cfg(unix)]
pub(crate) use self::unix::{Strictness, directory_risks, is_root, keeps_modes, risks};

#[cfg(not(unix))]
pub(crate) use self::other::{Strictness, directory_risks, is_root, keeps_modes, risks};

/// A way in which another user can change a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Risk {
    path: PathBuf,
    is_directory: bool,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The path belongs to this user.
    Owner(u32),
    /// Others than its owner can write it, with this mode.
    Writable(u32),
}

impl Risk {
    /// What other users can change.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the risk is only that the path belongs to another user.
    pub(crate) const fn is_owner(&self) -> bool {
        matches!(self.kind, Kind::Owner(_))
    }
}

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        let (subject, what) =
            if self.is_directory { ("the directory ", "replace what is in it") } else { ("", "change it") };
        match self.kind {
            Kind::Owner(user) => write!(
                f,
                "{subject}{path} belongs to user {user}, who can {what}: run jwksd as that user, or chown it to the user of the server"
            ),
            Kind::Writable(mode) => write!(
                f,
                "{subject}{path} can be written by other users (mode {mode:03o}), who can {what}: chmod go-w {path}"
            ),
        }
    }
}

#[cfg(unix)]
mod unix {
    use std::ffi::OsString;
    use std::fs::{self, Metadata};
    use std::io;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Component;

    use super::{Kind, Path, PathBuf, Risk};

    const GROUP_WRITE: u32 = 0o020;
    const OTHERS_WRITE: u32 = 0o002;
    const STICKY: u32 = 0o1000;

    /// Maximum number of symbolic links from a name to its file, as in Linux.
    const MAX_LINKS: usize = 40;

    /// What other users may do in a directory.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Strictness {
        /// Create files, if they can replace none: in /tmp, the sticky bit prevents it.
        NoReplacing,
        /// Nothing: `SQLite` reads journals that lie next to the database.
        NoCreating,
    }

    /// The users that are not others: root and this one.
    fn is_trusted(user: u32) -> bool {
        user == 0 || user == rustix::process::geteuid().as_raw()
    }

    /// Whether this process runs as root, which may use the files of all users.
    pub(crate) fn is_root() -> bool {
        rustix::process::geteuid().is_root()
    }

    /// The risks of a file: its own, and those of all directories through which its name leads. Symbolic links are followed,
    /// each with its directories.
    ///
    /// `opened` is the metadata of the file that was read under this name, which may belong to another one by now.
    ///
    /// # Errors
    /// When the file does not exist or cannot be looked at.
    pub(crate) fn risks(
        file: &Path,
        strictness: Strictness,
        opened: Option<&Metadata>,
    ) -> io::Result<Vec<Risk>> {
        let mut walk = Walk::begin(file);
        let file = walk.follow(file, strictness)?;
        let metadata = opened.map_or_else(|| file.symlink_metadata(), |opened| Ok(opened.clone()))?;
        walk.add(own_risks(&file, &metadata));
        Ok(walk.found)
    }

    /// The risks of a directory for the files in it, with those of the directories above it.
    ///
    /// # Errors
    /// When it does not exist or cannot be looked at.
    pub(crate) fn directory_risks(directory: &Path, strictness: Strictness) -> io::Result<Vec<Risk>> {
        let mut walk = Walk::begin(directory);
        let directory = walk.follow(directory, Strictness::NoReplacing)?;
        walk.enter(&directory, strictness)?;
        Ok(walk.found)
    }

    /// The way from the root, or from the working directory, to a file.
    struct Walk {
        found: Vec<Risk>,
    }

    impl Walk {
        /// A relative path begins in the working directory, so the directories above that one count, too.
        fn begin(path: &Path) -> Self {
            let mut walk = Self { found: Vec::new() };
            let start =
                path.is_relative().then(|| std::env::current_dir().ok()).flatten().unwrap_or_default();
            let above: Vec<_> = start.ancestors().skip(1).filter(|above| above.is_absolute()).collect();
            for directory in above.into_iter().rev() {
                // The process may be where it could not go by itself. Those directories cannot be judged.
                let _ = walk.enter(directory, Strictness::NoReplacing);
            }
            walk
        }

        /// Looks up each name of the path, and returns where it leads. `strictness` is for the directory of the last name.
        fn follow(&mut self, path: &Path, strictness: Strictness) -> io::Result<PathBuf> {
            let (mut current, mut names, mut links) = (PathBuf::new(), reversed_names(path), 0);
            while let Some(name) = names.pop() {
                if name == "/" || name == ".." {
                    current.push(name);
                    continue;
                }
                let strictness = if names.is_empty() { strictness } else { Strictness::NoReplacing };
                let directory = self.enter(&current, strictness)?;
                let entry = current.join(name);
                let metadata = match entry.symlink_metadata() {
                    Ok(metadata) if metadata.is_symlink() => metadata,
                    Err(error) if !names.is_empty() => return Err(error),
                    // The caller notices that the file is missing, if it has not opened it before.
                    _ => {
                        current = entry;
                        continue;
                    }
                };
                // With the sticky bit, the owner of a link can replace it only where that user may create files.
                if is_writable_by_others(&directory) {
                    self.add(owner_risk(&entry, &metadata));
                }
                links += 1;
                if links > MAX_LINKS {
                    return Err(io::Error::other("too many symbolic links"));
                }
                names.extend(reversed_names(&fs::read_link(&entry)?));
            }
            Ok(current)
        }

        /// Adds the risks of a directory for what is in it.
        fn enter(&mut self, directory: &Path, strictness: Strictness) -> io::Result<Metadata> {
            let directory = if directory == Path::new("") { Path::new(".") } else { directory };
            let metadata = fs::metadata(directory)?;
            // `.` says nothing in a log.
            let shown = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
            let is_shared = strictness == Strictness::NoReplacing && metadata.mode() & STICKY != 0;
            let risks = own_risks(&shown, &metadata).into_iter();
            self.add(risks.filter(|risk| match risk.kind {
                Kind::Owner(user) => !is_unmapped(user),
                Kind::Writable(_) => !is_shared,
            }));
            Ok(metadata)
        }

        fn add(&mut self, risks: impl IntoIterator<Item = Risk>) {
            for risk in risks {
                // Who owns a directory can replace all below it, which is said once.
                let is_said = |said: &Risk| {
                    *said == risk
                        || said.is_directory && risk.is_directory && risk.is_owner() && said.kind == risk.kind
                };
                if !self.found.iter().any(is_said) {
                    self.found.push(risk);
                }
            }
        }
    }

    /// The names of a path, the last one first. The root is one of them, `.` is not.
    fn reversed_names(path: &Path) -> Vec<OsString> {
        let names = path.components().rev().filter(|name| *name != Component::CurDir);
        names.map(|name| name.as_os_str().to_owned()).collect()
    }

    /// Whether this is the number that a user namespace shows in place of users it does not know, as bubblewrap shows the
    /// root of the host.
    fn is_unmapped(user: u32) -> bool {
        let read = |file| fs::read_to_string(file).unwrap_or_default();
        cfg!(target_os = "linux")
            && read("/proc/sys/kernel/overflowuid").trim().parse() == Ok(user)
            && !maps(&read("/proc/self/uid_map"), user)
    }

    /// Whether a `uid_map` (`user_namespaces(7)`) has this user. Without such a file, all users are known.
    pub(super) fn maps(uid_map: &str, user: u32) -> bool {
        let has_user = |line: &str| {
            let mut numbers = line.split_whitespace().map(|number| number.parse::<u64>().ok());
            let (first, count) = (numbers.next()??, numbers.nth(1)??);
            Some((first..first + count).contains(&u64::from(user)))
        };
        uid_map.is_empty() || uid_map.lines().any(|line| has_user(line) == Some(true))
    }

    fn own_risks(path: &Path, metadata: &Metadata) -> Vec<Risk> {
        let writable = is_writable_by_others(metadata).then(|| Kind::Writable(metadata.mode() & 0o777));
        let writable = writable.map(|kind| risk(path, metadata, kind));
        owner_risk(path, metadata).into_iter().chain(writable).collect()
    }

    fn owner_risk(path: &Path, metadata: &Metadata) -> Option<Risk> {
        (!is_trusted(metadata.uid())).then(|| risk(path, metadata, Kind::Owner(metadata.uid())))
    }

    fn risk(path: &Path, metadata: &Metadata, kind: Kind) -> Risk {
        Risk { path: PathBuf::from(path), is_directory: metadata.is_dir(), kind }
    }

    fn is_writable_by_others(metadata: &Metadata) -> bool {
        let mode = metadata.mode();
        mode & OTHERS_WRITE != 0
            || (mode & GROUP_WRITE != 0 && !is_private_group(metadata.gid(), metadata.uid()))
    }

    /// Whether only trusted users and the owner of a file are in its group. Many systems give each user such a group, and
    /// create files that it can write.
    fn is_private_group(group: u32, owner: u32) -> bool {
        // The group of root, which containers with arbitrary users rely on.
        if group == 0 {
            return true;
        }
        // Elsewhere these files do not list the users.
        if cfg!(target_os = "linux") {
            let read = |file| fs::read_to_string(file).unwrap_or_default();
            let members = members(group, &read("/etc/passwd"), &read("/etc/group"));
            if let Some(members) = members {
                return members
                    .into_iter()
                    .all(|user| user.is_some_and(|user| user == owner || is_trusted(user)));
            }
        }
        // By convention, a group with the number of a user is that user's own.
        group == owner
    }

    /// The users of a group, `None` for one without a number; `None` for a group that is not listed.
    pub(super) fn members(group: u32, passwd: &str, groups: &str) -> Option<Vec<Option<u32>>> {
        let users: Vec<_> = passwd.lines().filter_map(user).collect();
        let listed = groups.lines().find_map(|line| {
            let mut fields = line.split(':').skip(2);
            (fields.next()?.parse() == Ok(group)).then(|| fields.next().unwrap_or_default())
        })?;
        let primary = users.iter().filter(|(.., primary)| *primary == group).map(|(_, user, _)| Some(*user));
        let named = listed
            .split(',')
            .filter(|name| !name.is_empty())
            .map(|name| users.iter().find(|(other, ..)| *other == name).map(|(_, user, _)| *user));
        Some(primary.chain(named).collect())
    }

    /// Name, number and primary group of a line of `/etc/passwd`.
    fn user(line: &str) -> Option<(&str, u32, u32)> {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let mut numbers = fields.skip(1).map(|field| field.parse().ok());
        Some((name, numbers.next()??, numbers.next()??))
    }

    /// Whether the file system of a path keeps owners and modes. Disks of Windows and of other machines show fixed ones.
    pub(crate) fn keeps_modes(path: &Path) -> bool {
        #[cfg(target_os = "linux")]
        {
            // statfs(2): 9P (WSL 2), FUSE (also Docker Desktop), FAT, exFAT, NTFS, CIFS, SMB 2, VirtualBox, WSL 1.
            const WITHOUT: [u32; 10] = [
                0x0102_1997,
                0x6573_5546,
                0x4d44,
                0x2011_bab0,
                0x7366_746e,
                0x5346_544e,
                0xff53_4d42,
                0xfe53_4d42,
                0x786f_4256,
                0x5346_4846,
            ];
            // The type is a signed number of another width on some processors.
            rustix::fs::statfs(path).map_or(true, |stat| {
                !WITHOUT.iter().any(|magic| i128::from(*magic) == i128::from(stat.f_type))
            })
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = path;
            true
        }
    }
}

#[cfg(not(unix))]
mod other {
    use std::fs::Metadata;
    use std::io;

    use super::{Path, Risk};

    /// Not used: other systems do not express access as mode bits.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Strictness {
        NoReplacing,
        NoCreating,
    }

    pub(crate) const fn is_root() -> bool {
        false
    }

    pub(crate) fn risks(_: &Path, _: Strictness, _: Option<&Metadata>) -> io::Result<Vec<Risk>> {
        Ok(Vec::new())
    }

    pub(crate) fn directory_risks(_: &Path, _: Strictness) -> io::Result<Vec<Risk>> {
        Ok(Vec::new())
    }

    pub(crate) const fn keeps_modes(_: &Path) -> bool {
        true
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::unix::{Strictness, maps, members, risks};

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\nbob:x:1001:100::/:\nbad\n";
    const GROUPS: &str = "root:x:0:\nusers:x:100:\nalice:x:1000:\nstaff:x:50:alice,ldap-user\n";

    #[test]
    fn the_file_that_was_opened_counts_and_not_the_one_that_has_its_name_now() {
        let directory = tempfile::tempdir().unwrap();
        let [file, link] = ["file", "link"].map(|name| directory.path().join(name));
        fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
        let opened = fs::File::open(&link).unwrap().metadata().unwrap();
        let found = |path| risks(path, Strictness::NoReplacing, Some(&opened)).unwrap();
        let written = risks(&file, Strictness::NoReplacing, None).unwrap();
        assert_eq!(written.len(), 1);
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(risks(&link, Strictness::NoReplacing, None).unwrap(), []);
        assert_eq!((found(&file), found(&link)), (written.clone(), written.clone()));
        fs::remove_file(&file).unwrap();
        assert_eq!(found(&link), written);
    }

    #[test]
    fn the_owner_of_a_link_counts_where_a_group_can_write_with_the_sticky_bit_too() {
        // Only root can give a link to another user.
        if !super::is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let shared = directory.path().join("shared");
        fs::create_dir(&shared).unwrap();
        fs::write(directory.path().join("file"), "").unwrap();
        let link = shared.join("link");
        std::os::unix::fs::symlink(directory.path().join("file"), &link).unwrap();
        // A group that no system lists is not private.
        std::os::unix::fs::chown(&shared, None, Some(54_321)).unwrap();
        std::os::unix::fs::lchown(&link, Some(54_321), None).unwrap();
        for (mode, count) in [(0o1775, 1), (0o1777, 1), (0o755, 0)] {
            fs::set_permissions(&shared, Permissions::from_mode(mode)).unwrap();
            let found = risks(&link, Strictness::NoReplacing, None).unwrap();
            assert_eq!(found.len(), count, "{mode:o}: {found:?}");
            assert!(found.iter().all(|risk| risk.path() == link && risk.is_owner()), "{found:?}");
        }
    }

    #[test]
    fn the_users_of_a_group_are_those_of_both_files() {
        assert_eq!(members(1000, PASSWD, GROUPS), Some(vec![Some(1000)]));
        assert_eq!(members(100, PASSWD, GROUPS), Some(vec![Some(1001)]));
        assert_eq!(members(50, PASSWD, GROUPS), Some(vec![Some(1000), None]));
        assert_eq!(members(7, PASSWD, GROUPS), None);
    }

    #[test]
    fn a_user_namespace_knows_the_users_of_its_map() {
        assert!(maps("         0          0 4294967295\n", 65534));
        assert!(maps("", 65534));
        for map in ["1000 1000 1\n", "0 1000 1\n1 100000 65533\n", "0 0 bad"] {
            assert!(!maps(map, 65534), "{map}");
        }
    }
}
