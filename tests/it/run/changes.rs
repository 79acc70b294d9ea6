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
            host.prints(&["create", "--name", "cc", "app", "sh", "-c", long]);
            if running {
                host.gives(&["start", "cc"], 0, "cc\n");
            }
            host.gives(&["cp", "context/dir", "cc:/new"], 0, "");
            host.gives(&["cp", "context/dir", "cc:/tmp"], 0, "");
            host.gives(&["cp", "context/dir/.", "cc:/tmp"], 0, "");
            host.gives(&["cp", "context/dir/a", "cc:/tmp/renamed"], 0, "");
            host.gives(&["cp", "context/dir/a", "cc:/nosuch/a"], 1, "");
            host.gives(&["cp", "cc:/nosuch", "out"], 1, "");
            for (from, to, file, text) in [
                ("cc:/new", "out/1", "out/1/sub/b", "b\n"),
                ("cc:/tmp/dir", "out/1", "out/1/dir/a", "a\n"),
                ("cc:/tmp/a", "out/2", "out/2", "a\n"),
                ("cc:/tmp/renamed", "out/", "out/renamed", "a\n"),
                ("cc:/seed/.", "out/1", "out/1/file", "seeded\n"),
            ] {
                host.gives(&["cp", from, to], 0, "");
                assert_eq!(fs::read_to_string(host.place.path(file)).unwrap(), text, "{from} {}", host.what(&[]));
            }
            if running {
                host.gives(&["exec", "cc", "sh", "-c", "cat /new/sub/b; stat -c %u /new/a"], 0, "b\n0\n");
            }
            host.gives(&["rm", "-f", "cc"], 0, "cc\n");
            dockless::sys::remove_tree(&host.place.path("out/1")).unwrap();
            fs::remove_file(host.place.path("out/2")).unwrap();
            fs::remove_file(host.place.path("out/renamed")).unwrap();
        }
        host.call(&["ps"]).succeeded();
    });
}

#[test]
fn a_tree_that_nobody_changed_serves_the_next_container() {
    in_every_tier("trees that are passed on", |host| {
        let run = |script: &str| host.prints(&["run", "--rm", "app", "sh", "-c", script]);
        let inode = || run("stat -c %i /bin/busybox");
        let first = inode();
        assert_eq!(inode(), first, "{}", host.what(&[]));
        // The root's own time is another one where something is mounted in it.
        let look = "cat /seed/file; stat -c '%n %a %u:%g' / /etc; ls -a / /seed /tmp; \
            stat -c '%n %a %u:%g %h %Y' /etc/passwd /seed /seed/file /tmp";
        let before = run(look);
        for change in [
            "echo x >> /seed/file",
            "time=$(stat -c %Y /seed/file); echo SEEDED > /seed/file; touch -d @$time /seed/file",
            "touch /seed",
            "chmod 700 /seed",
            "chmod 700 /",
            "chown 7:8 /seed/file",
            "rm /etc/passwd",
            "mkdir /tmp/new",
            "ln /seed/file /seed/other",
            "ln -s a /seed/link",
            "echo x > /tmp/x; rm /tmp/x",
        ] {
            run(change);
            assert_eq!(run(look), before, "{change} {}", host.what(&[]));
        }
    });
}

#[test]
fn buildah_makes_images_step_by_step() {
    in_every_tier("working containers", |host| {
        fs::create_dir_all(host.place.path("context/dir")).unwrap();
        host.place.file("dir/a", "a\n");
        host.prints(&["buildah", "from", "--name", "w1", "scratch"]);
        host.gives(&["buildah", "run", "w1", "--", "true"], 127, "");
        host.gives(&["start", "-a", "w1"], 125, "");
        host.gives(&["buildah", "copy", "--chown", "5:6", "w1", "context/dir", "/opt/app/"], 0, "");
        host.gives(&["buildah", "config", "--cmd", "[\"/opt/app/a\"]", "w1"], 0, "");
        host.prints(&["buildah", "commit", "w1", "made"]);
        let format = "{{len .RootFS.Layers}} {{json .Config.Cmd}}";
        host.gives(&["docker", "inspect", "-f", format, "made"], 0, "1 [\"/opt/app/a\"]\n");
        let exported = host.output(&["export", "w1"]).stdout;
        let mut tar = tar::Archive::new(&exported[..]);
        let entry = |entry: std::io::Result<tar::Entry<'_, _>>| {
            let entry: tar::Entry<'_, &[u8]> = entry.unwrap();
            let (uid, gid) = (entry.header().uid().unwrap(), entry.header().gid().unwrap());
            (entry.path().unwrap().display().to_string().trim_end_matches('/').to_string(), uid, gid)
        };
        let entries: Vec<_> = tar.entries().unwrap().map(entry).collect();
        assert!(entries.contains(&("opt/app/a".into(), 5, 6)), "{} {entries:?}", host.what(&[]));
        // Names are the container's.
        host.prints(&["buildah", "from", "--name", "n1", "app"]);
        host.gives(&["buildah", "copy", "--chown", "app", "n1", "context/dir/a", "/new/dir/"], 0, "");
        host.gives(&["buildah", "run", "n1", "--", "stat", "-c", "%u:%g", "/new/dir/a"], 0, "1000:1000\n");
        host.gives(&["buildah", "copy", "--chown", "nobody-here", "n1", "context/dir/a", "/"], 1, "");
        let mounted = host.output(&["buildah", "mount", "n1"]);
        let (path, said) = (String::from_utf8(mounted.stdout).unwrap(), String::from_utf8(mounted.stderr).unwrap());
        if host.tier == "chroot" {
            fs::write(format!("{}/by-hand", path.trim()), "").unwrap();
            assert!(host.prints(&["diff", "n1"]).contains("A /by-hand\n"));
            host.prints(&["buildah", "umount", "n1"]);
        } else {
            assert!(
                path.is_empty() && said.contains("the tree of 'n1' cannot be mounted: "),
                "{} {said}",
                host.what(&[])
            );
        }
        host.prints(&["buildah", "rm", "-a"]);
    });
}

