//! Credentials of the clouds, against servers that stand in for theirs.

use super::{Quiet, impatient, linux, store, told};
use crate::support::standin::{Call, Reply, StandIn};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use dockless::http::{Http, Settings, TlsSettings};
use dockless::registry::{Environment, Identity, Keychain, Lookup, RegistryClient};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

fn ok(body: impl Into<String>) -> Reply {
    (200, Vec::new(), body.into())
}

fn no() -> Reply {
    (403, Vec::new(), r#"{"message":"no hunter2 for you"}"#.replace("hunter2 ", ""))
}

/// What a client with these variables finds for `registry`, whose name leads to this machine.
fn found(registry: &str, variables: &[(&str, &str)]) -> Lookup {
    client(registry, variables).lookup(registry, "team/app").unwrap()
}

fn client(registry: &str, variables: &[(&str, &str)]) -> RegistryClient {
    let host = registry.split(':').next().unwrap().to_string();
    let tls = TlsSettings { insecure: [host.clone()].into(), ..TlsSettings::default() };
    let hosts = vec![(host, Ipv4Addr::LOCALHOST.into())];
    let environment = Environment::new(variables.iter().map(|(name, value)| (name.to_string(), value.to_string())));
    let http = Http::new(Settings { tls, hosts, ..impatient() });
    RegistryClient::new(Arc::new(http), Keychain::new(environment), Default::default())
}

fn password(lookup: &Lookup) -> (String, String, String) {
    let credential = lookup.credential.clone().unwrap_or_else(|| panic!("{lookup:?}"));
    match credential.identity {
        Identity::Password { user, password } => (user, password.expose().to_string(), credential.source),
        other => panic!("{other:?}"),
    }
}

const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

/// ECR, STS and the metadata server in one.
fn amazon(call: &Call) -> Reply {
    let keys = r#"{"AccessKeyId":"AKIDROLE","SecretAccessKey":"hunter2","Token":"hunter2-session"}"#;
    let path = call.target.as_str();
    match (call.method.as_str(), path) {
        ("POST", "/") if call.body.starts_with("Action=AssumeRoleWithWebIdentity") => {
            let form = call.form();
            if form["WebIdentityToken"] != "hunter2-web" || form["RoleArn"] != "arn:aws:iam::1:role/ci" {
                return no();
            }
            ok("<R><Credentials><SessionToken>hunter2-session</SessionToken><SecretAccessKey>hunter2</SecretAccessKey>\
                <AccessKeyId>AKIDWEB</AccessKeyId></Credentials></R>")
        }
        ("POST", "/") => {
            let authorization = call.header("authorization");
            let known = ["AKIDENV", "AKIDWEB", "AKIDROLE"].iter().any(|id| authorization.contains(&format!("={id}/")));
            let session =
                authorization.contains("=AKIDENV/") || call.header("x-amz-security-token") == "hunter2-session";
            let scope =
                authorization.contains("/eu-west-1/ecr/aws4_request, SignedHeaders=content-type;host;x-amz-date;");
            let target = call.header("x-amz-target") == "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken";
            if !(known && session && scope && target) || call.body != "{}" {
                return no();
            }
            let token = STANDARD.encode("AWS:hunter2-ecr");
            ok(format!(r#"{{"authorizationData":[{{"authorizationToken":"{token}","expiresAt":1.0}}]}}"#))
        }
        ("PUT", "/latest/api/token") if call.header("x-aws-ec2-metadata-token-ttl-seconds") == "300" => ok("imds"),
        ("GET", path) if path.starts_with("/latest/") => match call.header("x-aws-ec2-metadata-token") {
            "imds" if path.ends_with("/security-credentials/") => ok("ci-role\n"),
            "imds" if path.ends_with("/security-credentials/ci-role") => ok(keys),
            _ => no(),
        },
        ("GET", "/task") if call.header("authorization") == "hunter2-pod" => ok(keys),
        _ => no(),
    }
}

#[test]
fn ecr_takes_keys_web_identity_task_and_instance_role() {
    let aws = StandIn::start(amazon);
    let base = format!("http://{}", aws.address());
    let dir = tempfile::tempdir().unwrap();
    let web = dir.path().join("token");
    std::fs::write(&web, "hunter2-web\n").unwrap();
    let (web, task) = (web.to_str().unwrap(), format!("{base}/task"));
    let cases: [(&[(&str, &str)], &str); 4] = [
        (&[("AWS_ACCESS_KEY_ID", "AKIDENV"), ("AWS_SECRET_ACCESS_KEY", "hunter2")], "AWS (AWS_ACCESS_KEY_ID)"),
        (
            &[("AWS_WEB_IDENTITY_TOKEN_FILE", web), ("AWS_ROLE_ARN", "arn:aws:iam::1:role/ci")],
            "AWS (web identity, role arn:aws:iam::1:role/ci)",
        ),
        (
            &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &task), ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "hunter2-pod")],
            "AWS (the container's role)",
        ),
        (&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &base)], "AWS (the instance's role)"),
    ];
    for (variables, source) in cases {
        let variables = [variables, &[("AWS_ENDPOINT_URL", base.as_str())]].concat();
        let expected = ("AWS".to_string(), "hunter2-ecr".to_string(), source.to_string());
        assert_eq!(password(&found(ECR, &variables)), expected);
    }
}

