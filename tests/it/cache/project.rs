//! A small project that is edited at random: a context, a Dockerfile and what the command line says.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::SystemTime;

/// Numbers that follow from a seed (Marsaglia's xorshift64*).
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Chance {
        Chance((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

#[derive(Debug, Clone)]
struct Stage {
    from: From,
    steps: Vec<String>,
}

#[derive(Debug, Clone, Copy)]
enum From {
    Base,
    Scratch,
    Below(usize),
}

/// A project; its context is on disk.
pub struct Project {
    pub chance: Chance,
    /// Whether there may be RUN steps.
    runs: bool,
    ignore: BTreeSet<&'static str>,
    stages: Vec<Stage>,
    /// Which of the bases `base` names.
    pub base: usize,
    pub args: BTreeMap<&'static str, &'static str>,
    pub labels: Vec<(String, String)>,
    pub target: Option<usize>,
}

const PATHS: &[&str] = &["a", "b", "dir/x", "dir/y", "dir/sub/z", "other/x", "sp ace", "link", "dir/link"];
const CONTENTS: &[&str] = &["one\n", "two\n", "six\n", "", "longer than the others\n"];
const IGNORED: &[&str] = &["b", "dir/y", "dir/sub", "*", "!dir/x", "**/x", "!a"];
const MODES: &[u32] = &[0o644, 0o755, 0o600, 0o4755];

const COPY_FLAGS: &[&str] = &["--chmod=700", "--chown=12:13", "--chown=app", "--link", "--exclude=x", "--exclude=sub"];

impl Project {
    /// A new project whose context is the empty directory `dir`.
    pub fn new(seed: u64, runs: bool, dir: &Path) -> Project {
        let mut project = Project {
            chance: Chance::new(seed),
            runs,
            ignore: BTreeSet::new(),
            stages: Vec::new(),
            base: 0,
            args: BTreeMap::new(),
            labels: Vec::new(),
            target: None,
        };
        for path in ["a", "b", "dir/x", "dir/y", "dir/sub/z"] {
            project.put(dir, path);
        }
        for number in 0..1 + project.chance.below(3) {
            let stage = project.stage(number);
            project.stages.push(stage);
        }
        project
    }

    /// One to three edits, each in words.
    pub fn edit(&mut self, dir: &Path) -> Vec<String> {
        (0..1 + self.chance.below(3)).map(|_| self.edit_once(dir)).collect()
    }

    fn edit_once(&mut self, dir: &Path) -> String {
        match self.chance.below(16) {
            0..=4 => {
                let path = self.chance.pick(PATHS);
                self.put(dir, path)
            }
            5 => {
                let path = self.chance.pick(PATHS);
                let _ = fs::remove_file(dir.join(path)); // often there is none
                format!("remove {path}")
            }
            6 => {
                let pattern = self.chance.pick(IGNORED);
                if !self.ignore.remove(pattern) {
                    self.ignore.insert(pattern);
                }
                // `*` comes first in the set's order, `!` before all: the order of the file is the other way round.
                let text: Vec<&str> = self.ignore.iter().rev().copied().collect();
                fs::write(dir.join(".dockerignore"), text.join("\n")).unwrap();
                format!("ignore {:?}", self.ignore)
            }
            7 => {
                self.base = (self.base + 1) % 3;
                format!("the base is now number {}", self.base)
            }
            8 => {
                let (name, value) = (self.chance.pick(&["V", "W"]), self.chance.pick(&["1", "2", ""]));
                self.args.insert(name, value);
                format!("--build-arg {name}={value}")
            }
            9 => {
                self.args.clear();
                "no --build-arg".into()
            }
            10 => {
                self.labels = (0..self.chance.below(2)).map(|n| ("label".into(), n.to_string())).collect();
                format!("labels {:?}", self.labels)
            }
            11 => {
                self.target = self.chance.one_in(2).then(|| self.chance.below(self.stages.len()));
                format!("--target {:?}", self.target)
            }
            _ => self.edit_steps(),
        }
    }

    fn edit_steps(&mut self) -> String {
        let number = self.chance.below(self.stages.len());
        if self.chance.one_in(8) {
            self.stages[number] = self.stage(number);
            return format!("another stage {number}");
        }
        let len = self.stages[number].steps.len();
        match self.chance.below(7) {
            0..=2 if len > 0 => {
                let at = self.chance.below(len);
                let step = self.tweaked(&self.stages[number].steps[at].clone());
                self.stages[number].steps[at] = step.clone();
                format!("stage {number}: step {at} is now `{step}`")
            }
            3 if len > 0 => {
                let at = self.chance.below(len);
                format!("stage {number}: without `{}`", self.stages[number].steps.remove(at))
            }
            4 if len > 1 => {
                let (a, b) = (self.chance.below(len), self.chance.below(len));
                self.stages[number].steps.swap(a, b);
                format!("stage {number}: steps {a} and {b} swapped")
            }
            5 if len > 0 => {
                let (at, step) = (self.chance.below(len), self.step(number));
                self.stages[number].steps[at] = step.clone();
                format!("stage {number}: step {at} is `{step}`")
            }
            _ => {
                let (at, step) = (self.chance.below(len + 1), self.step(number));
                self.stages[number].steps.insert(at, step.clone());
                format!("stage {number}: `{step}` before step {at}")
            }
        }
    }

    fn stage(&mut self, number: usize) -> Stage {
        let from = match self.chance.below(6) {
            0 => From::Scratch,
            1 | 2 if number > 0 => From::Below(self.chance.below(number)),
            _ => From::Base,
        };
        Stage { from, steps: (0..2 + self.chance.below(4)).map(|_| self.step(number)).collect() }
    }

    /// An instruction of the stage `number`.
    fn step(&mut self, number: usize) -> String {
        match self.chance.below(if self.runs { 14 } else { 9 }) {
            0..=2 => self.copy(number),
            3 => format!("ENV {}={}", self.chance.pick(&["E", "V", "F"]), self.chance.pick(&["1", "2", "$V", "$E-x"])),
            4 => format!("ARG {}", self.chance.pick(&["V", "W", "V=3", "W=$V"])),
            5 => format!("WORKDIR {}", self.chance.pick(&["/app", "sub", "/srv/w", "/link/w", "/app/$V"])),
            6 => format!("USER {}", self.chance.pick(&["root", "1000", "1000:1001", "app"])),
            7 => self
                .chance
                .pick(&["LABEL l=$V", "CMD [\"x\"]", "EXPOSE 80", "VOLUME /app", "SHELL [\"/bin/sh\", \"-ec\"]"])
                .to_string(),
            8 => format!("COPY <<EOF {}\nv=$V e=$E\nEOF", self.chance.pick(&["/here", "/app/here", "here"])),
            _ => self.run(number),
        }
    }

    /// The step with one thing about it changed.
    fn tweaked(&mut self, step: &str) -> String {
        let Some((word, rest)) = step.split_once(' ') else { return step.to_string() };
        let flag = match word {
            "COPY" | "ADD" => self.chance.pick(COPY_FLAGS),
            "RUN" => "--network=none",
            _ => {
                let pairs = [("1", "2"), ("2", "$V"), ("/app", "/srv"), ("root", "app"), ("$V", "1")];
                let (old, new) = pairs[self.chance.below(pairs.len())];
                return step.replacen(old, new, 1);
            }
        };
        let pairs =
            [(",ro", ",rw"), ("source=dir", "source=dir/sub"), ("/app", "/o"), (" dir ", " d* "), ("> /", ">> /")];
        match pairs.iter().find(|(old, _)| rest.contains(old)) {
            Some((old, new)) if self.chance.one_in(3) => return step.replacen(old, new, 1),
            _ => {}
        }
        let name = flag.split('=').next().unwrap_or(flag);
        match rest.split(' ').find(|word| *word == name || word.starts_with(&format!("{name}="))) {
            Some(there) => format!("{word} {}", rest.replacen(&format!("{there} "), "", 1)),
            None => format!("{word} {flag} {rest}"),
        }
    }

    fn copy(&mut self, number: usize) -> String {
        let mut text = self.chance.pick(&["COPY", "COPY", "ADD"]).to_string();
        let from = number > 0 && text == "COPY" && self.chance.one_in(3);
        if from {
            write!(text, " --from=s{}", self.chance.below(number)).unwrap();
        }
        for flag in COPY_FLAGS {
            if self.chance.one_in(8) && !(flag.starts_with("--chown") && text.contains("--chown")) {
                write!(text, " {flag}").unwrap();
            }
        }
        let own = ["a", "b", "dir", "dir/x", "dir/y", "d*", "di?/x", "other/x", "link", "dir/link", "$E", "."];
        let theirs = ["/app", "/o", "/app/x", "/srv", "/list", "/here", "/link", "/etc/passwd"];
        let source = if from { self.chance.pick(&theirs) } else { self.chance.pick(&own) };
        let dest = self.chance.pick(&["/app/", "/app", "./", "/o/", "/link/", "/srv/deep/er/", "/app/x/", "/o/file"]);
        format!("{text} {source} {dest}")
    }

    /// A command whose result follows from its tree, its environment and its mounts.
    fn run(&mut self, number: usize) -> String {
        let below = if number > 0 { format!("s{}", self.chance.below(number)) } else { "base".into() };
        let of_mounts = [
            "--mount=type=bind,source=dir,target=/m cat /m/x > /o.x".to_string(),
            "--mount=type=bind,target=/m,rw ls /m > /list && touch /m/new".to_string(),
            format!("--mount=type=bind,from={below},target=/m find /m/app /m/o | sort > /list"),
            format!("--mount=type=bind,from={below},source=/app,target=/m,ro ls -R /m > /list"),
            "--mount=type=cache,target=/c echo $V >> /c/log; echo cached > /o.c".to_string(),
            "--mount=type=cache,id=i,target=/c,sharing=locked touch /c/$V; echo $V > /o.c".to_string(),
            "--mount=type=tmpfs,target=/t mount | grep -c /t > /o.t".to_string(),
            "--network=none echo n > /o.n".to_string(),
        ];
        let plain = [
            "find /app /o | sort > /list",
            "echo \"$V-$E-$F\" > /o.v",
            "rm -rf /app/x /o",
            "mkdir -p /app && echo $V > /app/x",
            "ln -sf /app /srv/to && ls /srv > /list",
            "id > /o.id; pwd > /o.pwd",
            "stat -c '%n %a %u %g %s' /app/* > /list; true",
            "cat /app/* /o/* > /all 2>/dev/null; true",
            "chmod 711 /app",
            "true",
            "cat /base-is",
        ];
        match self.chance.below(3) {
            0 => format!("RUN {}", of_mounts[self.chance.below(of_mounts.len())]),
            _ => format!("RUN {}", self.chance.pick(&plain)),
        }
    }

    /// Puts something at `path` of the context, in one of the ways in which that is done.
    fn put(&mut self, dir: &Path, path: &'static str) -> String {
        let (at, chance) = (dir.join(path), &mut self.chance);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        let is_file = |path: &Path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file());
        if path.ends_with("link") {
            let target = chance.pick(&["a", "x", "../a", "/dir", "nowhere", "dir"]);
            let _ = fs::remove_file(&at); // there may be none
            symlink(target, &at).unwrap();
            return format!("{path} -> {target}");
        }
        if chance.one_in(10) && path != "a" && is_file(&dir.join("a")) {
            let _ = fs::remove_file(&at); // there may be none
            fs::hard_link(dir.join("a"), &at).unwrap();
            return format!("{path} is a link of a");
        }
        let (content, mode) =
            (chance.pick(CONTENTS), MODES[if chance.one_in(4) { chance.below(MODES.len()) } else { 0 }]);
        let (keeps_time, in_place) = (chance.one_in(2), chance.one_in(2));
        let before = fs::metadata(&at).and_then(|meta| meta.modified());
        let new = if in_place { at.clone() } else { dir.join(".new") };
        fs::write(&new, content).unwrap();
        fs::set_permissions(&new, Permissions::from_mode(mode)).unwrap();
        let time = before.ok().filter(|_| keeps_time).unwrap_or_else(SystemTime::now);
        File::open(&new).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
        if !in_place {
            fs::rename(&new, &at).unwrap();
        }
        let how = if in_place { "written over" } else { "in place of the other" };
        format!("{path} is {content:?}, mode {mode:o}, {how}, time kept: {keeps_time}")
    }

    /// Whether there are several stages: which of them fails first is not told beforehand.
    pub fn has_stages(&self) -> bool {
        self.stages.len() > 1
    }

    /// The Dockerfile.
    pub fn dockerfile(&self) -> String {
        let mut text = String::from("ARG W=0\n");
        for (number, stage) in self.stages.iter().enumerate() {
            let from = match stage.from {
                From::Base => "base".into(),
                From::Scratch => "scratch".into(),
                From::Below(below) => format!("s{below}"),
            };
            writeln!(text, "FROM {from} AS s{number}").unwrap();
            stage.steps.iter().for_each(|step| writeln!(text, "{step}").unwrap());
        }
        text
    }
}
