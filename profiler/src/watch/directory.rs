//! The directory of captures: a bound on its bytes, and files that are complete when they are there.

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// All captures.
pub(super) struct Directory {
    path: PathBuf,
    size: u64,
}

/// One capture being written.
pub(super) struct Folder<'d> {
    directory: &'d Directory,
    path: PathBuf,
}

impl Directory {
    /// Opens it, and looks whether it can be written to.
    pub fn open(path: &Path, size: u64) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        let probe = path.join(format!(".probe-{}", std::process::id()));
        fs::write(&probe, b"")?;
        fs::remove_file(&probe)?;
        Ok(Self { path: path.to_owned(), size })
    }

    /// A new capture, named by the time and a word.
    pub fn folder(&self, word: &str) -> io::Result<Folder<'_>> {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = format!("{}-{word}", stamp(time.as_secs(), time.subsec_millis()));
        let path = self.path.join(name);
        fs::create_dir(&path)?;
        Ok(Folder { directory: self, path })
    }

    /// The captures, oldest first, with their bytes. Only what has the name of one: the directory may have other things in it.
    fn captures(&self) -> io::Result<Vec<(PathBuf, u64)>> {
        let mut captures = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let is_ours = entry.file_name().to_str().is_some_and(is_stamped);
            if is_ours && entry.file_type()?.is_dir() {
                let mut bytes = 0;
                for file in fs::read_dir(entry.path())? {
                    bytes += file?.metadata()?.len();
                }
                captures.push((entry.path(), bytes));
            }
        }
        captures.sort();
        Ok(captures)
    }

    /// Removes the oldest captures until all but the current one leave room for its next bytes.
    fn make_room(&self, current: &Path, bytes: u64) -> io::Result<bool> {
        let captures = self.captures()?;
        let mut all: u64 = captures.iter().map(|(_, bytes)| bytes).sum();
        for (path, there) in captures.iter().filter(|(path, _)| path != current) {
            if all + bytes <= self.size {
                break;
            }
            fs::remove_dir_all(path)?;
            all -= there;
        }
        Ok(all + bytes <= self.size)
    }
}

impl Folder<'_> {
    /// Writes a file, which has its name when it is complete and on the disk.
    ///
    /// # Errors
    /// Also if the bound on the bytes of all captures leaves no room.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if !self.directory.make_room(&self.path, bytes.len() as u64)? {
            return Err(io::Error::new(
                io::ErrorKind::QuotaExceeded,
                format!("{name} has {} bytes, which the bound on captures leaves no room for", bytes.len()),
            ));
        }
        // A name of the program's choice may have anything in it.
        let safe: String =
            name.chars().map(|c| if c.is_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
        let partial = self.path.join(format!(".{safe}.partial"));
        let write = || {
            let mut file = fs::File::create(&partial)?;
            file.write_all(bytes)?;
            file.sync_data()?;
            fs::rename(&partial, self.path.join(&safe))
        };
        write().inspect_err(|_| {
            // What cannot be removed either stays as it is.
            let _ = fs::remove_file(&partial);
        })?;
        Ok(())
    }
}

/// A time of the Gregorian calendar, in UTC, that sorts as text: `20260102-030405-678`.
fn stamp(seconds: u64, milliseconds: u32) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // From days to a date with years that begin in March, so that the leap day is the last of its year.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}-{milliseconds:03}")
}

/// Whether a name begins with such a time.
fn is_stamped(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() > 20
        && bytes[..20].iter().enumerate().all(|(at, byte)| match at {
            8 | 15 | 19 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temporary(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("greenprof-{name}-{}", std::process::id()))
    }

    #[test]
    fn times_are_dates() {
        for (seconds, text) in [
            (0, "19700101-000000-007"),
            (951_782_399, "20000228-235959-007"),
            (951_782_400, "20000229-000000-007"),
            (951_868_800, "20000301-000000-007"),
            (1_709_164_800, "20240229-000000-007"),
            (1_735_689_599, "20241231-235959-007"),
            (1_735_689_600, "20250101-000000-007"),
            (4_107_542_400, "21000301-000000-007"),
        ] {
            assert_eq!(stamp(seconds, 7), text, "{seconds}");
        }
        assert!(is_stamped("20241231-235959-007-cpu"));
        for other in ["20241231-235959-007", "lost+found", "2024123x-235959-007-cpu", "", "20241231_235959-007-cpu"] {
            assert!(!is_stamped(other), "{other}");
        }
    }

    #[test]
    fn the_oldest_captures_go_when_there_is_no_room() {
        let path = temporary("captures");
        let directory = Directory::open(&path, 1000).expect("a directory");
        fs::write(path.join("not ours"), [0; 5000]).expect("a file");
        for old in ["20200101-000000-000-cpu", "20200102-000000-000-tasks"] {
            fs::create_dir(path.join(old)).expect("a capture");
            fs::write(path.join(old).join("heap.pb.gz"), [0; 400]).expect("a file");
        }
        let mut folder = directory.folder("memory").expect("a new capture");
        folder.write("a", &[1; 150]).expect("room");
        assert_eq!(directory.captures().expect("readable").len(), 3);
        folder.write("b/../c d", &[1; 300]).expect("room without the oldest");
        let left = directory.captures().expect("readable");
        assert_eq!(left.len(), 2);
        assert!(left[0].0.ends_with("20200102-000000-000-tasks"));
        assert_eq!(left[1].1, 450);
        let error = folder.write("c", &[1; 600]).expect_err("too much even alone");
        assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
        assert_eq!(directory.captures().expect("readable").len(), 1);
        let mut names: Vec<String> = fs::read_dir(&folder.path)
            .expect("readable")
            .map(|file| file.expect("readable").file_name().into_string().expect("text"))
            .collect();
        names.sort();
        assert_eq!(names, ["a", "b_.._c_d"]);
        assert!(path.join("not ours").exists());
        fs::remove_dir_all(&path).expect("ours");
    }
}