/// A cloud is asked once, for its own registries, when nothing else knows them.
#[test]
fn clouds_are_asked_last_and_once() {
    let aws = StandIn::start(amazon);
    let base = format!("http://{}", aws.address());
    let keys = [("AWS_ACCESS_KEY_ID", "AKIDENV"), ("AWS_SECRET_ACCESS_KEY", "hunter2"), ("AWS_ENDPOINT_URL", &base)];
    let own = client(ECR, &keys);
    for _ in 0..3 {
        own.lookup(ECR, "a").unwrap();
    }
    assert_eq!(aws.calls().len(), 1);
    let auths = format!(r#"{{"auths":{{"{ECR}":{{"username":"me","password":"pw"}}}}}}"#);
    let first = found(ECR, &[&keys[..], &[("DOCKER_AUTH_CONFIG", &auths)]].concat());
    assert_eq!(password(&first).2, "DOCKER_AUTH_CONFIG");
    assert_eq!(found("r.example.com", &keys).credential, None);
    assert_eq!(aws.calls().len(), 1);
}

/// A refusal stops nothing, and is told where access is denied.
#[test]
fn what_a_cloud_refuses_is_told_without_secrets() {
    let aws = StandIn::start(|_| no());
    let base = format!("http://{}", aws.address());
    let keys = [("AWS_ACCESS_KEY_ID", "AKIDENV"), ("AWS_SECRET_ACCESS_KEY", "hunter2"), ("AWS_ENDPOINT_URL", &base)];
    let lookup = found(ECR, &keys);
    let text = lookup.describe();
    assert!(
        lookup.credential.is_none() && text.contains("AWS: ECR's GetAuthorizationToken") && text.contains("403"),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");
    let nothing = found(ECR, &[("AWS_EC2_METADATA_DISABLED", "true")]).describe();
    assert!(nothing.contains("AWS: no keys in the environment"), "{nothing}");
}

fn rsa_key(dir: &Path) -> String {
    let file = dir.join("key.pem");
    let made = Command::new("openssl").args(["genpkey", "-algorithm", "RSA", "-out"]).arg(&file).output().unwrap();
    assert!(made.status.success());
    std::fs::read_to_string(file).unwrap()
}

#[test]
fn google_takes_a_key_file_a_workload_identity_and_the_metadata_server() {
    let google = StandIn::start(|call| {
        let form = call.form();
        let field = |name: &str| form.get(name).cloned().unwrap_or_default();
        match call.target.as_str() {
            "/token" if field("grant_type").ends_with("jwt-bearer") => {
                let assertion = field("assertion");
                let claims = URL_SAFE_NO_PAD.decode(assertion.split('.').nth(1).unwrap()).unwrap();
                let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
                let right =
                    claims["iss"] == "ci@p.iam" && claims["scope"].as_str().unwrap().ends_with("cloud-platform");
                if right { ok(r#"{"access_token":"hunter2-sa","expires_in":3599}"#) } else { no() }
            }
            "/sts" if field("subject_token") == "hunter2-oidc" && field("audience") == "//iam/pool" => {
                ok(r#"{"access_token":"hunter2-federated","expires_in":3599}"#)
            }
            "/impersonate" if call.header("authorization") == "Bearer hunter2-federated" => {
                ok(r#"{"accessToken":"hunter2-wif"}"#)
            }
            path if path.starts_with("/computeMetadata/v1/") && call.header("metadata-flavor") == "Google" => {
                ok(r#"{"access_token":"hunter2-gce","expires_in":3599,"token_type":"Bearer"}"#)
            }
            _ => no(),
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let base = format!("http://{}", google.address());
    let write = |name: &str, value: serde_json::Value| {
        let path = dir.path().join(name);
        std::fs::write(&path, value.to_string()).unwrap();
        path.to_str().unwrap().to_string()
    };
    let account = write(
        "account.json",
        serde_json::json!({
            "type": "service_account", "client_email": "ci@p.iam", "private_key": rsa_key(dir.path()),
            "token_uri": format!("{base}/token"),
        }),
    );
    std::fs::write(dir.path().join("oidc"), "hunter2-oidc").unwrap();
    let external = write(
        "external.json",
        serde_json::json!({
            "type": "external_account", "audience": "//iam/pool", "token_url": format!("{base}/sts"),
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "service_account_impersonation_url": format!("{base}/impersonate"),
            "credential_source": { "file": dir.path().join("oidc") },
        }),
    );
    let broken = write("broken.json", serde_json::json!({ "type": "unheard_of", "private_key": "hunter2" }));
    for registry in ["europe-docker.pkg.dev", "gcr.io", "eu.gcr.io"] {
        let of = |file: &str| found(registry, &[("GOOGLE_APPLICATION_CREDENTIALS", file)]);
        let expected = |token: &str, source: String| ("oauth2accesstoken".to_string(), token.to_string(), source);
        let named = |file: &str| format!("GOOGLE_APPLICATION_CREDENTIALS ({file})");
        assert_eq!(password(&of(&account)), expected("hunter2-sa", named(&account)));
        assert_eq!(password(&of(&external)), expected("hunter2-wif", named(&external)));
        let metadata = found(registry, &[("GCE_METADATA_HOST", google.address())]);
        assert_eq!(password(&metadata), expected("hunter2-gce", "Google's metadata server".into()));
        let text = of(&broken).describe();
        assert!(text.contains("of an unknown form") && !text.contains("hunter2"), "{text}");
    }
}

/// The signature of the service account's assertion is one that the key's other half takes.
#[test]
fn googles_assertion_is_signed() {
    let dir = tempfile::tempdir().unwrap();
    let key = rsa_key(dir.path());
    let google = StandIn::start(|_| ok(r#"{"access_token":"x"}"#));
    let account = serde_json::json!({
        "type": "service_account", "client_email": "ci@p.iam", "private_key": key,
        "token_uri": format!("http://{}/token", google.address()),
    });
    let file = dir.path().join("account.json");
    std::fs::write(&file, account.to_string()).unwrap();
    found("gcr.io", &[("GOOGLE_APPLICATION_CREDENTIALS", file.to_str().unwrap())]);
    let assertion = google.calls()[0].form()["assertion"].clone();
    let (text, signature) = assertion.rsplit_once('.').unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("text"), text).unwrap();
    std::fs::write(at("signature"), URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).current_dir(dir.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    openssl(&["pkey", "-in", "key.pem", "-pubout", "-out", "public.pem"]);
    openssl(&["dgst", "-sha256", "-verify", "public.pem", "-signature", "signature", "text"]);
}

/// Azure's registry trades tokens itself, and wants its refresh token by POST.
fn azure(call: &Call) -> Reply {
    let form = call.form();
    let field = |name: &str| form.get(name).cloned().unwrap_or_default();
    match call.target.split('?').next().unwrap() {
        "/tenant-1/oauth2/v2.0/token" => {
            let secret = field("client_secret") == "hunter2";
            let federated = field("client_assertion") == "hunter2-oidc"
                && field("client_assertion_type") == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
            let right = field("client_id") == "client-1" && field("grant_type") == "client_credentials";
            match right && (secret || federated) && field("scope").ends_with("/.default") {
                true => ok(r#"{"access_token":"hunter2-aad","expires_in":"3599"}"#),
                false => no(),
            }
        }
        "/oauth2/exchange" if call.method == "POST" && field("access_token") == "hunter2-aad" => {
            let right = field("grant_type") == "access_token" && field("tenant") == "tenant-1";
            if right { ok(r#"{"refresh_token":"hunter2-refresh"}"#) } else { no() }
        }
        "/oauth2/token" if call.method == "POST" => {
            let right = field("grant_type") == "refresh_token"
                && field("refresh_token") == "hunter2-refresh"
                && field("service") == "acr"
                && field("scope") == "repository:team/app:pull";
            if right { ok(r#"{"access_token":"hunter2-access"}"#) } else { no() }
        }
        "/v2/" => (
            401,
            vec![format!(
                "WWW-Authenticate: Bearer realm=\"http://{}/oauth2/token\",service=\"acr\"",
                call.header("host")
            )],
            String::new(),
        ),
        _ if call.header("authorization") != "Bearer hunter2-access" => no(),
        _ => (404, Vec::new(), r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"as told"}]}"#.into()),
    }
}

#[test]
fn acr_takes_a_clients_secret_and_a_workload_identity() {
    let server = StandIn::start(azure);
    let registry = format!("team.azurecr.io:{}", server.port());
    let authority = format!("http://{}/", server.address());
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "hunter2-oidc\n").unwrap();
    let who = [("AZURE_CLIENT_ID", "client-1"), ("AZURE_TENANT_ID", "tenant-1"), ("AZURE_AUTHORITY_HOST", &authority)];
    for (how, source) in [
        (("AZURE_CLIENT_SECRET", "hunter2"), "Azure (AZURE_CLIENT_SECRET of client client-1)"),
        (("AZURE_FEDERATED_TOKEN_FILE", token.to_str().unwrap()), "Azure (workload identity, client client-1)"),
    ] {
        let client = client(&registry, &[&who[..], &[how]].concat());
        let lookup = client.lookup(&registry, "team/app").unwrap();
        let credential = lookup.credential.clone().unwrap_or_else(|| panic!("{lookup:?}"));
        assert_eq!(credential.source, source);
        assert!(matches!(credential.identity, Identity::RefreshToken(token) if token.expose() == "hunter2-refresh"));
        // The whole way: the refresh token is traded for one of the repository, which opens the door.
        let (_dir, store) = store();
        let image = format!("{registry}/team/app:1").parse().unwrap();
        let error = told(&client.pull_image(&store, &image, &linux(), &Quiet).unwrap_err());
        assert!(error.contains("MANIFEST_UNKNOWN") && !error.contains("hunter2"), "{error}");
    }
}
