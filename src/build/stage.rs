//! One stage: its steps in order, each found in the cache or carried out.

use super::Build;
use super::cache::document::KnownSelection;
use super::cache::makings::Makings;
use super::cache::selections::source_of;
use super::error::{BuildError, StepError};
use super::key::{CacheKey, Encoder, ParentId};
use super::record::{self, Sight, StepRecord};
use super::schedule::{Results, Stopped};
use crate::oci::{ChainId, Digest, History, ImageConfig, Layer};
use crate::plan::{Base, Mount, PlannedStage, StageIndex, Step, StepKind, TreeSource};
use crate::progress::{Outcome, StepId};
use std::sync::atomic::Ordering;

/// Where a record of the local store says that it was found.
const LOCAL: &str = "local";

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
    /// The steps that made it, those of the stages that it is built on too.
    pub steps: Vec<MadeStep>,
    /// What those select in trees that they do not need.
    pub selections: Vec<KnownSelection>,
    /// Cache mounts of its own steps.
    pub mounts: Vec<Digest>,
}

/// A step with what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeStep {
    /// Digest of its key.
    pub key: Digest,
    /// Its result.
    pub record: StepRecord,
    /// Its key depends on what a command did in a stage that the image does not have: of two builds of one input the keys
    /// may differ although the images are the same.
    pub wanders: bool,
    /// What it was made of; nothing is kept of an instruction that changes the config alone.
    pub makings: Option<Makings>,
}

/// The result of a step, and its key.
#[derive(Debug)]
pub struct Made {
    /// The key.
    pub key: CacheKey,
    /// The result.
    pub record: StepRecord,
    /// As in [`MadeStep`].
    pub makings: Option<Makings>,
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
    steps: Vec<MadeStep>,
    selections: Vec<KnownSelection>,
}

