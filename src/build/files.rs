//! COPY, ADD and WORKDIR: written straight into a layer, with no command and no mount.

use super::Build;
use super::copy::{self, Changes, CopyRequest, Heredoc, WithRemotes, remote_path};
use super::error::{BuildError, StepError};
use super::inputs::NamedTree;
use super::known;
use super::record::StepRecord;
use super::remote;
use super::schedule::{Results, Stopped};
use super::stage::{StageResult, StageState};
use crate::context::{EmptyTree, SourceTree};
use crate::oci::Layer;
use crate::plan::{CopySource, CopyStep, Mount, StageIndex, StepKind, TreeSource, WorkdirStep};
use crate::progress::{Event, Outcome};
use crate::rootfs::{Compression, LayerOptions, LayerWriter};
use std::io;
use std::sync::Arc;

impl Build<'_> {
    /// Waits for the stages that a step reads, so that a failure of theirs is not taken for the step's.
    pub(super) fn await_sources(
        &self,
        step: &StepKind,
        results: &Results<StageResult>,
    ) -> Result<(), Stopped<BuildError>> {
        let mut trees: Vec<&TreeSource> = Vec::new();
        match step {
            StepKind::Copy(copy) => trees.push(&copy.from),
            StepKind::Run(run) => trees.extend(run.mounts.iter().filter_map(Mount::tree)),
            StepKind::Workdir(_) | StepKind::Metadata => {}
        }
        for tree in trees {
            if let TreeSource::Stage(stage) = tree {
                results.wait(*stage)?;
            }
        }
        Ok(())
    }

    /// COPY and ADD.
    pub(super) fn copy(
        &self,
        state: &StageState,
        step: &CopyStep,
        results: &Results<StageResult>,
    ) -> Result<(StepRecord, Outcome), StepError> {
        let (sources, remotes) = self.sources(step)?;
        let heredocs: Vec<Heredoc> =
            step.heredocs.iter().map(|file| Heredoc { name: &file.name, body: file.content.as_bytes() }).collect();
        let request = CopyRequest {
            sources: &sources,
            heredocs: &heredocs,
            dest: &step.dest,
            workdir: "/",
            chown: step.chown.as_deref(),
            chmod: step.chmod.as_deref(),
            exclude: &step.exclude,
            parents: step.parents,
            link: step.link,
            is_add: step.add.is_some(),
            unpack: step.add.as_ref().and_then(|add| add.unpack),
            created_mtime: self.now_seconds(),
        };
        let mut source = self.tree(&step.from, results)?;
        if !remotes.is_empty() {
            source = Arc::new(WithRemotes { main: source, remotes });
        }
        let mut key = self.encoder(if request.is_add { "add" } else { "copy" }, state);
        key.field("selection", copy::selection_digest(&request, &*source)?.to_string());
        key.list("sources", &sources);
        key.list("heredocs", step.heredocs.iter().flat_map(|file| [&file.name, &file.content]));
        key.field("dest", &step.dest);
        key.list("chown", &step.chown);
        key.list("chmod", &step.chmod);
        key.list("exclude", &step.exclude);
        key.field("flags", [step.parents, step.link].map(u8::from));
        key.list("unpack", request.unpack.map(|unpack| [u8::from(unpack)]));
        self.cached_or(state, &key.finish(), || {
            let dest = self.look(&state.layers)?;
            let spool = self.services.store.temp_dir()?;
            let changes = copy::copy(&request, &*source, &*dest, spool.path())?;
            self.write(state, &changes, &*source, &*dest)
        })
    }

    /// WORKDIR: the directory and whatever is missing above it, owned by the user of that time.
    pub(super) fn workdir(&self, state: &StageState, step: &WorkdirStep) -> Result<(StepRecord, Outcome), StepError> {
        let mut key = self.encoder("workdir", state);
        key.field("path", &step.path);
        key.field("user", &step.user);
        self.cached_or(state, &key.finish(), || {
            let dest = self.look(&state.layers)?;
            let changes = copy::make_directory(&step.path, &step.user, &*dest, self.now_seconds())?;
            self.write(state, &changes, &EmptyTree, &*dest)
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
    fn look<'s>(&'s self, layers: &[Layer]) -> Result<Arc<dyn SourceTree + 's>, StepError> {
        let stack = layers.to_vec();
        let unpack = move || self.snapshots.view(&stack, &|layer| self.fetch(layer));
        Ok(self.snapshots.look(layers, &|layer| self.fetch(layer), unpack)?)
    }

    /// The tree that a COPY or a mount reads.
    pub(super) fn tree<'s>(
        &'s self,
        from: &TreeSource,
        results: &Results<StageResult>,
    ) -> Result<Arc<dyn SourceTree + 's>, StepError> {
        let layers = match from {
            TreeSource::Context => return Ok(self.inputs.context.clone()),
            TreeSource::Scratch => return Ok(Arc::new(EmptyTree)),
            TreeSource::NamedContext(name) => {
                return Ok(self.named_tree(name)?.filtered.clone());
            }
            TreeSource::Image(image) => self.image(image).layers.clone(),
            TreeSource::Stage(stage) => self.stage_result(*stage, results)?.layers.clone(),
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
    pub(super) fn context_layer(&self, name: &str, state: &StageState) -> Result<(StepRecord, Outcome), StepError> {
        let tree = self.named_tree(name)?.whole.clone();
        let sources = ["/".to_string()];
        let request = CopyRequest {
            sources: &sources,
            heredocs: &[],
            dest: "/",
            workdir: "/",
            chown: None,
            chmod: None,
            exclude: &[],
            parents: false,
            link: false,
            is_add: false,
            unpack: None,
            created_mtime: self.now_seconds(),
        };
        let mut key = self.encoder("context", state);
        key.field("selection", copy::selection_digest(&request, &*tree)?.to_string());
        self.cached_or(state, &key.finish(), || {
            let spool = self.services.store.temp_dir()?;
            let changes = copy::copy(&request, &*tree, &EmptyTree, spool.path())?;
            self.write(state, &changes, &*tree, &EmptyTree)
        })
    }

    /// The path sources of a COPY or ADD, and the trees that stand beside the context for those that are elsewhere.
    fn sources(&self, step: &CopyStep) -> Result<Sources, StepError> {
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

type Sources = (Vec<String>, Vec<Arc<dyn SourceTree>>);

/// Puts `changes` into a layer.
fn append<W: io::Write>(
    writer: &mut LayerWriter<W>,
    changes: &Changes,
    source: &dyn SourceTree,
    dest: &dyn SourceTree,
) -> Result<(), StepError> {
    for (path, change) in changes.iter() {
        match change {
            copy::Change::Entry { meta, data } => {
                let mut data = changes.open(data, source, dest)?;
                writer.append(path, meta, Some(&mut *data))?;
            }
            copy::Change::Hardlink { to } => writer.hardlink(path, to)?,
            copy::Change::Whiteout => writer.whiteout(path)?,
            copy::Change::Opaque => writer.opaque(path)?,
        }
    }
    Ok(())
}