const SCRIPT: &str = "echo x > /added; echo more >> /seed/file; rm /etc/passwd; mkdir /d; chown 7:8 /d; ln -s a /d/l";

#[test]
fn tells_what_containers_take() {
    in_every_tier("the sizes of containers", |host| {
        host.gives(
            &["run", "--name", "cc", "-v", "vol:/v", "app", "sh", "-c", &format!("{SCRIPT}; echo 12 > /v/f")],
            0,
            "",
        );
        // Two bytes, those of a file that grew, and a link's.
        host.gives(&["docker", "inspect", "-s", "-f", "{{.SizeRw}}", "cc"], 0, "15\n");
        host.gives(&["container", "inspect", "--size", "-f", "{{.SizeRw}}", "cc"], 0, "15\n");
        host.gives(&["docker", "inspect", "-f", "{{.SizeRw}}", "cc"], 1, "");
        let whole = host.prints(&["inspect", "-s", "-f", "{{.SizeRootFs}}", "cc"]);
        assert!(whole.trim().parse::<u64>().unwrap() > 500_000, "{whole}");
        let listed = host.prints(&["docker", "ps", "-as", "--format", "{{.Names}} {{.Size}}"]);
        assert!(listed.starts_with("cc 15B (virtual ") && listed.ends_with("MB)\n"), "{listed}");
        let line = "{{.Type}},{{.TotalCount}},{{.Active}},{{.Size}},{{.Reclaimable}}";
        let told = host.prints(&["docker", "system", "df", "--format", line]);
        let lines: Vec<&str> = told.lines().collect();
        assert!(lines[0].starts_with("Images,1,1,") && lines[0].ends_with(",0B (0%)"), "{told}");
        assert_eq!(lines[1..3], ["Containers,1,0,15B,15B (100%)", "Local Volumes,1,1,3B,0B (0%)"]);
        assert!(lines[3].starts_with("Build Cache,"), "{told}");
        let told = host.prints(&["docker", "system", "df"]);
        assert!(
            told.starts_with(
                "TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE\nImages          1         1  "
            )
        );
        let told = host.prints(&["docker", "system", "df", "-v"]);
        for part in
            ["Images space usage:\n\nREPOSITORY ", "\nVOLUME NAME   LINKS     SIZE\nvol           1         3B\n"]
        {
            assert!(told.contains(part), "{told}");
        }
        assert!(told.contains("\nBuild cache usage: "), "{told}");
        host.gives(&["rm", "cc"], 0, "cc\n");
        let told = host.prints(&["docker", "system", "df", "--format", line]);
        assert!(told.contains("Images,1,0,") && told.contains("B (100%)\nContainers,0,0,0B,0B\n"), "{told}");
    });
}

#[test]
fn makes_images() {
    in_every_tier("images made of containers", |host| {
        host.gives(&["run", "--name", "cc", "app", "sh", "-c", SCRIPT], 0, "");
        host.gives(&["diff", "cc"], 0, "A /added\nA /d\nA /d/l\nC /etc\nD /etc/passwd\nC /seed\nC /seed/file\n");
        let mut tar = tar::Archive::new(&host.output(&["export", "cc"]).stdout[..])
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
            "cc",
            "made:1",
        ]);
        assert!(id.starts_with("sha256:"), "{id}");
        host.gives(&["run", "--rm", "made:1"], 0, "seeded\nmore\n");
        host.gives(
            &["run", "--rm", "made:1", "sh", "-c", "echo $A; stat -c %u:%g /d; ls /etc/passwd 2>/dev/null"],
            1,
            "5\n7:8\n",
        );
        host.gives(&["commit", "-c", "RUN true", "cc"], 1, "");
        host.call(&["rm", "cc"]).succeeded();
    });
}
