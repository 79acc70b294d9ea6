//! What is selected in trees of layers, known without the trees.
//!
//! The key of a COPY from a stage holds a digest of the files that it selects there, for which the stage must have been
//! built. So what was selected once is remembered under the stage's *definition*: a digest of all that the stage is made
//! from, of which nothing has to be run. A stage whose definition is known, and of which nobody reads more than was selected
//! before, is not looked at. The same holds for images, by their ChainID.
//!
//! A command need not give the same result twice. Where a selection was taken from memory and the stage is built after all,
//! for another step, the two are compared; if they differ, all stages begin anew without such memories
//! ([`Build::run_all`]), so that an image never holds parts of two results of one stage.

use super::document::KnownSelection;
use crate::build::Build;
use crate::build::copy::{self, CopyRequest, Files, Heredoc};
use crate::build::error::StepError;
use crate::build::key::{Encoder, ParentId};
use crate::build::schedule::Results;
use crate::build::stage::StageResult;
use crate::context::SourceTree;
use crate::oci::{ChainId, Digest};
use crate::plan::{Base, CopyStep, Mount, PlannedStage, StageIndex, Step, StepKind, TreeSource};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Bucket of the store: what was selected, by tree and selection.
const BUCKET: &str = "stage-selections";

/// How trees that a step reads are named in what is encoded of it.
#[derive(Clone, Copy)]
pub(in crate::build) enum Naming<'r> {
    /// By what is in them, for a key.
    Content(&'r Results<StageResult>),
    /// By what they are made from, for a definition.
    Definition,
}

/// A COPY or ADD with what its sources are called, and the trees of those that are elsewhere.
pub(in crate::build) struct CopyInputs {
    pub step: CopyStep,
    pub sources: Vec<String>,
    pub remotes: Vec<Arc<dyn SourceTree>>,
    /// What it selects, where that is in a context, which does not change meanwhile.
    selected: OnceLock<(String, Files)>,
}

impl CopyInputs {
    pub fn new(step: &CopyStep, sources: Vec<String>, remotes: Vec<Arc<dyn SourceTree>>) -> Self {
        CopyInputs { step: step.clone(), sources, remotes, selected: OnceLock::new() }
    }

    /// Whether it reads a tree of layers, which need not be there where what it selects is known.
    pub fn of_layers(&self) -> bool {
        matches!(self.step.from, TreeSource::Stage(_) | TreeSource::Image(_)) && self.remotes.is_empty()
    }

    /// Its here-documents.
    pub fn heredocs(&self) -> Vec<Heredoc<'_>> {
        let files = self.step.heredocs.iter();
        files.map(|file| Heredoc { name: &file.name, body: file.content.as_bytes() }).collect()
    }

    /// What `copy` is asked for.
    pub fn request<'a>(&'a self, heredocs: &'a [Heredoc<'a>], created_mtime: i64) -> CopyRequest<'a> {
        let step = &self.step;
        CopyRequest {
            sources: &self.sources,
            heredocs,
            dest: &step.dest,
            workdir: "/",
            chown: step.chown.as_deref(),
            chmod: step.chmod.as_deref(),
            exclude: &step.exclude,
            parents: step.parents,
            link: step.link,
            is_add: step.add.is_some(),
            unpack: step.add.as_ref().and_then(|add| add.unpack),
            created_mtime,
        }
    }

    /// Puts all of it but the parent into `key`; `selection` stands for the files.
    pub fn encode(&self, key: &mut Encoder, selection: &str) {
        let step = &self.step;
        key.field("selection", selection);
        key.list("sources", &self.sources);
        key.list("heredocs", step.heredocs.iter().flat_map(|file| [&file.name, &file.content]));
        key.field("dest", &step.dest);
        key.list("chown", &step.chown);
        key.list("chmod", &step.chmod);
        key.list("exclude", &step.exclude);
        key.field("flags", [step.parents, step.link].map(u8::from));
        let unpack = step.add.as_ref().and_then(|add| add.unpack);
        key.list("unpack", unpack.map(|unpack| [u8::from(unpack)]));
    }
}

/// What is selected in a tree.
#[derive(Clone)]
pub(in crate::build) enum Selected {
    /// The sources of a COPY.
    Copy(Arc<CopyInputs>),
    /// What a mount shows.
    Mount(String),
}

