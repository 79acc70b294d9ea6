//! Tests of `plan`: the recorded builds, as far as a plan decides them.

use dockless::context::ignore::{Patterns, parse_file};
use dockless::dockerfile::lint::Warning;
use dockless::dockerfile::{self, Dockerfile};
use dockless::oci::{Digest, ImageConfig, Platform};
use dockless::plan::{
    Base, BaseImage, BuildPlan, CopySource, MountKind, NamedContext, PlanOptions, Planner, StepKind, TreeSource,
    lint_options, source_date_epoch,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Errors that only a build can see: missing files, failing commands, downloads, users of the tree.
const LATER: &[&str] = &[
    "failed to compute cache key",
    "process \"",
    "cannot copy to non-directory",
    "cannot replace to directory",
    "digest mismatch",
    "open /",
    "invalid user index",
    "no SSH key",
];

/// The config of the image that stands for every base of the recorded builds.
fn stand_in(platform: &Platform) -> BaseImage {
    let config = json!({
        "architecture": platform.architecture, "os": platform.os,
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Cmd": ["sh"], "WorkingDir": "/", "ArgsEscaped": true,
        },
        "rootfs": {"type": "layers", "diff_ids": [Digest::sha256(b"layer").to_string()]},
    });
    let config: ImageConfig = serde_json::from_value(config).expect("a config");
    BaseImage { digest: Digest::sha256(b"base"), config }
}

fn options() -> PlanOptions {
    let platform: Platform = "linux/amd64".parse().expect("a platform");
    PlanOptions {
        target: None,
        build_args: Vec::new(),
        labels: Vec::new(),
        platform: platform.clone(),
        platform_is_explicit: false,
        build_platform: platform,
        source_date_epoch: None,
        named_contexts: BTreeMap::new(),
    }
}

/// Plans, answering every request with the stand-in.
fn plan_with(text: &str, options: &PlanOptions, base: impl Fn(&Platform) -> BaseImage) -> Result<BuildPlan, String> {
    let file = dockerfile::parse(text).map_err(|error| error.to_string())?;
    source_date_epoch(&file, options).map_err(|error| error.to_string())?;
    finish(Planner::new(&file, options).map_err(|error| error.to_string())?, base)
}

fn finish(mut planner: Planner<'_>, base: impl Fn(&Platform) -> BaseImage) -> Result<BuildPlan, String> {
    loop {
        let wanted = planner.wanted();
        if wanted.is_empty() {
            return planner.finish().map_err(|error| error.to_string());
        }
        for request in wanted {
            planner.supply(&request, base(&request.platform)).map_err(|error| error.to_string())?;
        }
    }
}

fn plan(text: &str) -> BuildPlan {
    plan_with(text, &options(), stand_in).expect("a plan")
}

fn error(text: &str) -> String {
    plan_with(text, &options(), stand_in).expect_err("an error")
}

/// Text of a file of a recorded context, links followed.
fn text_of(files: &Value, path: &str) -> Option<String> {
    let file = files.as_array()?.iter().find(|file| file["path"] == path)?;
    match file["target"].as_str() {
        Some(target) => text_of(files, target),
        None => file["content"].as_str().map(str::to_string),
    }
}

