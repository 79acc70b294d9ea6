//! Volumes, directories and files in containers.

use super::in_every_tier;
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn shows_directories_and_files_of_the_machine() {
    in_every_tier("mounts of containers", |host| {
        fs::write(host.place.path("out/in"), "from outside\n").unwrap();
        // Whoever the container's root is outside.
        fs::set_permissions(host.place.path("out/in"), PermissionsExt::from_mode(0o666)).unwrap();
        let out = format!("{}:/mnt", host.place.path("out").display());
        host.gives(
            &["run", "--rm", "-v", &out, "app", "sh", "-c", "cat /mnt/in; echo inside > /mnt/made; ls /mnt"],
            0,
            "from outside\nin\nmade\n",
        );
        assert_eq!(fs::read_to_string(host.place.path("out/made")).unwrap(), "inside\n");
        let readonly = format!("{out}:ro");
        host.gives(
            &[
                "run",
                "--rm",
                "-v",
                &readonly,
                "app",
                "sh",
                "-c",
                "cat /mnt/in; touch /mnt/x 2>/dev/null || echo refused",
            ],
            0,
            "from outside\nrefused\n",
        );
        // A file, by a path from the working directory.
        host.gives(
            &["run", "--rm", "-v", "./out/in:/etc/motd", "app", "sh", "-c", "cat /etc/motd; echo more >> /etc/motd"],
            0,
            "from outside\n",
        );
        assert_eq!(fs::read_to_string(host.place.path("out/in")).unwrap(), "from outside\nmore\n");
        host.gives(
            &["run", "--rm", "--mount", "type=bind,src=out,dst=/a/b,readonly", "app", "ls", "/a/b"],
            0,
            "in\nmade\n",
        );
        host.gives(&["run", "--rm", "--mount", "type=bind,src=nosuch,dst=/a", "app", "true"], 125, "");
        host.gives(&["run", "--rm", "--tmpfs", "/t:size=1m", "app", "sh", "-c", "echo x > /t/x && ls /t"], 0, "x\n");
        host.call(&["ps"]).succeeded();
        assert!(!host.place.path("out/x").exists());
    });
}

#[test]
fn keeps_volumes() {
    in_every_tier("volumes", |host| {
        let run = |script: &str, stdout: &str| {
            host.gives(&["run", "--rm", "-v", "data:/seed", "app", "sh", "-c", script], 0, stdout);
        };
        // Seeded from the image, with owners and modes.
        run(
            "stat -c '%u:%g' /seed/file; stat -c %a /seed; cat /seed/file; echo changed > /seed/file",
            "5:6\n750\nseeded\n",
        );
        run("cat /seed/file; rm /seed/file", "changed\n");
        host.gives(&["run", "--rm", "-v", "data:/v", "app", "ls", "/v"], 0, "");
        // One without a name ends with its container.
        host.gives(&["run", "--rm", "-v", "/seed", "app", "cat", "/seed/file"], 0, "seeded\n");
        let volumes = fs::read_dir(host.place.state().join("volumes")).unwrap();
        let names: Vec<_> = volumes.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["data"], "{}", host.what(&[]));
        // Files of a container and of the volume in it, from outside.
        host.prints(&["create", "--name", "cc", "-v", "data:/v", "app"]);
        fs::write(host.place.path("out/f"), "copied\n").unwrap();
        host.gives(&["cp", "out/f", "cc:/v/f"], 0, "");
        host.gives(&["cp", "cc:/v/f", "-"], 0, &host.prints(&["cp", "cc:/v/f", "-"]));
        host.gives(&["run", "--rm", "-v", "data:/v", "app", "cat", "/v/f"], 0, "copied\n");
        host.call(&["rm", "-v", "cc"]).succeeded();
    });
}
