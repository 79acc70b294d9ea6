//! COPY, ADD and WORKDIR: written straight into a layer, with no command and no mount.

use super::Build;
use super::cache::selections::{CopyInputs, Naming};
use super::copy::{self, Changes, CopyRequest, WithRemotes, remote_path};
use super::error::{BuildError, StepError};
use super::explain::Selection;
use super::inputs::NamedTree;
use super::key::ParentId;
use super::known;
use super::record::Sight;
use super::remote;
use super::schedule::{Results, Stopped};
use super::stage::{Made, StageResult, StageState};
use crate::context::{EmptyTree, SourceTree};
use crate::oci::Layer;
use crate::oci::layer::Metadata;
use crate::plan::{CopySource, CopyStep, Mount, StageIndex, StepKind, TreeSource, WorkdirStep};
use crate::progress::{Event, Outcome, StepId};
use crate::rootfs::{
    Compression, GlimpsedTree, Ground, LayerError, LayerOptions, LayerWriter, Watched, make_list, unlisted,
};
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

impl Build<'_> {
    /// Waits for the stages that a step reads, so that a failure of theirs is not taken for the step's; not where what it
    /// reads there is known.
    pub(super) fn await_sources(
        &self,
        state: &StageState,
        step: &StepKind,
        results: &Results<StageResult>,
    ) -> Result<(), Stopped<BuildError>> {
        if self.can_be_keyed(step, results) {
            return Ok(());
        }
        self.want_rest(state, results);
        for stage in stages_of(step) {
            results.wait(stage)?;
        }
        Ok(())
    }

    /// Lets the stages begin that the rest of this one reads: so they are built at the same time.
    pub(super) fn want_rest(&self, state: &StageState, results: &Results<StageResult>) {
        let rest = &state.stage.steps[state.done()..];
        rest.iter().flat_map(|step| stages_of(&step.kind)).for_each(|stage| results.want(stage));
    }

    /// COPY and ADD.
    pub(super) fn copy(
        &self,
        state: &StageState,
        step: &CopyStep,
        results: &Results<StageResult>,
        id: StepId,
    ) -> Result<(Made, Outcome), StepError> {
        let inputs = self.copy_inputs(step)?;
        let mut key = self.encoder(if step.add.is_some() { "add" } else { "copy" }, state);
        let (selection, files) = self.copied(&inputs, Naming::Content(results))?;
        inputs.encode(&mut key, &selection);
        let files = files.as_ref().map(|files| Selection { files, steady: !inputs.of_layers() });
        self.cached_or(state, key, files, results, id, || {
            let heredocs = inputs.heredocs();
            let source = self.copy_source(&inputs, Some(results))?;
            let ground = self.ground(&state.layers)?;
            let dest = Watched::new(&ground);
            let spool = self.services.store.temp_dir()?;
            let changes = copy::copy(&inputs.request(&heredocs, self.now_seconds()), &*source, &dest, spool.path())?;
            let saw = self.seen(state, dest)?;
            Ok((self.write(state, &changes, &*source, ground.tree())?, saw))
        })
    }

    /// The tree that a COPY or ADD reads; `results` may be left out where that is no stage's.
    pub(super) fn copy_source<'s>(
        &'s self,
        inputs: &CopyInputs,
        results: Option<&Results<StageResult>>,
    ) -> Result<Arc<dyn SourceTree + 's>, StepError> {
        let main = self.tree(&inputs.step.from, results)?;
        if inputs.remotes.is_empty() {
            return Ok(main);
        }
        Ok(Arc::new(WithRemotes { main, remotes: inputs.remotes.clone() }))
    }

    /// WORKDIR: the directory and whatever is missing above it, owned by the user of that time.
    pub(super) fn workdir(
        &self,
        state: &StageState,
        step: &WorkdirStep,
        results: &Results<StageResult>,
        id: StepId,
    ) -> Result<(Made, Outcome), StepError> {
        let mut key = self.encoder("workdir", state);
        key.field("path", &step.path);
        key.field("user", &step.user);
        self.cached_or(state, key, None, results, id, || {
            let ground = self.ground(&state.layers)?;
            let dest = Watched::new(&ground);
            let changes = copy::make_directory(&step.path, &step.user, &dest, self.now_seconds())?;
            let saw = self.seen(state, dest)?;
            Ok((self.write(state, &changes, &EmptyTree, ground.tree())?, saw))
        })
    }

    /// Writes changes as a layer into the store; one that was written before is not compressed again.
    fn write(
        &self,
        state: &StageState,
        changes: &Changes,
        source: &dyn SourceTree,
        dest: &dyn SourceTree,
    ) -> Result<Layer, StepError> {
        let (store, options) = (&self.services.store, self.layer_options());
        let shape = known::shape(changes, options);
        let before = shape.as_ref().map(|shape| known::find(store, shape)).transpose()?.flatten();
        if let Some(before) = before {
            let hashed = LayerOptions { compression: Compression::none(), ..options };
            let mut writer = LayerWriter::new(io::sink(), hashed);
            append(&mut writer, changes, source, dest)?;
            let (_, diff_id, _) = writer.finish_into()?;
            if diff_id == before.diff_id {
                let text = format!("layer {} was written before: it is not compressed again", before.diff_id);
                self.services.progress.emit(Event::Note { id: None, text });
                return Ok(before);
            }
        }
        let mut writer = LayerWriter::new(self.layer_blob(state)?, options);
        append(&mut writer, changes, source, dest)?;
        let layer = writer.finish()?;
        if let Some(shape) = shape {
            known::remember(store, &shape, &layer)?;
        }
        Ok(layer)
    }

    /// The tree of these layers, unpacked only if it is already or somebody reads the bytes of its files.
    pub(super) fn look<'s>(&'s self, layers: &[Layer]) -> Result<Arc<dyn SourceTree + 's>, StepError> {
        self.bring_lists(layers)?;
        let stack = layers.to_vec();
        let unpack = move || self.snapshots.view(&stack, &|layer| self.fetch(layer));
        Ok(self.snapshots.look(layers, &|layer| self.fetch(layer), unpack)?)
    }

    /// The tree of these layers to make a step on. Where not all of it is here, and steps that were made on it elsewhere
    /// told what they saw, that comes first: nothing is fetched that they know.
    fn ground<'s>(&'s self, layers: &[Layer]) -> Result<Ground<'s>, StepError> {
        let store = &self.services.store;
        let missing = unlisted(store, layers)?;
        let Some(last) = layers.iter().rposition(|layer| missing.contains(&layer)) else {
            return Ok(Ground::Whole(self.look(layers)?));
        };
        // What is above was made here.
        for made in last + 1..=layers.len() {
            let glimpses = self.imports.glimpses(&ParentId::of(&layers[..made]));
            if glimpses.is_empty() {
                continue;
            }
            let lists = layers[made..].iter().map(|layer| make_list(store, layer));
            let Some(lists) = lists.collect::<Result<Option<Vec<_>>, _>>()? else { continue };
            let stack = layers.to_vec();
            let whole = move || self.look(&stack).map_err(io::Error::other);
            if let Ok(Some(tree)) = GlimpsedTree::new(&glimpses, &lists, whole) {
                return Ok(Ground::Glimpsed(tree));
            }
        }
        Ok(Ground::Whole(self.look(layers)?))
    }

    /// What a step saw of the tree below.
    fn seen(&self, state: &StageState, dest: Watched<'_, '_>) -> io::Result<Option<Sight>> {
        let glimpse = dest.glimpse()?.map(|glimpse| match self.clamp {
            Some(clamp) => glimpse.clamped(clamp),
            None => glimpse,
        });
        Ok(glimpse.map(|glimpse| Sight { of: state.tree.clone(), glimpse }))
    }

    /// The tree that a COPY or a mount reads; `results` may be left out where that is no stage's.
    pub(super) fn tree<'s>(
        &'s self,
        from: &TreeSource,
        results: Option<&Results<StageResult>>,
    ) -> Result<Arc<dyn SourceTree + 's>, StepError> {
        let layers = match from {
            TreeSource::Context => return Ok(self.inputs.context.clone()),
            TreeSource::Scratch => return Ok(Arc::new(EmptyTree)),
            TreeSource::NamedContext(name) => {
                return Ok(self.named_tree(name)?.filtered.clone());
            }
            TreeSource::Image(image) => self.image(image).layers.clone(),
            TreeSource::Stage(stage) => match results {
                Some(results) => self.stage_result(*stage, results)?.layers.clone(),
                None => return Err(StepError::StageFailed { name: self.plan.stages[stage.0].label.clone() }),
            },
        };
        self.look(&layers)
    }

    /// A stage that [`Build::await_sources`] has waited for.
    pub(super) fn stage_result(
        &self,
        stage: StageIndex,
        results: &Results<StageResult>,
    ) -> Result<Arc<StageResult>, StepError> {
        let name = || self.plan.stages[stage.0].label.clone();
        results.wait(stage).map_err(|_| StepError::StageFailed { name: name() })
    }

    fn named_tree(&self, name: &str) -> Result<&NamedTree, StepError> {
        self.inputs.named.get(name).ok_or_else(|| StepError::NamedContext { name: name.to_string() })
    }

    /// `FROM` of a named context that is a tree of files: all of it as one layer.
    pub(super) fn context_layer(
        &self,
        name: &str,
        state: &StageState,
        results: &Results<StageResult>,
        id: StepId,
    ) -> Result<(Made, Outcome), StepError> {
        let tree = self.named_tree(name)?.whole.clone();
        let mut key = self.encoder("context", state);
        key.field("selection", self.context_selection(name)?);
        self.cached_or(state, key, None, results, id, || {
            let spool = self.services.store.temp_dir()?;
            let changes = copy::copy(&whole(&["/".into()], self.now_seconds()), &*tree, &EmptyTree, spool.path())?;
            Ok((self.write(state, &changes, &*tree, &EmptyTree)?, None))
        })
    }

    /// All of a named context, by content.
    pub(super) fn context_selection(&self, name: &str) -> Result<String, StepError> {
        let tree = self.named_tree(name)?.whole.clone();
        Ok(copy::selection_digest(&whole(&["/".into()], 0), &*tree)?.to_string())
    }

    /// The path sources of a COPY or ADD, and the trees that stand beside the context for those that are elsewhere.
    pub(super) fn sources(&self, step: &CopyStep) -> Result<Sources, StepError> {
        let (mut paths, mut remotes) = (Vec::new(), Vec::<Arc<dyn SourceTree>>::new());
        let add = step.add.clone().unwrap_or_default();
        for source in &step.sources {
            match source {
                CopySource::Path(path) => paths.push(path.clone()),
                CopySource::Url(url) => {
                    let (store, http) = (&self.services.store, self.services.registry.http());
                    let tree = remote::file_tree(store, http, url, add.checksum.as_deref())?;
                    paths.push(remote_path(remotes.len(), &tree.name));
                    remotes.push(Arc::new(tree));
                }
                CopySource::Git(url) => {
                    paths.push(remote_path(remotes.len(), ""));
                    remotes.push(Arc::new(remote::git_tree(&self.services.lookup(), url, &add)?));
                }
            }
        }
        Ok((paths, remotes))
    }
}

