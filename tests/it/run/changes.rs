//! What containers change: copied in and out, listed, exported, and made images of.

use super::in_every_tier;
use std::fs;
use std::io::Read;

#[test]
fn copies_both_ways() {
    in_every_tier("copies into and out of containers", |host| {
        fs::create_dir_all(host.place.path("context/dir/sub")).unwrap();
        host.place.file("dir/a", "a\n").file("dir/sub/b", "b\n");
        let long = "trap 'exit 0' TERM; while :; do sleep 0.05; done";
        for running in [false, true] {
            host.prints(&["create", "--name", "c", "app", "sh", "-c", long]);
            if running {
                host.gives(&["start", "c"], 0, "c\n");
            }
            host.gives(&["cp", "context/dir", "c:/new"], 0, "");
            host.gives(&["cp", "context/dir", "c:/tmp"], 0, "");
            host.gives(&["cp", "context/dir/.", "c:/tmp"], 0, "");
            host.gives(&["cp", "context/dir/a", "c:/tmp/renamed"], 0, "");
            host.gives(&["cp", "context/dir/a", "c:/nosuch/a"], 1, "");
            host.gives(&["cp", "c:/nosuch", "out"], 1, "");
            for (from, to, file, text) in [
                ("c:/new", "out/1", "out/1/sub/b", "b\n"),
                ("c:/tmp/dir", "out/1", "out/1/dir/a", "a\n"),
                ("c:/tmp/a", "out/2", "out/2", "a\n"),
                ("c:/tmp/renamed", "out/", "out/renamed", "a\n"),
                ("c:/seed/.", "out/1", "out/1/file", "seeded\n"),
            ] {
                host.gives(&["cp", from, to], 0, "");
                assert_eq!(fs::read_to_string(host.place.path(file)).unwrap(), text, "{from} {}", host.what(&[]));
            }
            if running {
                host.gives(&["exec", "c", "sh", "-c", "cat /new/sub/b; stat -c %u /new/a"], 0, "b\n0\n");
            }
            host.gives(&["rm", "-f", "c"], 0, "c\n");
            for name in ["out/1", "out/2", "out/renamed"] {
                dockless::sys::remove_tree(&host.place.path(name)).unwrap();
            }
        }
        host.call(&["ps"]).succeeded();
    });
}

const SCRIPT: &str = "echo x > /added; echo more >> /seed/file; rm /etc/passwd; mkdir /d; chown 7:8 /d; ln -s a /d/l";

#[test]
fn makes_images() {
    in_every_tier("images made of containers", |host| {
        host.gives(&["run", "--name", "c", "app", "sh", "-c", SCRIPT], 0, "");
        host.gives(&["diff", "c"], 0, "A /added\nA /d\nA /d/l\nC /etc\nD /etc/passwd\nC /seed\nC /seed/file\n");
        let mut tar = tar::Archive::new(&host.output(&["export", "c"]).stdout[..])
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let mut text = String::new();
                let path = entry.path().unwrap().display().to_string();
                if path == "seed/file" {
                    entry.read_to_string(&mut text).unwrap();
                }
                (path, entry.header().uid().unwrap(), text)
            })
            .collect::<Vec<_>>();
        tar.retain(|(path, ..)| matches!(path.trim_end_matches('/'), "added" | "d" | "seed/file" | "etc/passwd"));
        let names =
            |(path, uid, text): &(String, u64, String)| (path.trim_end_matches('/').to_string(), *uid, text.clone());
        let tar: Vec<_> = tar.iter().map(names).collect();
        let expected = [("added", 0, ""), ("d", 7, ""), ("seed/file", 5, "seeded\nmore\n")];
        assert_eq!(
            tar,
            expected.map(|(path, uid, text)| (path.to_string(), uid, text.to_string())),
            "{}",
            host.what(&[])
        );
        let id = host.prints(&[
            "commit",
            "-m",
            "by hand",
            "-c",
            "CMD [\"cat\", \"/seed/file\"]",
            "-c",
            "ENV A=5",
            "c",
            "made:1",
        ]);
        assert!(id.starts_with("sha256:"), "{id}");
        host.gives(&["run", "--rm", "made:1"], 0, "seeded\nmore\n");
        host.gives(
            &["run", "--rm", "made:1", "sh", "-c", "echo $A; stat -c %u:%g /d; ls /etc/passwd 2>/dev/null"],
            1,
            "5\n7:8\n",
        );
        host.gives(&["commit", "-c", "RUN true", "c"], 1, "");
        host.call(&["rm", "c"]).succeeded();
    });
}
