//! One stage: its steps in order, each found in the cache or carried out.

use super::Build;
use super::error::{BuildError, StepError};
use super::key::{CacheKey, Encoder, ParentId};
use super::record::{self, StepRecord};
use super::schedule::{Results, Stopped};
use crate::oci::{ChainId, History, ImageConfig, Layer};
use crate::plan::{Base, PlannedStage, StageIndex, Step, StepKind};
use crate::progress::{Outcome, StepId};

/// What a stage ends as.
#[derive(Debug, Clone)]
pub struct StageResult {
    /// All layers, the base's first.
    pub layers: Vec<Layer>,
    /// The tree by content.
    pub tree: ParentId,
    /// The complete config.
    pub config: ImageConfig,
    /// What made each of the layers that are not an image's, for people.
    pub made_by: Vec<String>,
    /// Layers that no entry of the plan's history stands for: a base that is a directory.
    pub unnamed: usize,
}

/// A stage in progress.
pub(super) struct StageState<'a> {
    /// The stage's plan.
    pub stage: &'a PlannedStage,
    /// Layers so far, the base's first.
    pub layers: Vec<Layer>,
    /// The tree so far, by content.
    pub tree: ParentId,
    /// The image will have the layers of this stage.
    pub shipped: bool,
    /// Nothing is looked up for this stage (what it makes is still recorded).
    pub no_cache: bool,
    /// When each step's result was made, RFC 3339.
    created: Vec<String>,
    /// As in [`StageResult`].
    made_by: Vec<String>,
    unnamed: usize,
}

impl StageState<'_> {
    /// Puts the layer of a step, if it made one, on top.
    fn push(&mut self, layer: Option<Layer>, made_by: &str) {
        let Some(layer) = layer else { return };
        // Layers of our own always have a content digest; `record::find` takes no other.
        if let Some(content) = &layer.content {
            self.tree = self.tree.push(content);
        }
        self.layers.push(layer);
        self.made_by.push(made_by.to_string());
    }
}