/// What a build has taken from memory about its stages.
#[derive(Default)]
pub(in crate::build) struct Memory {
    definitions: Mutex<HashMap<StageIndex, Option<Digest>>>,
    /// By the address of the step in the plan.
    copies: Mutex<HashMap<usize, Arc<CopyInputs>>>,
    assumed: Mutex<Assumed>,
}

#[derive(Default)]
struct Assumed {
    built: HashSet<StageIndex>,
    selections: HashMap<StageIndex, Vec<(Selected, String)>>,
}

impl Memory {
    /// Takes `selected` for what the stage has there; false where the stage itself can be asked.
    fn assume(&self, stage: StageIndex, what: &Selected, selected: &str) -> bool {
        let mut assumed = self.assumed.lock().unwrap_or_else(PoisonError::into_inner);
        if assumed.built.contains(&stage) {
            return false;
        }
        assumed.selections.entry(stage).or_default().push((what.clone(), selected.to_string()));
        true
    }

    /// The stage is built: nothing more is assumed of it. What was, comes back.
    fn built(&self, stage: StageIndex) -> Vec<(Selected, String)> {
        let mut assumed = self.assumed.lock().unwrap_or_else(PoisonError::into_inner);
        assumed.built.insert(stage);
        assumed.selections.remove(&stage).unwrap_or_default()
    }

    /// Forgets what belongs to one try.
    pub fn start_over(&self) {
        *self.assumed.lock().unwrap_or_else(PoisonError::into_inner) = Assumed::default();
    }
}

