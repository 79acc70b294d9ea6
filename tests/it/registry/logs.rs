//! Nothing secret is in what is logged, at the finest level, by us or by what we stand on.

use super::{Quiet, client, impatient, linux, store};
use crate::support::faulty::{Fault, Faulty, Habits, SECRET};
use dockless::http::Secret;
use dockless::oci::manifest::OCI_MANIFEST;
use dockless::oci::{Digest, Reference, manifest};
use dockless::registry::{Environment, Keychain};
use std::fmt::{Debug, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

/// Keeps what holds the secret, and counts the rest.
#[derive(Default)]
struct Watch {
    seen: AtomicUsize,
    leaks: Mutex<Vec<String>>,
}

static WATCH: Watch = Watch { seen: AtomicUsize::new(0), leaks: Mutex::new(Vec::new()) };

struct Everything;

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, "{field}={value:?} ");
    }
}

impl Watch {
    fn look(&self, metadata: &Metadata<'_>, text: Text) {
        self.seen.fetch_add(1, Ordering::SeqCst);
        if text.0.contains(SECRET) {
            self.leaks.lock().unwrap().push(format!("{}: {}", metadata.target(), text.0));
        }
    }
}

impl Subscriber for Everything {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        let mut text = Text(String::new());
        attributes.record(&mut text);
        WATCH.look(attributes.metadata(), text);
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        WATCH.look(event.metadata(), text);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[test]
fn nothing_secret_is_logged() {
    // For the whole process: requests are made on threads of the runtime's. What other tests log is looked at too.
    tracing::subscriber::set_global_default(Everything).unwrap();
    let registry = Faulty::start_with(Habits { no_mount: true, ..Habits::default() }, |_, seen| {
        (seen.kind() == "POST blobs/uploads/" && seen.target.contains("mount=")).then_some(Fault::Status(403))
    });
    let host = registry.host();
    let auths = format!(r#"{{"auths":{{"{host}":{{"username":"me","password":"{SECRET}"}}}}}}"#);
    let variables = [
        ("DOCKER_AUTH_CONFIG".to_string(), auths),
        ("DOCKER_CONFIG".to_string(), "/nowhere".to_string()),
        ("HOME".to_string(), "/nowhere".to_string()),
    ];
    let environment = Environment::new(variables);
    let (_dir, store) = store();
    let layer = store.put_blob(b"layer").unwrap();
    let document = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"mediaType":"c","digest":"{layer}","size":5}},"layers":[]}}"#
    );
    let what = manifest::descriptor(OCI_MANIFEST, &store.put_blob(document.as_bytes()).unwrap(), document.len() as u64);
    let at = |name: &str| -> Reference { format!("{host}/{name}:1").parse().unwrap() };
    let client = self::client(impatient(), Keychain::new(environment));
    client.push_image(&store, &what, &at("team/one"), &Quiet).unwrap();
    registry.forget_blobs();
    // A mount that is refused is logged, with the reason.
    let fresh = self::client(impatient(), Keychain::anonymous().with(&host, "me", Secret::new(SECRET), "--creds"));
    fresh.push_image(&store, &what, &at("team/two"), &Quiet).unwrap();
    assert!(client.pull_image(&store, &at("team/none"), &linux(), &Quiet).is_err());
    assert!(WATCH.seen.load(Ordering::SeqCst) > 0, "nothing was logged, so nothing is shown");
    assert_eq!(*WATCH.leaks.lock().unwrap(), Vec::<String>::new());
    assert_eq!(Digest::sha256(b"layer"), layer);
}
