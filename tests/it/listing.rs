//! The tree of layers by their lists is the tree that unpacking them gives.

use dockless::context::SourceTree;
use dockless::oci::digest::Digest;
use dockless::oci::layer::Metadata;
use dockless::oci::{DiffId, Layer};
use dockless::rootfs::{Snapshotter, SnapshotterKind};
use dockless::store::Store;
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use tar::{EntryType, Header};

/// Numbers that look random and are the same every time (xorshift, Marsaglia 2003).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }

    fn path(&mut self) -> String {
        let names = ["a", "b", "c"];
        let depth = [1, 1, 2, 2, 3][self.below(5)];
        (0..depth).map(|_| self.of(&names)).collect::<Vec<_>>().join("/")
    }
}

/// A layer of a few entries, among them deletions, links of both kinds and things in the place of others.
fn layer(numbers: &mut Numbers) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for _ in 0..1 + numbers.below(6) {
        let (path, mut header) = (numbers.path(), Header::new_gnu());
        let (mut name, mut content) = (path.clone(), String::new());
        match numbers.below(14) {
            0 => {
                let (dir, last) = path.rsplit_once('/').unwrap_or(("", &path));
                name = format!("{dir}{}.wh.{last}", if dir.is_empty() { "" } else { "/" });
            }
            1 => name = format!("{path}/.wh..wh..opq"),
            2..=6 => header.set_entry_type(EntryType::Directory),
            7 => {
                header.set_entry_type(EntryType::Symlink);
                let target = numbers.of(&["a", "/b", "..", "../c", "c/a", "/a/b", "nowhere"]);
                header.set_link_name(target).expect("a link");
            }
            8 => {
                header.set_entry_type(EntryType::Link);
                header.set_link_name(numbers.path()).expect("a link");
            }
            9 => header.set_entry_type(EntryType::Fifo),
            _ => content = format!("content {}", numbers.below(3)),
        }
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_mode([0o644, 0o755, 0o4711][numbers.below(3)]);
        header.set_uid(numbers.below(3) as u64);
        header.set_gid(0);
        header.set_mtime(1_000_000 + numbers.below(3) as u64);
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append(&header, content.as_bytes()).expect("appended");
    }
    tar.into_inner().expect("a tar")
}

fn stored(store: &Store, tar: &[u8]) -> Layer {
    let digest = store.put_blob(tar).expect("a blob");
    let media_type = "application/vnd.oci.image.layer.v1.tar".to_string();
    Layer { diff_id: DiffId::new(digest.clone()), digest, size: tar.len() as u64, media_type, content: None }
}

type Tree = BTreeMap<Vec<u8>, (Metadata, Option<Digest>, Vec<Vec<u8>>)>;

/// All paths of a tree: metadata, content, and which names are one file.
fn all(tree: &dyn SourceTree, by_digest: bool) -> Tree {
    let (mut found, mut todo) = (Tree::new(), vec![Vec::new()]);
    let mut names: BTreeMap<(u64, u64), Vec<Vec<u8>>> = BTreeMap::new();
    while let Some(path) = todo.pop() {
        let meta = tree.metadata(&path).expect("readable").expect("listed");
        let mut digest = None;
        if meta.is_dir() {
            for name in tree.read_dir(&path).expect("a directory") {
                todo.push(if path.is_empty() { name } else { [&path[..], b"/", &name].concat() });
            }
        } else if let Some(identity) = tree.link_identity(&path).expect("readable") {
            names.entry(identity).or_default().push(path.clone());
        }
        if matches!(meta.kind, dockless::oci::layer::Kind::File { .. }) {
            digest = match by_digest {
                true => tree.content_digest(&path).expect("readable"),
                false => {
                    let mut bytes = Vec::new();
                    tree.open(&path).expect("a file").read_to_end(&mut bytes).expect("readable");
                    Some(Digest::sha256(bytes))
                }
            };
            assert!(digest.is_some(), "{}", String::from_utf8_lossy(&path));
        }
        found.insert(path, (meta, digest, Vec::new()));
    }
    for mut group in names.into_values().filter(|group| group.len() > 1) {
        group.sort();
        for path in &group {
            found.get_mut(path).expect("found").2.clone_from(&group);
        }
    }
    found
}

#[test]
fn lists_give_the_tree_that_unpacking_gives() {
    let fetch = |_: &Layer| unreachable!("all blobs are there");
    let (mut compared, mut refused) = (0, 0);
    for seed in 1..=150u64 {
        let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let home = tempfile::tempdir().expect("a directory");
        let store = Store::open(home.path()).expect("a store");
        let stack: Vec<Layer> = (0..1 + numbers.below(4)).map(|_| stored(&store, &layer(&mut numbers))).collect();
        let snapshots = Snapshotter::new(store.clone(), SnapshotterKind::Overlay);
        let unpacked = AtomicUsize::new(0);
        let looked = snapshots.look(&stack, &fetch, || {
            unpacked.fetch_add(1, Ordering::SeqCst);
            snapshots.view(&stack, &fetch)
        });
        let listed = looked.map(|tree| all(&*tree, true));
        assert_eq!(unpacked.load(Ordering::SeqCst), 0, "looking unpacks nothing");
        match (listed, snapshots.view(&stack, &fetch)) {
            (Ok(listed), Ok(view)) => {
                let unpacked = all(&view, false);
                let paths = |tree: &Tree| {
                    tree.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect::<Vec<_>>()
                };
                assert_eq!(paths(&listed), paths(&unpacked), "seed {seed}");
                for (path, node) in &unpacked {
                    assert_eq!(&listed[path], node, "seed {seed}, {}", String::from_utf8_lossy(path));
                }
                compared += 1;
            }
            (Err(_), Err(_)) => refused += 1,
            (listed, view) => panic!("seed {seed}: {:?} and {:?}", listed.err(), view.err()),
        }
        // The second time the lists come out of the store.
        let fresh = Snapshotter::new(store, SnapshotterKind::Overlay);
        assert!(compared == 0 || fresh.look(&stack, &fetch, || fresh.view(&stack, &fetch)).is_ok() || refused > 0);
    }
    assert!(compared > 40 && refused > 5, "{compared} trees compared, {refused} refused");
}
