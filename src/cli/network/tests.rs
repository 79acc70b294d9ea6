use super::*;

fn variables(vars: &[(&str, &str)]) -> Variables {
    Variables::new(vars.iter().map(|(name, value)| (name.to_string(), value.to_string())))
}

#[test]
fn proxies_come_in_either_case() {
    let vars = variables(&[("http_proxy", "http://a"), ("HTTPS_PROXY", ""), ("https_proxy", "b"), ("NO_PROXY", "c,d")]);
    let proxies = vars.proxies();
    assert_eq!((proxies.http.as_deref(), proxies.https.as_deref()), (Some("http://a"), Some("b")));
    assert_eq!((proxies.all, proxies.no_proxy.as_str()), (None, "c,d"));
}

#[test]
fn trust_comes_from_the_usual_variables() {
    let temp = tempfile::NamedTempFile::new().unwrap();
    let file = temp.path().to_str().unwrap();
    let vars = [("SSL_CERT_FILE", "/bundle"), ("SSL_CERT_DIR", "/a::/b"), ("CI_SERVER_TLS_CA_FILE", file)];
    let tls = variables(&vars).tls();
    assert_eq!(tls.bundles, [PathBuf::from("/bundle")]);
    assert_eq!(tls.directories, [PathBuf::from("/a"), PathBuf::from("/b")]);
    assert_eq!(tls.extra, [PathBuf::from(file)]);
    let missing = variables(&[("CI_SERVER_TLS_CA_FILE", "/nowhere/ca.crt")]).tls();
    assert!(missing.extra.is_empty());
    assert_eq!(missing.bundles, TlsSettings::default().bundles);
}

#[test]
fn creds_are_for_a_host_or_for_the_images_of_the_command() {
    let image: Reference = "r.io:5000/a".parse().unwrap();
    let of = |text: &str| credentials(text, &[&image]).map_err(|error| error.message);
    let pair = |host: &str, pair: &str| Ok(vec![(host.to_string(), pair.to_string())]);
    assert_eq!(of("me:a=b:c"), pair("r.io:5000", "me:a=b:c"));
    assert_eq!(of("s.io=me:pw"), pair("s.io", "me:pw"));
    assert_eq!(of("s.io:443=me:p=w"), pair("s.io:443", "me:p=w"));
    assert!(of("me").is_err_and(|text| !text.contains("me:")));
    assert!(credentials("me:pw", &[]).is_err());
}

fn network(vars: &[(&str, &str)], flags: NetworkArgs) -> Network {
    let environment = Environment::of(vars, Path::new("/cwd"));
    Network::new(&environment, Path::new("/state"), &flags, &[], &[("r.test".into(), "127.0.0.1".into())]).unwrap()
}

#[test]
fn mirrors_and_exceptions_come_from_flags_variables_and_files() {
    let home = tempfile::tempdir().unwrap();
    let conf = home.path().join("registries.conf");
    let text = r#"
        unqualified-search-registries = ["x.io"]
        [[registry]]
        location = "docker.io"
        [[registry.mirror]]
        location = "m.conf/hub"
        insecure = true
        [[registry]]
        prefix = "quay.io/team"
        location = "inside.example.com/team"
        [[registry.mirror]]
        location = "d.example.com"
        pull-from-mirror = "digest-only"
        [[registry]]
        location = "plain.example.com:5000"
        insecure = true
        [[registry]]
        prefix = "*.bad.example.com"
        blocked = true
    "#;
    std::fs::write(&conf, text).unwrap();
    let vars = [
        ("CONTAINERS_REGISTRIES_CONF", conf.to_str().unwrap()),
        ("KANIKO_REGISTRY_MIRROR", "m.kaniko;http://m.two"),
        ("KANIKO_REGISTRY_MAP", "gcr.io=g.example.com/gcr;index.docker.io=m.map"),
    ];
    let flags = NetworkArgs {
        registry_mirror: vec!["m.flag".into()],
        insecure_registry: vec!["http://i.flag:5000/".into(), "10.0.0.0/8".into()],
        registry_ca: vec!["ca.crt".into()],
        ..NetworkArgs::default()
    };
    let client = network(&vars, flags).client().unwrap_or_else(|d| panic!("{}", d.message));
    let settings = client.http().settings();
    for host in ["i.flag:5000", "10.1.2.3", "m.conf", "plain.example.com:5000", "m.two"] {
        assert!(settings.tls.is_insecure(host), "{host}");
    }
    assert!(!settings.tls.is_insecure("m.flag"));
    assert_eq!(settings.tls.extra, [PathBuf::from("/cwd/ca.crt")]);
    assert_eq!(settings.hosts, [("r.test".to_string(), IpAddr::from([127, 0, 0, 1]))]);
    let places = |name: &str| {
        client
            .settings()
            .places(&name.parse().unwrap())
            .map(|places| places.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(
        places("alpine").unwrap(),
        [
            "m.map/library/alpine:latest",
            "m.flag/library/alpine:latest",
            "m.kaniko/library/alpine:latest",
            "m.two/library/alpine:latest",
            "m.conf/hub/library/alpine:latest",
            "docker.io/library/alpine:latest",
        ]
    );
    assert_eq!(places("gcr.io/p/a:1").unwrap(), ["g.example.com/gcr/p/a:1", "gcr.io/p/a:1"]);
    assert_eq!(places("quay.io/team/a:1").unwrap(), ["inside.example.com/team/a:1"]);
    assert_eq!(places("quay.io/teams/a:1").unwrap(), ["quay.io/teams/a:1"]);
    let digest = crate::oci::Digest::sha256(b"x");
    assert_eq!(places(&format!("quay.io/team/a@{digest}")).unwrap()[0], format!("d.example.com/a@{digest}"));
    assert!(places("x.bad.example.com/a").is_err());
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let home = tempfile::tempdir().unwrap();
    let conf = home.path().join("registries.conf");
    std::fs::write(&conf, "[[registry").unwrap();
    let vars = [("CONTAINERS_REGISTRIES_CONF", conf.to_str().unwrap())];
    let error = network(&vars, NetworkArgs::default()).client().err().unwrap();
    assert!(error.message.contains("registries.conf"), "{}", error.message);
    let missing = [("CONTAINERS_REGISTRIES_CONF", "/nowhere/registries.conf")];
    assert!(network(&missing, NetworkArgs::default()).client().is_err());
}