/// One recorded build: what differs, if anything.
fn check(case: &Value) -> Result<(), String> {
    let (input, expect) = (&case["input"], &case["expect"]);
    let file = input["opts"]["filename"].as_str().unwrap_or("Dockerfile");
    let tree = input["locals"]["dockerfile"].as_str().unwrap_or_default();
    let text = text_of(&input["contexts"][tree], file).ok_or("no Dockerfile")?;
    let mut options = options();
    let mut platforms = vec![Ok(options.platform.clone())];
    for (name, value) in input["opts"].as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default().to_string();
        match name.split_once(':') {
            Some(("build-arg", name)) => options.build_args.push((name.to_string(), Some(value))),
            Some(("label", name)) => options.labels.push((name.to_string(), value)),
            Some(("context", name)) => {
                options.named_contexts.insert(name.to_string(), NamedContext::Tree);
            }
            _ if name == "target" => options.target = Some(value),
            _ if name == "platform" => {
                options.platform_is_explicit = true;
                platforms = value.split(',').map(str::parse).collect();
            }
            _ => {}
        }
    }
    let mut plans = Vec::new();
    for platform in platforms {
        let planned = platform
            .map_err(|error| error.to_string())
            .and_then(|platform| plan_with(&text, &PlanOptions { platform, ..options.clone() }, stand_in));
        plans.push(planned);
    }
    if expect["ok"] == false {
        let message = expect["error"].as_str().unwrap_or_default();
        let later = LATER.iter().any(|text| message.starts_with(text));
        return match plans.into_iter().find_map(Result::err) {
            Some(error) if later => Err(format!("planning failed too early: {error}\n  expected: {message}")),
            None if !later => Err(format!("planning succeeded; expected: {message}")),
            _ => Ok(()),
        };
    }
    let images = expect["images"].as_array().ok_or("no images")?;
    if images.len() != plans.len() {
        return Err(format!("{} images, {} plans", images.len(), plans.len()));
    }
    let plans = plans.into_iter().collect::<Result<Vec<_>, _>>()?;
    if let [plan] = &plans[..] {
        let parsed = dockerfile::parse(&text).map_err(|error| error.to_string())?;
        let context = input["locals"]["context"].as_str().unwrap_or_default();
        let ignore = [format!("{file}.dockerignore"), ".dockerignore".into()];
        let ignore = ignore.iter().find_map(|name| text_of(&input["contexts"][context], name)).unwrap_or_default();
        compare_warnings(expect, plan, &parsed, &ignore)?;
    }
    images.iter().zip(&plans).try_for_each(|(image, plan)| compare(image, plan))
}

/// Every warning of a build.
fn compare_warnings(expect: &Value, plan: &BuildPlan, file: &Dockerfile, ignore: &str) -> Result<(), String> {
    let texts = expect["warnings"].as_array().into_iter().flatten().filter_map(|warning| warning["text"].as_str());
    let mut theirs: Vec<String> = texts.map(str::to_string).collect();
    let text = |w: &Warning| format!("{}: {} (line {})", w.rule, w.detail, w.span.line);
    let patterns = Patterns::new(parse_file(ignore.as_bytes())).map_err(|error| error.to_string())?;
    let options = lint_options(file, &[]).map_err(|error| error.to_string())?;
    let ours = plan.lints(file, &options, |path| patterns.matches_for_good(path.as_bytes()));
    let mut ours: Vec<String> = ours.iter().map(text).collect();
    ours.sort();
    theirs.sort();
    if ours == theirs { Ok(()) } else { Err(format!("warnings\n  ours:   {ours:?}\n  theirs: {theirs:?}")) }
}

fn compare(image: &Value, plan: &BuildPlan) -> Result<(), String> {
    let config = &plan.target_stage().config;
    let same = |what: &str, ours: &Value, theirs: &Value| {
        if ours == theirs { Ok(()) } else { Err(format!("{what}\n  ours:   {ours}\n  theirs: {theirs}")) }
    };
    let value = serde_json::to_value(config).map_err(|error| error.to_string())?;
    same("config", &value["config"], &image["config"])?;
    same("author", &value["author"], &image["author"])?;
    same("platform", &json!(config.platform().to_string()), &image["platform"])?;
    // The exporter's own entries, for layers that no instruction made, are no part of a plan.
    let own = |entry: &&Value| entry["comment"] == "buildkit.dockerfile.v0";
    let theirs: Vec<&Value> = image["history"].as_array().into_iter().flatten().filter(own).collect();
    // A copy of a whole base into scratch made a layer that the recording took for the base's own.
    let mut root = plan.target_stage();
    while let Base::Stage(parent) = root.base {
        root = &plan.stages[parent.0];
    }
    let from_image = matches!(root.base, Base::Image(_));
    let stripped = image["base_history_stripped"].as_u64().filter(|_| !from_image).unwrap_or(0);
    let ours = value["history"].as_array().cloned().unwrap_or_default();
    let ours: Vec<Value> = ours.into_iter().skip(usize::try_from(stripped).unwrap_or(0)).collect();
    for (at, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        same(&format!("history {at}"), ours, theirs)?;
    }
    same("length of history", &json!(ours.len()), &json!(theirs.len()))
}

