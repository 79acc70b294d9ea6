//! Any Dockerfile that parses makes a plan or an error whose lines lie in the file. Behind the first NUL stand the
//! ONBUILD triggers of every base image, one a line.
#![no_main]

use dockless::dockerfile;
use dockless::oci::{Digest, ImageConfig, Platform};
use dockless::plan::{BaseImage, BuildPlan, NamedContext, PlanError, PlanOptions, Planner};
use libfuzzer_sys::fuzz_target;

fn plan(mut planner: Planner<'_>, image: &BaseImage) -> Result<BuildPlan, PlanError> {
    // A base image's triggers may name images, whose triggers never fire: it ends.
    loop {
        let wanted = planner.wanted();
        if wanted.is_empty() {
            return planner.finish();
        }
        for request in wanted {
            planner.supply(&request, image.clone())?;
        }
    }
}

fuzz_target!(|text: &str| {
    let (text, triggers) = text.split_once('\0').unwrap_or((text, ""));
    let Ok(file) = dockerfile::parse(text) else { return };
    let platform: Platform = "linux/amd64".parse().expect("a platform");
    let mut config = ImageConfig { os: "linux".into(), architecture: "arm64".into(), ..ImageConfig::default() };
    config.config.on_build = Some(triggers.lines().map(str::to_string).collect());
    let image = BaseImage { digest: Digest::sha256(b"base"), config };
    let options = PlanOptions {
        target: None,
        build_args: vec![("A".into(), Some("${B:-x}".into())), ("HTTP_PROXY".into(), Some("p".into()))],
        labels: vec![("l".into(), "v".into())],
        platform: platform.clone(),
        platform_is_explicit: text.len() % 2 == 0,
        build_platform: platform,
        source_date_epoch: (text.len() % 3 == 0).then_some(1),
        named_contexts: [("ctx".into(), NamedContext::Tree), ("img".into(), NamedContext::Image("busybox".into()))].into(),
    };
    let lines = text.split('\n').count() as u32;
    for planner in [Planner::new(&file, &options), Planner::for_check(&file, &options)] {
        match planner.and_then(|planner| plan(planner, &image)) {
            Ok(plan) => {
                let _ = plan.warn_ignored(|path| path.len() % 2 == 0);
            }
            Err(error) => {
                assert!(error.span.is_none_or(|span| span.line <= span.end_line && span.end_line <= lines), "{error:?}");
                let _ = error.to_string();
            }
        }
    }
});
