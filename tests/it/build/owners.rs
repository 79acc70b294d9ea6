//! Whoever builds, layers are the same bytes: owners, modes, set-id bits, capabilities, ACLs and links among them. An
//! ordinary user with one id has to emulate all of that.

use super::place::{Caller, Place, callers};
use crate::support::registry::Registry;
use serde_json::Value;

const DOCKERFILE: &str = r#"ARG BASE
FROM $BASE
RUN <<SCRIPT
set -e
groupadd -g 2000 staff2 && useradd -m -u 1500 -G staff2 -s /bin/bash app && useradd -r -u 300 -m -d /srv/svc svc
mkdir -p /t/a/b && touch /t/a/b/c && ln -s ../c /t/a/link && chown -R app:staff2 /t && chown -h svc:mail /t/a/link
install -o svc -g mail -m 6755 /usr/bin/touch /usr/local/bin/touch-as
install -d -o svc -g staff2 -m 3775 /shared && touch /shared/byroot && mkdir /shared/dir && ln -s x /shared/byrootlink
mkfifo /t/pipe && chown app:mail /t/pipe && chmod 620 /t/pipe
touch /t/suid && chmod 6755 /t/suid && cp -p /t/suid /t/kept && chown app /t/suid && chmod u+s /t/suid
touch /t/acl /t/cap && chmod 755 /t/cap && chown app:mail /t/cap
perl -e '
    sub set { my ($f, $n, $v) = @_; syscall(188, $f, $n, $v, length $v, 0) == 0 or die "$n: $!" }
    set("/t/cap", "security.capability", pack("V5", 0x02000001, 0x400, 0, 0, 0));
    set("/t/acl", "system.posix_acl_access", pack("V", 2)
        . join("", map { pack("vvV", @$_) } [1, 6, ~0], [2, 6, 1500], [4, 4, ~0], [16, 6, ~0], [32, 0, ~0]));'
setpriv --reuid 1500 --regid 2000 --clear-groups touch /shared/bysetpriv
su app -c 'umask 027; mkdir ~/d; echo x > ~/d/x; ln -s x ~/d/l; mkfifo ~/d/p; ln ~/d/x ~/d/h; touch /shared/bysu'
SCRIPT
USER app
WORKDIR /home/app/work
RUN <<SCRIPT
set -e
id > ids; id -G svc >> ids; cat /proc/self/status | grep -E '^(Uid|Gid|Groups|Cap)' >> ids
for path in /etc/shadow /root/x /home/app/d/x; do cat $path > /dev/null 2>&1 && echo read $path >> ids || true; done
for path in /etc/new /t/a/new /shared/byroot /var/mail/new; do (: > $path) 2> /dev/null && echo wrote $path >> ids || true; done
chown 0 ids 2> /dev/null && exit 1; chmod 600 /shared/byroot 2> /dev/null && exit 1; rm -f /shared/byroot 2> /dev/null && exit 1
chgrp staff2 ids; chmod 2640 ids
touch-as /shared/byprogram && mkdir sub && mv sub /shared/moved && ln -s there /shared/moved/l
perl -e 'use Socket; socket(my $s, AF_UNIX, SOCK_STREAM, 0); mkdir "made", 0; symlink "a", "made/x" and die; chmod 0700, "made"'
tar --hard-dereference -C / -cf ../t.tar t/a home/app/d && tar -xf ../t.tar && rm ../t.tar
SCRIPT
USER root
RUN <<SCRIPT
set -e
mv /shared /moved && cp -a /moved /copied && mv /t/a/link /t/renamed && ln /t/pipe /t/pipe2
rm /home/app/d/l && ln -s x /home/app/d/l && rm -r /home/app/d/p && mkfifo /home/app/d/p
chown -hR svc /home/app/work && chown root:root /t/acl && rm -r /srv/svc && mkdir /srv/svc
mkdir -p /c/tmp && for p in /bin/bash /usr/bin/chown /usr/bin/touch /usr/bin/mkdir; do
    cp --parents -L $p $(ldd $p | grep -o '/[^ ]*') /c; done
chroot /c /bin/bash -ec 'touch /tmp/a; chown 1500:2000 /tmp/a; mkdir -m 2775 d; chown 0:2000 d; cd d; umask 027; touch x ../tmp/y; ! echo > /t/acl'
chmod 1777 /c/tmp; chroot --userspec=33:33 /c /usr/bin/touch /tmp/b
! chroot --userspec=33:33 /c /usr/bin/mkdir /d/no 2> /dev/null; chroot --userspec=33:33 /c /usr/bin/mkdir /tmp/e; rm -r /c/bin /c/usr /c/lib*
stat -c '%n %u:%g %a %F' /c/* /c/*/* /t/* /moved/* /copied/* /home/app/d/* > /stats
SCRIPT
"#;

/// Who builds, in which tier.
type Way = (Caller, &'static str);

#[test]
fn layers_are_the_same_bytes_whoever_builds() {
    let registry = Registry::start();
    let base = registry.put_base("debian");
    let mut first: Option<(Way, Vec<Value>)> = None;
    let mut ways: Vec<Way> = callers("the same layers").into_iter().map(|caller| (caller, "auto")).collect();
    if ways.len() > 1 {
        ways.extend([(Caller::Own, "chroot"), (Caller::OneId, "emulated")]);
    }
    for way in ways {
        let (caller, tier) = way;
        let place = Place::new(caller);
        place.file("Dockerfile", DOCKERFILE);
        let name = format!("{}/owners:{caller:?}-{tier}", registry.host());
        let words = format!("build --rewrite-timestamp --build-arg BASE={base} -t {name} --push context");
        let mut command = place.command(&words, [""; 0]);
        command.env("SOURCE_DATE_EPOCH", "1700000000").env("DOCKLESS_ISOLATION", tier);
        place.finish(command.output().expect("the binary starts")).succeeded();
        let (_, path) = name.split_once('/').expect("host/name");
        let image: Value = serde_json::from_slice(&registry.manifest(path)).expect("a manifest");
        let layers: Vec<Value> = image["layers"].as_array().expect("layers").clone();
        match &first {
            None => first = Some((way, layers)),
            Some((other, expected)) => assert_eq!(&layers, expected, "{way:?} and {other:?}"),
        }
    }
}