/// The stages that a step reads.
fn stages_of(step: &StepKind) -> Vec<StageIndex> {
    let trees: Vec<&TreeSource> = match step {
        StepKind::Copy(copy) => vec![&copy.from],
        StepKind::Run(run) => run.mounts.iter().filter_map(Mount::tree).collect(),
        StepKind::Workdir(_) | StepKind::Metadata => Vec::new(),
    };
    let stage = |tree: &TreeSource| match tree {
        TreeSource::Stage(stage) => Some(*stage),
        _ => None,
    };
    trees.into_iter().filter_map(stage).collect()
}

type Sources = (Vec<String>, Vec<Arc<dyn SourceTree>>);

/// All of a tree, copied to the root; `all` is its only source.
fn whole(all: &[String; 1], created_mtime: i64) -> CopyRequest<'_> {
    CopyRequest { sources: all, created_mtime, ..CopyRequest::PLAIN }
}

/// Puts `changes` into a layer.
fn append<W: io::Write>(
    writer: &mut LayerWriter<W>,
    changes: &Changes,
    source: &dyn SourceTree,
    dest: &dyn SourceTree,
) -> Result<(), StepError> {
    let entries: HashMap<&[u8], &Metadata> =
        changes.iter().filter_map(|(path, change)| Some((path, change.entry()?))).collect();
    for (path, change) in changes.iter() {
        match change {
            copy::Change::Entry { meta, data } => {
                let mut data = changes.open(data, source, dest)?;
                writer.append(path, meta, Some(&mut *data))?;
            }
            copy::Change::Hardlink { to } => {
                let target = || LayerError::LinkTarget { path: path.to_vec(), target: to.clone() };
                writer.hardlink(path, to, entries.get(&to[..]).ok_or_else(target)?)?;
            }
            copy::Change::Whiteout => writer.whiteout(path)?,
            copy::Change::Opaque => writer.opaque(path)?,
        }
    }
    Ok(())
}