impl Build<'_> {
    /// The sources of a COPY or ADD; what is elsewhere is fetched once.
    pub(in crate::build) fn copy_inputs(&self, step: &CopyStep) -> Result<Arc<CopyInputs>, StepError> {
        let known = || self.memory.copies.lock().unwrap_or_else(PoisonError::into_inner);
        let address = std::ptr::from_ref(step) as usize;
        if let Some(inputs) = known().get(&address) {
            return Ok(Arc::clone(inputs));
        }
        let (sources, remotes) = self.sources(step)?;
        let inputs = Arc::new(CopyInputs::new(step, sources, remotes));
        Ok(Arc::clone(known().entry(address).or_insert(inputs)))
    }

    /// What stands for the files of a COPY or ADD in its key, and the files, where they were looked at.
    pub(in crate::build) fn copied(
        &self,
        inputs: &Arc<CopyInputs>,
        naming: Naming<'_>,
    ) -> Result<(String, Option<Files>), StepError> {
        let (from, layers) = (&inputs.step.from, inputs.of_layers());
        match naming {
            Naming::Content(results) if layers => self.selected(from, &Selected::Copy(Arc::clone(inputs)), results),
            Naming::Definition if layers => Ok((self.tree_definition(from)?, None)),
            _ => {
                if let Some((selection, files)) = inputs.selected.get() {
                    return Ok((selection.clone(), Some(files.clone())));
                }
                let heredocs = inputs.heredocs();
                let source = self.copy_source(inputs, None)?;
                let (selection, files) = copy::selection(&inputs.request(&heredocs, 0), &*source)?;
                let (selection, files) = inputs.selected.get_or_init(|| (selection.to_string(), files));
                Ok((selection.clone(), Some(files.clone())))
            }
        }
    }

    /// What stands for a selection in a tree of layers: remembered, or looked up in the tree.
    pub(in crate::build) fn selected(
        &self,
        from: &TreeSource,
        what: &Selected,
        results: &Results<StageResult>,
    ) -> Result<(String, Option<Files>), StepError> {
        let key = self.selection_key(from, what);
        if let Some(key) = &key
            && let Some(known) = self.remembered(key)?
            && self.may_assume(from, what, &known, results)
        {
            self.services.store.put_record(BUCKET, key, known.as_bytes())?;
            return Ok((known, None));
        }
        let layers = self.layers_of(from, results)?;
        let (selected, files) = self.look_up(&layers, what)?;
        if let Some(key) = key {
            self.services.store.put_record(BUCKET, &key, selected.as_bytes())?;
        }
        Ok((selected, files))
    }

    fn may_assume(&self, from: &TreeSource, what: &Selected, known: &str, results: &Results<StageResult>) -> bool {
        match from {
            TreeSource::Stage(stage) => results.get(*stage).is_none() && self.memory.assume(*stage, what, known),
            _ => true,
        }
    }

    fn remembered(&self, key: &Digest) -> Result<Option<String>, StepError> {
        if !self.remembers {
            return Ok(None);
        }
        Ok(self.recorded(key)?.or_else(|| self.imports.selection(key)))
    }

    fn recorded(&self, key: &Digest) -> Result<Option<String>, StepError> {
        Ok(self.services.store.record(BUCKET, key)?.and_then(|bytes| String::from_utf8(bytes).ok()))
    }

    /// Whether all that `step` reads of stages is known or there, so that none need be built for its key.
    pub(in crate::build) fn can_be_keyed(&self, step: &StepKind, results: &Results<StageResult>) -> bool {
        let known = |from: &TreeSource, what: &Selected| {
            let TreeSource::Stage(stage) = from else { return true };
            let key = || self.selection_key(from, what);
            results.get(*stage).is_some() || key().is_some_and(|key| matches!(self.remembered(&key), Ok(Some(_))))
        };
        match step {
            StepKind::Copy(copy) => match (&copy.from, self.copy_inputs(copy)) {
                (from, Ok(inputs)) => known(from, &Selected::Copy(inputs)),
                _ => false,
            },
            StepKind::Run(run) => run.mounts.iter().all(|mount| match mount.tree() {
                Some(from) => known(from, &Selected::Mount(source_of(mount).to_string())),
                None => true,
            }),
            StepKind::Workdir(_) | StepKind::Metadata => true,
        }
    }

    /// What a selection is remembered under; `None` where the stage's definition cannot be told.
    fn selection_key(&self, from: &TreeSource, what: &Selected) -> Option<Digest> {
        let mut key = Encoder::new("selection");
        key.field("tree", self.tree_definition(from).ok()?);
        match what {
            Selected::Copy(inputs) => {
                let step = &inputs.step;
                key.list("sources", &inputs.sources);
                key.list("heredocs", step.heredocs.iter().flat_map(|file| [&file.name, &file.content]));
                key.list("exclude", &step.exclude);
                key.field("flags", [step.parents, step.add.is_some()].map(u8::from));
            }
            Selected::Mount(source) => key.field("mount", source),
        }
        Some(key.finish().digest().clone())
    }

    /// Looks at a tree.
    fn look_up(&self, layers: &TreeOf, what: &Selected) -> Result<(String, Option<Files>), StepError> {
        match what {
            // A whole tree is not read for its digest: its layers' digests say the same.
            Selected::Mount(source) if source == "/" => Ok((layers.id.to_string(), None)),
            Selected::Mount(source) => Ok((self.mount_digest(&*self.look(&layers.layers)?, source)?, None)),
            Selected::Copy(inputs) => {
                let heredocs = inputs.heredocs();
                let tree = self.look(&layers.layers)?;
                let (selection, files) = copy::selection(&inputs.request(&heredocs, 0), &*tree)?;
                Ok((selection.to_string(), Some(files)))
            }
        }
    }

    /// A stage's result has come: whether what was taken from memory about it is so.
    pub(in crate::build) fn bears_out(&self, stage: StageIndex, result: &StageResult) -> Result<bool, StepError> {
        let layers = TreeOf { layers: result.layers.clone(), id: result.tree.clone() };
        for (what, assumed) in self.memory.built(stage) {
            match self.look_up(&layers, &what) {
                Ok((selected, _)) if selected == assumed => {}
                // It has something else there now, or nothing.
                Ok(_) | Err(StepError::Copy(_)) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// What the steps of a stage select in trees that they do not need.
    pub(in crate::build) fn selections_of(
        &self,
        stage: &PlannedStage,
        results: &Results<StageResult>,
    ) -> Result<Vec<KnownSelection>, StepError> {
        let mut wanted: Vec<(&TreeSource, Selected)> = Vec::new();
        for Step { kind, .. } in &stage.steps {
            match kind {
                StepKind::Copy(copy) => wanted.push((&copy.from, Selected::Copy(self.copy_inputs(copy)?))),
                StepKind::Run(run) => {
                    let trees = run.mounts.iter().filter_map(|mount| Some((mount.tree()?, source_of(mount))));
                    wanted.extend(trees.map(|(from, source)| (from, Selected::Mount(source.to_string()))));
                }
                StepKind::Workdir(_) | StepKind::Metadata => {}
            }
        }
        let mut found: Vec<KnownSelection> = Vec::new();
        for (from, what) in wanted {
            let layers = matches!(from, TreeSource::Stage(_) | TreeSource::Image(_));
            let Some(key) = self.selection_key(from, &what).filter(|_| layers) else { continue };
            // It was written there when the step was looked up, or made, in this build.
            if let Some(selected) = self.recorded(&key)?
                && found.iter().all(|known| known.key != key)
            {
                let made = match from {
                    TreeSource::Stage(stage) => results.get(*stage),
                    _ => None,
                };
                let steps = made.iter().flat_map(|made| {
                    let below = made.selections.iter().flat_map(|selection| selection.steps.iter().cloned());
                    made.steps.iter().map(|step| step.key.clone()).chain(below)
                });
                found.push(KnownSelection { key, selected, used: None, steps: steps.collect() });
            }
        }
        Ok(found)
    }

    fn layers_of(&self, from: &TreeSource, results: &Results<StageResult>) -> Result<TreeOf, StepError> {
        Ok(match from {
            TreeSource::Stage(stage) => {
                let result = self.stage_result(*stage, results)?;
                TreeOf { layers: result.layers.clone(), id: result.tree.clone() }
            }
            TreeSource::Image(image) => {
                let layers = self.image(image).layers.clone();
                let chain = ChainId::of(layers.iter().map(|layer| &layer.diff_id));
                TreeOf { id: ParentId::base(chain.as_ref()), layers }
            }
            _ => TreeOf { layers: Vec::new(), id: ParentId::base(None) },
        })
    }

    /// A tree by what it is made from.
    pub(in crate::build) fn tree_definition(&self, from: &TreeSource) -> Result<String, StepError> {
        Ok(match from {
            TreeSource::Stage(stage) => match self.definition(*stage) {
                Some(definition) => format!("stage {definition}"),
                None => return Err(StepError::StageFailed { name: self.plan.stages[stage.0].label.clone() }),
            },
            TreeSource::Image(image) => {
                let chain = ChainId::of(self.image(image).layers.iter().map(|layer| &layer.diff_id));
                ParentId::base(chain.as_ref()).to_string()
            }
            _ => ParentId::base(None).to_string(),
        })
    }

    /// All that a stage is made from, as one digest; `None` where that cannot be told, of which its steps will say more.
    fn definition(&self, stage: StageIndex) -> Option<Digest> {
        let known = || self.memory.definitions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known().get(&stage) {
            return known.clone();
        }
        let definition = self.define(stage).ok();
        known().insert(stage, definition.clone());
        definition
    }

    fn define(&self, index: StageIndex) -> Result<Digest, StepError> {
        let stage = &self.plan.stages[index.0];
        let mut key = Encoder::new("stage");
        key.field("platform", stage.platform.to_string());
        key.field("times", format!("{:?} {:?}", self.epoch, self.clamp));
        let base = match &stage.base {
            Base::Scratch => self.tree_definition(&TreeSource::Scratch)?,
            Base::Stage(base) => self.tree_definition(&TreeSource::Stage(*base))?,
            Base::Image(image) => self.tree_definition(&TreeSource::Image(image.clone()))?,
            Base::Context(name) => self.context_selection(name)?,
        };
        key.field("base", base);
        for Step { kind, .. } in &stage.steps {
            match kind {
                StepKind::Run(run) => {
                    key.field("step", "run");
                    self.encode_run(&mut key, stage, run, Naming::Definition)?;
                }
                StepKind::Copy(copy) => {
                    key.field("step", "copy");
                    let inputs = self.copy_inputs(copy)?;
                    let (selection, _) = self.copied(&inputs, Naming::Definition)?;
                    inputs.encode(&mut key, &selection);
                }
                StepKind::Workdir(workdir) => {
                    key.field("step", "workdir");
                    key.field("path", &workdir.path);
                    key.field("user", &workdir.user);
                }
                // What it changes in the config is in the steps after it; of the tree it changes nothing.
                StepKind::Metadata => {}
            }
        }
        Ok(key.finish().digest().clone())
    }
}

/// A tree of layers.
struct TreeOf {
    layers: Vec<crate::oci::Layer>,
    id: ParentId,
}

/// What a mount shows of its tree.
pub(in crate::build) fn source_of(mount: &Mount) -> &str {
    use crate::plan::MountKind;
    match &mount.kind {
        MountKind::Bind { source, .. } | MountKind::Cache { source, .. } => source,
        MountKind::Tmpfs { .. } | MountKind::Secret { .. } | MountKind::Ssh { .. } => "/",
    }
}