impl Build<'_> {
    /// Runs all steps of a stage.
    pub(super) fn run_stage(
        &self,
        index: StageIndex,
        results: &Results<StageResult>,
    ) -> Result<StageResult, Stopped<BuildError>> {
        let stage = &self.plan.stages[index.0];
        let mut state = self.start(stage, self.ships(index), results)?;
        for step in &stage.steps {
            if results.is_cancelled() {
                return Err(Stopped::Cancelled);
            }
            self.run_step(&mut state, step, results)?;
        }
        Ok(self.finish(state))
    }

    /// Whether a target is built on this stage, or is it.
    fn ships(&self, index: StageIndex) -> bool {
        self.plan.targets.iter().any(|target| {
            let mut next = Some(*target);
            while let Some(stage) = next.filter(|stage| *stage != index) {
                next = match self.plan.stages[stage.0].base {
                    Base::Stage(below) => Some(below),
                    _ => None,
                };
            }
            next.is_some()
        })
    }

    fn start<'a>(
        &self,
        stage: &'a PlannedStage,
        shipped: bool,
        results: &Results<StageResult>,
    ) -> Result<StageState<'a>, Stopped<BuildError>> {
        let named = |name: &String| self.options.no_cache_stages.iter().any(|stage| stage.eq_ignore_ascii_case(name));
        let mut state = StageState {
            stage,
            shipped,
            no_cache: self.options.no_cache || stage.name.as_ref().is_some_and(named),
            layers: Vec::new(),
            tree: ParentId::base(None),
            created: Vec::new(),
            made_by: Vec::new(),
            unnamed: 0,
        };
        match &stage.base {
            Base::Scratch => {}
            Base::Stage(base) => {
                let base = results.wait(*base)?;
                (state.layers, state.tree) = (base.layers.clone(), base.tree.clone());
                (state.made_by, state.unnamed) = (base.made_by.clone(), base.unnamed);
            }
            Base::Image(image) => {
                let resolved = self.image(image);
                let chain = ChainId::of(resolved.layers.iter().map(|layer| &layer.diff_id));
                (state.layers, state.tree) = (resolved.layers.clone(), ParentId::base(chain.as_ref()));
            }
            Base::Context(name) => {
                let text = format!("[internal] FROM {name}");
                let layer = self.report(&text, Some(stage.span.line), |_| self.context_layer(name, &state));
                let failed = |source| BuildError::Step { text: text.clone(), span: stage.span, source };
                state.push(layer.map_err(failed).map_err(Stopped::Error)?.layer, &text);
                state.unnamed = 1;
            }
        }
        if let Some(text) = stage.describe_base() {
            // Resolved while the plan was made; its layers come when somebody reads them.
            let shown = self.report(&text, Some(stage.span.line), |_| Ok(((), Outcome::Done)));
            shown.map_err(|source| Stopped::Error(BuildError::Step { text, span: stage.span, source }))?;
        }
        Ok(state)
    }

    fn run_step(
        &self,
        state: &mut StageState,
        step: &Step,
        results: &Results<StageResult>,
    ) -> Result<(), Stopped<BuildError>> {
        let text = state.stage.describe(step);
        let failed = |source| BuildError::Step { text: text.clone(), span: step.span, source };
        let record = if step.kind == StepKind::Metadata {
            self.metadata(state, step).map_err(failed)
        } else {
            self.await_sources(&step.kind, results)?;
            self.report(&text, Some(step.span.line), |id| self.layer_step(state, step, results, id)).map_err(failed)
        };
        let record = record.map_err(Stopped::Error)?;
        state.push(record.layer, &text);
        state.created.push(record.created);
        Ok(())
    }

    /// An instruction that changes the config alone: its time is remembered, so that the same build gives the same image.
    fn metadata(&self, state: &StageState, step: &Step) -> Result<StepRecord, StepError> {
        let mut key = self.encoder("metadata", state);
        key.field("history", step.history.created_by.as_deref().unwrap_or_default());
        let key = key.finish();
        let (record, _) = self.flights.once(&key, || match self.cached(state, &key)? {
            Some(record) => Ok::<_, StepError>(record),
            None => self.remember(&key, None),
        })?;
        Ok(record)
    }

    /// An instruction that makes a layer.
    fn layer_step(
        &self,
        state: &StageState,
        step: &Step,
        results: &Results<StageResult>,
        id: StepId,
    ) -> Result<(StepRecord, Outcome), StepError> {
        match &step.kind {
            StepKind::Run(run) => self.run(state, run, results, id),
            StepKind::Copy(copy) => self.copy(state, copy, results),
            StepKind::Workdir(workdir) => self.workdir(state, workdir),
            StepKind::Metadata => self.metadata(state, step).map(|record| (record, Outcome::Done)),
        }
    }

    /// Starts the key of a step: what every key holds.
    pub(super) fn encoder(&self, kind: &str, state: &StageState) -> Encoder {
        let mut encoder = Encoder::new(kind);
        encoder.field("parent", state.tree.to_string());
        encoder.field("epoch", self.epoch.map(|epoch| epoch.to_string()).unwrap_or_default());
        encoder.field("clamp", self.clamp.map(|clamp| clamp.to_string()).unwrap_or_default());
        encoder
    }

    /// The record of `key`, unless the build was asked to look nothing up.
    pub(super) fn cached(&self, state: &StageState, key: &CacheKey) -> Result<Option<StepRecord>, StepError> {
        if state.no_cache {
            return Ok(None);
        }
        Ok(record::find(&self.services.store, key)?)
    }

    /// Remembers a result under `key`.
    pub(super) fn remember(&self, key: &CacheKey, layer: Option<Layer>) -> Result<StepRecord, StepError> {
        let record = StepRecord { created: self.now(), layer };
        record::save(&self.services.store, key, &record)?;
        Ok(record)
    }

    /// Puts the times into the config and its layers beside it.
    fn finish(&self, state: StageState) -> StageResult {
        let mut config = state.stage.config.clone();
        config.rootfs.diff_ids = state.layers.iter().map(|layer| layer.diff_id.clone()).collect();
        let own = config.history.len() - state.created.len();
        for (history, created) in config.history[own..].iter_mut().zip(&state.created) {
            history.created = Some(created.clone());
        }
        let newest = config.history.iter().filter_map(|history| history.created.clone()).next_back();
        config.created = Some(newest.unwrap_or_else(|| self.now()));
        // An image has as many entries with a layer as layers. BuildKit puts what is missing at the end, in the words of
        // the last layers; the entries of a stage that this one is based on lack the same number.
        let first = state.made_by.len().saturating_sub(state.unnamed);
        config.history.extend(state.made_by[first..].iter().map(|text| History {
            created: config.created.clone(),
            created_by: Some(text.clone()),
            comment: Some("buildkit.exporter.image.v0".into()),
            ..History::default()
        }));
        let StageState { layers, tree, made_by, unnamed, .. } = state;
        StageResult { layers, tree, config, made_by, unnamed }
    }
}