impl StageState<'_> {
    /// How many steps are done.
    pub fn done(&self) -> usize {
        self.created.len()
    }

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

    /// The step that `made` is of is done; `None` where it is none of the Dockerfile's.
    fn done_with(&mut self, made: Made, step: Option<&StepKind>, text: &str) {
        let Made { key, record, makings } = made;
        self.push(record.layer.clone(), text);
        if step.is_some() {
            self.created.push(record.created.clone());
        }
        let wanders = step.is_some_and(mounts_whole_stage);
        self.steps.push(MadeStep { key: key.digest().clone(), record, wanders, makings });
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
        let failed = |source| {
            let (text, span) = (format!("FROM ({})", stage.label), stage.span);
            Stopped::Error(BuildError::Step { text, span, source })
        };
        state.selections.extend(self.selections_of(stage, results).map_err(failed)?);
        let mut result = self.finish(state);
        for step in &stage.steps {
            if let StepKind::Run(run) = &step.kind {
                result.mounts.extend(self.cache_keys(run, results).map_err(failed)?);
            }
        }
        if !self.bears_out(index, &result).map_err(failed)? {
            self.starts_over.store(true, Ordering::SeqCst);
            return Err(Stopped::Cancelled);
        }
        Ok(result)
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
            steps: Vec::new(),
            selections: Vec::new(),
        };
        match &stage.base {
            Base::Scratch => {}
            Base::Stage(base) => {
                let base = results.wait(*base)?;
                (state.layers, state.tree) = (base.layers.clone(), base.tree.clone());
                (state.made_by, state.unnamed) = (base.made_by.clone(), base.unnamed);
                (state.steps, state.selections) = (base.steps.clone(), base.selections.clone());
            }
            Base::Image(image) => {
                let resolved = self.image(image);
                let chain = ChainId::of(resolved.layers.iter().map(|layer| &layer.diff_id));
                (state.layers, state.tree) = (resolved.layers.clone(), ParentId::base(chain.as_ref()));
            }
            Base::Context(name) => {
                let text = format!("[internal] FROM {name}");
                let work = |id| self.context_layer(name, &state, results, id);
                let made = self.report(&text, Some(stage.span.line), work);
                let failed = |source| BuildError::Step { text: text.clone(), span: stage.span, source };
                state.done_with(made.map_err(failed).map_err(Stopped::Error)?, None, &text);
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
        let made = if step.kind == StepKind::Metadata {
            self.metadata(state, step)
        } else {
            self.await_sources(state, &step.kind, results)?;
            self.report(&text, Some(step.span.line), |id| self.layer_step(state, step, results, id))
        };
        match made {
            Ok(made) => state.done_with(made, Some(&step.kind), &text),
            // That one's error is reported.
            Err(StepError::StageFailed { .. }) => return Err(Stopped::Cancelled),
            // Nothing failed that will not be tried again.
            Err(_) if self.starts_over.load(Ordering::SeqCst) => return Err(Stopped::Cancelled),
            Err(source) => return Err(Stopped::Error(failed(source))),
        }
        Ok(())
    }

    /// An instruction that changes the config alone: its time is remembered, so that the same build gives the same image.
    fn metadata(&self, state: &StageState, step: &Step) -> Result<Made, StepError> {
        let mut key = self.encoder("metadata", state);
        key.field("history", step.history.created_by.as_deref().unwrap_or_default());
        let key = key.finish();
        let (record, _) = self.flights.once(&key, || match self.cached(state, &key)? {
            Some((record, _)) => Ok::<_, StepError>(record),
            None => self.remember(&key, None, None),
        })?;
        Ok(Made { key, record, makings: None })
    }

    /// An instruction that makes a layer.
    fn layer_step(
        &self,
        state: &StageState,
        step: &Step,
        results: &Results<StageResult>,
        id: StepId,
    ) -> Result<(Made, Outcome), StepError> {
        match &step.kind {
            StepKind::Run(run) => self.run(state, run, results, id),
            StepKind::Copy(copy) => self.copy(state, copy, results, id),
            StepKind::Workdir(workdir) => self.workdir(state, workdir, results, id),
            StepKind::Metadata => self.metadata(state, step).map(|made| (made, Outcome::Done)),
        }
    }

    /// Starts the key of a step: what every key holds.
    pub(super) fn encoder(&self, kind: &str, state: &StageState) -> Encoder {
        let mut encoder = Encoder::new(kind);
        encoder.field("parent", state.tree.to_string());
        if let Base::Image(image) = &state.stage.base {
            encoder.note("base", [image.pinned()]);
        }
        encoder.field("epoch", self.epoch.map(|epoch| epoch.to_string()).unwrap_or_default());
        encoder.field("clamp", self.clamp.map(|clamp| clamp.to_string()).unwrap_or_default());
        encoder
    }

    /// The record of `key` and where it was found, unless the build was asked to look nothing up.
    pub(super) fn cached(&self, state: &StageState, key: &CacheKey) -> Result<Option<(StepRecord, String)>, StepError> {
        if state.no_cache {
            return Ok(None);
        }
        if let Some(record) = record::find(&self.services.store, key)? {
            return Ok(Some((record, LOCAL.to_string())));
        }
        self.imported(key)
    }

    /// Remembers a result under `key`.
    pub(super) fn remember(
        &self,
        key: &CacheKey,
        layer: Option<Layer>,
        saw: Option<Sight>,
    ) -> Result<StepRecord, StepError> {
        self.made.store(true, Ordering::SeqCst);
        let record = StepRecord { created: self.now(), layer, saw };
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
        let StageState { layers, tree, made_by, unnamed, steps, selections, .. } = state;
        StageResult { layers, tree, config, made_by, unnamed, steps, selections, mounts: Vec::new() }
    }
}

/// Whether a step's key holds the id of a whole stage's tree.
fn mounts_whole_stage(step: &StepKind) -> bool {
    let StepKind::Run(run) = step else { return false };
    let whole = |mount: &Mount| matches!(mount.tree(), Some(TreeSource::Stage(_))) && source_of(mount) == "/";
    run.mounts.iter().any(whole)
}
