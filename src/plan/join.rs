//! Plans for several platforms as one.

use super::model::{Base, BuildPlan, StageIndex, StepKind, TreeSource};
use super::mount::MountKind;

impl BuildPlan {
    /// One plan that builds what this one and each of `others` do, in this order; each stage is called by its platform
    /// too. Of what does not depend on the platform this plan's is kept.
    #[must_use]
    pub fn join(mut self, others: Vec<BuildPlan>) -> BuildPlan {
        if !others.is_empty() {
            self.name_platforms();
        }
        for mut next in others {
            next.name_platforms();
            next.shift(self.stages.len());
            self.stages.append(&mut next.stages);
            self.targets.append(&mut next.targets);
            self.warnings.extend(next.warnings);
        }
        self
    }

    /// Puts the platform that the image is for before the stages' names, as BuildKit shows them.
    fn name_platforms(&mut self) {
        let platform = self.target_stage().config.platform();
        for stage in &mut self.stages {
            stage.label = format!("{platform} {}", stage.label).trim_end().to_string();
        }
    }

    /// Moves every stage `by` places on.
    fn shift(&mut self, by: usize) {
        let index = |stage: &mut StageIndex| stage.0 += by;
        let tree = |tree: &mut TreeSource| {
            if let TreeSource::Stage(stage) = tree {
                index(stage);
            }
        };
        self.targets.iter_mut().for_each(index);
        for stage in &mut self.stages {
            if let Base::Stage(base) = &mut stage.base {
                index(base);
            }
            for step in &mut stage.steps {
                match &mut step.kind {
                    StepKind::Copy(copy) => tree(&mut copy.from),
                    StepKind::Run(run) => run.mounts.iter_mut().for_each(|mount| match &mut mount.kind {
                        MountKind::Bind { from, .. } | MountKind::Cache { seed: Some(from), .. } => tree(from),
                        MountKind::Cache { seed: None, .. }
                        | MountKind::Tmpfs { .. }
                        | MountKind::Secret { .. }
                        | MountKind::Ssh { .. } => {}
                    }),
                    StepKind::Workdir(_) | StepKind::Metadata => {}
                }
            }
        }
    }
}