/// Every recorded build plans to the config and the history that BuildKit made of it, or fails where BuildKit does.
#[test]
fn plans_what_buildkit_builds() {
    let directory = Path::new("testdata/conformance/dockerfile/build");
    let (mut passed, mut failed) = (0, Vec::new());
    for entry in fs::read_dir(directory).expect("the recorded builds") {
        let path = entry.expect("an entry").path();
        let case: Value = serde_json::from_slice(&fs::read(&path).expect("readable")).expect("JSON");
        match check(&case) {
            Ok(()) => passed += 1,
            Err(difference) => failed.push(format!("{}: {difference}", case["id"].as_str().unwrap_or_default())),
        }
    }
    failed.sort();
    assert!(failed.is_empty(), "plan: {passed} passed, {} failed\n{}", failed.len(), failed.join("\n"));
    assert!(passed > 700, "only {passed} cases");
}

fn lines(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(Path::new("testdata/conformance/dockerfile").join(file)).expect("recorded cases");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Every recorded word of EXPOSE gives BuildKit's ports.
#[test]
fn reads_ports_as_buildkit_does() {
    for case in lines("expose_port.jsonl") {
        let word = case["input"]["port"].as_str().expect("a word");
        let result = plan_with(&format!("FROM scratch\nEXPOSE \"{word}\"\n"), &options(), stand_in);
        match (case["expect"]["ports"].as_array(), result) {
            // An empty word vanishes before it is read as a port.
            _ if word.is_empty() => {}
            (None, result) => {
                let error = result.expect_err(word);
                let error = error.strip_suffix(" (expected tcp, udp or sctp)").unwrap_or(&error);
                assert_eq!(Some(error), case["expect"]["error"].as_str(), "{word}");
            }
            (Some(ports), Ok(plan)) => {
                let exposed = plan.target_stage().config.config.exposed_ports.clone().unwrap_or_default();
                let exposed: Vec<Value> = exposed.into_keys().map(Value::from).collect();
                assert_eq!(exposed, *ports, "{word}");
            }
            (Some(_), Err(error)) => panic!("{word}: {error}"),
        }
    }
}

/// Every recorded source is taken for git where BuildKit does.
#[test]
fn knows_git_sources() {
    for case in lines("git_ref.jsonl") {
        let source = case["input"]["ref"].as_str().expect("a source");
        let like_local = case["expect"]["gitref"]["indistinguishable_from_local"] == true;
        let is_git = case["expect"]["is_git"] == true && !like_local;
        let plan = plan_with(&format!("FROM scratch\nADD {source} /\n"), &options(), stand_in);
        if case["expect"]["is_git"] == true && case["expect"]["error"].is_string() {
            assert!(plan.is_err_and(|error| error.starts_with(source)), "{source}");
            continue;
        }
        let plan = plan.unwrap_or_else(|error| panic!("{source}: {error}"));
        let StepKind::Copy(copy) = &plan.target_stage().steps[0].kind else { panic!("no copy") };
        assert_eq!(matches!(copy.sources[0], CopySource::Git(_)), is_git, "{source}");
    }
}

#[test]
fn drops_what_the_target_does_not_need() {
    let text = "FROM a AS one\nRUN 1\nFROM b AS two\nRUN 2\nFROM scratch\nCOPY --from=one /x /\nCOPY --from=c /y /\n";
    let file = dockerfile::parse(text).expect("a Dockerfile");
    let options = options();
    let planner = Planner::new(&file, &options).expect("a planner");
    let wanted: Vec<String> = planner.wanted().into_iter().map(|request| request.text).collect();
    assert_eq!(wanted, ["a", "c"]);
    assert!(planner.finish().expect_err("unresolved").to_string().contains("image a was not resolved"));
    let plan = plan(text);
    assert_eq!(plan.stages.iter().map(|stage| stage.file_index).collect::<Vec<_>>(), [0, 2]);
    let StepKind::Copy(copy) = &plan.stages[1].steps[0].kind else { panic!("no copy") };
    assert!(matches!(copy.from, TreeSource::Stage(stage) if stage.0 == 0));
}

/// A base's triggers come first, may need further images, and are gone afterwards.
#[test]
fn fires_the_triggers_of_a_base_image() {
    let base = |platform: &Platform| {
        let mut image = stand_in(platform);
        let triggers = ["COPY --from=tools /t /t", "RUN echo $A"].map(String::from).to_vec();
        image.config.config.on_build = Some(triggers);
        image
    };
    let text = "FROM base AS x\nARG A=1\nONBUILD ENV Z=1\nRUN last\nFROM x\nRUN end\n";
    let plan = plan_with(text, &options(), base).expect("a plan");
    let texts = |at: usize| plan.stages[at].steps.iter().map(|step| step.text.as_str()).collect::<Vec<_>>();
    assert_eq!(texts(0), ["ONBUILD COPY --from=tools /t /t", "ONBUILD RUN echo $A", "ARG A=1", "RUN last"]);
    assert_eq!(texts(1), ["ONBUILD ENV Z=1", "RUN end"]);
    assert_eq!(plan.stages[0].config.config.on_build.as_deref(), Some(&["ENV Z=1".to_string()][..]));
    assert_eq!(plan.target_stage().config.config.on_build, None);
    assert_eq!(plan.stages[0].steps[1].span.line, 1, "a trigger stands where it is fired");
    let StepKind::Run(run) = &plan.target_stage().steps[1].kind else { panic!("no run") };
    assert!(run.env.contains(&("A".into(), "1".into())) && run.env.contains(&("Z".into(), "1".into())));
}

#[test]
fn types_mounts() {
    let run = |flags: &str| {
        let plan = plan(&format!("FROM base\nWORKDIR /w\nARG C=cc\nRUN {flags} true\n"));
        let StepKind::Run(run) = plan.target_stage().steps[2].kind.clone() else { panic!("no run") };
        run.mounts
    };
    let mounts = run("--mount=target=a --mount=type=cache,target=/$C/ --mount=type=secret,id=d/s,env=");
    assert_eq!(mounts[0].target.as_deref(), Some("/w/a"));
    assert!(matches!(&mounts[0].kind, MountKind::Bind { from: TreeSource::Context, writable: false, .. }));
    assert!(matches!(&mounts[1].kind, MountKind::Cache { id, mode: 0o755, seed: None, .. } if id == "/cc"));
    assert!(mounts[2].target.is_none());
    assert!(matches!(&mounts[2].kind, MountKind::Secret { env: Some(env), mode: 0o400, .. } if env == "d/s"));
    let mounts = run("--mount=type=tmpfs,target=/t,size=1.5m --mount='type=secret,\"id=a,b\"' --mount=type=ssh");
    assert!(matches!(mounts[0].kind, MountKind::Tmpfs { size: Some(1_572_864) }));
    assert_eq!(mounts[1].target.as_deref(), Some("/run/secrets/a,b"));
    assert!(matches!(&mounts[2].kind, MountKind::Ssh { id, required: false, mode: 0o600, .. } if id == "default"));
    let failing = |flags: &str| error(&format!("FROM base\nRUN --mount={flags} true\n"));
    for (flags, expected) in [
        ("type=tmp,target=/x", "unsupported mount type \"tmp\" (did you mean tmpfs?)"),
        ("typ=tmpfs", "unexpected key 'typ' in 'typ=tmpfs' (did you mean type?)"),
        ("target=/", "invalid mount target \"/\""),
        ("target=/x,size=3", "unexpected key 'size' for mount type 'bind'"),
        ("target=/x,uid=3", "uid not allowed for \"bind\" type mounts"),
        ("target=/x,z", "invalid field 'z' must be a key=value pair"),
        ("type=cache,target=/x,sharing=loked", "unsupported sharing value \"loked\" (did you mean locked?)"),
    ] {
        assert!(failing(flags).contains(expected), "{flags}: {}", failing(flags));
    }
}

#[test]
fn proxies_stay_out_of_the_environment_that_is_hashed() {
    let build_args = vec![("http_proxy".to_string(), Some("http://p".to_string())), ("UNSET".to_string(), None)];
    let plan = plan_with("FROM base\nARG UNSET=d\nRUN x\n", &PlanOptions { build_args, ..options() }, stand_in);
    let plan = plan.expect("a plan");
    let StepKind::Run(run) = &plan.target_stage().steps[1].kind else { panic!("no run") };
    let pair = |name: &str, value: &str| (name.to_string(), value.to_string());
    assert_eq!(run.proxy_env, [pair("HTTP_PROXY", "http://p"), pair("http_proxy", "http://p")]);
    assert!(run.env.iter().all(|(name, _)| !name.eq_ignore_ascii_case("http_proxy")));
    assert_eq!(run.declared_args, [("UNSET".to_string(), Some("d".to_string()))]);
}

#[test]
fn named_contexts_stand_in() {
    let with = |name: &str, context: NamedContext, text: &str| {
        let named_contexts = BTreeMap::from([(name.to_string(), context)]);
        plan_with(text, &PlanOptions { named_contexts, ..options() }, stand_in).expect("a plan")
    };
    let plan = with("docker.io/library/alpine:latest", NamedContext::Tree, "FROM alpine\nRUN x\n");
    assert!(matches!(&plan.target_stage().base, Base::Context(name) if name == "docker.io/library/alpine:latest"));
    let plan = with("alpine::linux/amd64", NamedContext::Image("other:1".into()), "FROM alpine\nRUN x\n");
    assert_eq!(
        plan.target_stage().describe_base().as_deref(),
        Some(format!("[1/2] FROM docker.io/library/other:1@{}", Digest::sha256(b"base")).as_str())
    );
    let text = "FROM nothing AS s\nRUN never\nFROM scratch\nCOPY --from=s / /\n";
    let plan = with("s", NamedContext::Tree, text);
    assert_eq!(plan.stages.len(), 1, "the stage is never built");
    let StepKind::Copy(copy) = &plan.target_stage().steps[0].kind else { panic!("no copy") };
    assert_eq!(copy.from, TreeSource::NamedContext("s".into()));
}

#[test]
fn errors_name_what_was_meant() {
    for (text, expected) in [
        ("FROM scratch AS a\nFROM A\n", "repository name is lower-case (did you mean a?)"),
        ("FROM scratch\nCOPY --from=5 /x /\n", "invalid stage index 5 (the Dockerfile has 1 stage"),
        ("FROM scratch AS a\nCOPY --from=b / /\nFROM scratch AS b\nCOPY --from=a / /\n", "circular dependency"),
        (
            "FROM scratch AS a\nCOPY --from=b / /\nFROM scratch AS b\nFROM a\n",
            "cannot copy from stage \"b\", it needs to be defined before current stage \"a\"",
        ),
        ("FROM $X\n", "base name ($X) should not be blank"),
        ("ARG TARGT\nFROM --platform=$TARGETARC x\n", "empty platform value"),
        ("FROM --platform=linux//x y\n", "failed to parse platform linux//x"),
        ("FROM scratch\nVOLUME \"\"\n", "VOLUME specified can not be an empty string"),
        ("FROM scratch\nSTOPSIGNAL NOPE\n", "invalid signal: NOPE"),
        ("FROM scratch\nCOPY https://x/y /\n", "source can't be a URL for COPY"),
    ] {
        assert!(error(text).contains(expected), "{text}: {}", error(text));
    }
}

#[test]
fn warns_where_scopes_are_needed() {
    let text = "ARG BASE\nFROM --platform=$TARGETPLATFORM x$BASE AS linux\nENV A=$PAHT\nCOPY $HOEM /\n\
                FROM --platform=linux/arm64 linu$X\n";
    let plan = plan_with(text, &PlanOptions { target: Some("linux".into()), ..options() }, stand_in).expect("a plan");
    let rules: Vec<(&str, u32)> = plan.warnings.iter().map(|warning| (warning.rule, warning.span.line)).collect();
    assert_eq!(
        rules,
        [("RedundantTargetPlatform", 2), ("UndefinedArgInFrom", 5), ("UndefinedVar", 3), ("UndefinedVar", 4)]
    );
    assert_eq!(plan.warnings[2].detail, "Usage of undefined variable '$PAHT' (did you mean $PATH?)");
}

/// The text's own check leaves words with variables to the plan; a comment turns a rule off.
#[test]
fn warns_of_what_variables_hold() {
    let text =
        "FROM scratch\nARG P=80/TCP W=w\nEXPOSE $P\nWORKDIR $W\nWORKDIR $W\n# check=skip=UndefinedVar\nENV A=$B\n";
    let rules: Vec<&str> = plan(text).warnings.iter().map(|warning| warning.rule).collect();
    assert_eq!(rules, ["ExposeProtoCasing", "WorkdirRelativePath"]);
}

#[test]
fn warns_of_ignored_sources() {
    let text = "FROM scratch AS a\nCOPY ./x/../y dest/\nFROM scratch\nADD . b /\nCOPY --from=a y /\n";
    let file = format!("{text}FROM a\nCOPY --from=1 / /\n");
    let warnings = plan(&file).warn_ignored(|path| path == "y" || path.is_empty());
    let details: Vec<&str> = warnings.iter().map(|warning| warning.detail.as_str()).collect();
    assert_eq!(
        details,
        [
            "Attempting to Copy file \"y\" that is excluded by .dockerignore",
            "Attempting to Add file \".\" that is excluded by .dockerignore"
        ]
    );
}
