//! Models.

use crate::batch::Batch;
use crate::cancel::Cancel;
use crate::config::Config;
use crate::enums::{Lock, Prefetch, Record};
use crate::error::Result;
use crate::options::{Deferred, GenerationOptions};
use crate::raw::{self, ExpertCacheInfo, Progress};
use crate::runtime::{Runtime, RuntimeBuilder};
use crate::session::{Session, SessionBuilder};
use crate::tokenizer::Tokenizer;
use crate::trace::Trace;
use std::borrow::BorrowMut;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A mapped checkpoint. A clone shares it, and any number of threads may use it at once. Sessions keep it alive.
#[derive(Clone)]
pub struct Model {
    raw: Arc<raw::Model>,
}

impl Model {
    /// Opens a Hugging Face directory or a single .safetensors file with the defaults.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Model::builder(path).open()
    }

    /// Options for opening a Hugging Face directory or a single .safetensors file.
    pub fn builder(path: impl AsRef<Path>) -> ModelBuilder<'static> {
        ModelBuilder::new(Source::Path(path.as_ref().to_owned()))
    }

    /// Options for opening a single-file model in memory. The bytes are used where they are, and kept alive by the
    /// model and by all that is made from it.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let model = finermoe::Model::from_memory(std::fs::read("model.safetensors")?).open()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_memory(data: impl AsRef<[u8]> + Send + Sync + 'static) -> ModelBuilder<'static> {
        ModelBuilder::new(Source::Memory(Arc::new(data)))
    }

    /// Options for opening a directory or a single-file model by its file descriptor, which the model duplicates.
    pub fn from_fd(file: &impl AsFd) -> ModelBuilder<'_> {
        ModelBuilder::new(Source::Descriptor(file.as_fd()))
    }

    pub(crate) fn raw(&self) -> &raw::Model {
        &self.raw
    }

    /// Options for a session on this model.
    pub fn session(&self) -> SessionBuilder {
        SessionBuilder::new(self)
    }

    /// An empty batch, for generations that own their sessions or borrow them.
    pub fn batch<S: BorrowMut<Session>>(&self) -> Result<Batch<S>> {
        Batch::new(self)
    }

    /// A trace of what the router of this model does. A dense model has none, which is
    /// [`ErrorCode::Unsupported`](crate::ErrorCode::Unsupported).
    pub fn trace(&self, what: Record) -> Result<Trace> {
        Trace::new(self, what)
    }

    /// The model's tokenizer, parsed at the first call.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        Tokenizer::of_model(self)
    }

    /// The model's configuration.
    pub fn config(&self) -> Result<Config> {
        Config::of_model(self)
    }

    /// The runtime that it computes on.
    pub fn runtime(&self) -> Result<Runtime> {
        Runtime::of_model(self)
    }

    /// The defaults of the model's generation_config.json.
    pub fn generation_options(&self) -> GenerationOptions {
        GenerationOptions::of_model(self)
    }

    /// What became of the experts that the model fetches. Any thread may ask while sessions compute.
    pub fn expert_cache(&self) -> Result<ExpertCacheInfo> {
        self.raw.expert_cache()
    }

    /// Mean cosine similarity over all pairs of routed experts of one layer, each expert its matrices flattened.
    /// `layer` is the model's own index.
    pub fn expert_similarity(&self, layer: usize, cancel: Option<&Cancel>) -> Result<f64> {
        self.raw.expert_similarity(layer, cancel.map(Cancel::raw))
    }

    /// Cancels what runs on the model's sessions, on whichever thread; they answer
    /// [`ErrorCode::Closed`](crate::ErrorCode::Closed) from then on.
    pub fn close(&self) {
        raw::Close::close(&*self.raw);
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Model")
    }
}

enum Source<'a> {
    Path(PathBuf),
    Memory(raw::Bytes),
    Descriptor(BorrowedFd<'a>),
}

enum OnRuntime {
    Own(RuntimeBuilder),
    Shared(Runtime),
}

/// Options for opening a model.
#[must_use = "nothing is opened until `open`"]
pub struct ModelBuilder<'a> {
    source: Source<'a>,
    runtime: OnRuntime,
    options: Deferred<raw::ModelOptions>,
}

impl<'a> ModelBuilder<'a> {
    fn new(source: Source<'a>) -> Self {
        let options = Deferred::new(raw::ModelOptions::create());
        ModelBuilder { source, runtime: OnRuntime::Own(Runtime::builder()), options }
    }

    fn with(mut self, set: impl FnOnce(&mut raw::ModelOptions) -> Result<()>) -> Self {
        self.options.set(set);
        self
    }

    /// Threads of a runtime of the model's own, as [`RuntimeBuilder::threads`].
    pub fn threads(mut self, n_threads: u32) -> Self {
        self.runtime = OnRuntime::Own(Runtime::builder().threads(n_threads));
        self
    }

    /// A runtime that the model shares, in place of one of its own.
    pub fn runtime(mut self, runtime: &Runtime) -> Self {
        self.runtime = OnRuntime::Shared(runtime.clone());
        self
    }

    /// Reads the weights into memory, so that nothing can happen to the files afterwards; else they are used in place.
    pub fn copy(self, copy: bool) -> Self {
        self.with(|options| options.set_copy(copy.into()))
    }

    /// Reads every weight once and refuses NaN and infinity.
    pub fn verify(self, verify: bool) -> Self {
        self.with(|options| options.set_verify(verify.into()))
    }

    /// Weights that stay in memory while the model lives.
    pub fn lock(self, lock: Lock) -> Self {
        self.with(|options| options.set_lock(lock.to_c()))
    }

    /// Bytes of mapped routed experts that are in memory at most; 0 (default): no limit but the system's.
    pub fn expert_budget(self, bytes: u64) -> Self {
        self.with(|options| options.set_expert_budget(bytes))
    }

    /// Reading experts from the disk ahead of their use.
    pub fn prefetch(self, prefetch: Prefetch) -> Self {
        self.with(|options| options.set_prefetch(prefetch.to_c()))
    }

    /// Bytes of weights on the runtime's device at most, as a [`Plan`](crate::Plan) says; 0 (default): no limit.
    pub fn device_weights(self, bytes: u64) -> Self {
        self.with(|options| options.set_device_weights(bytes))
    }

    /// Bytes of the runtime's device, beside `device_weights`, into which chosen experts that are not there are fetched; 0
    /// (default): none are.
    pub fn expert_cache(self, bytes: u64) -> Self {
        self.with(|options| options.set_expert_cache(bytes))
    }

    /// Name of the device that holds and computes the routed experts, or what `device_weights` leaves no room for; by
    /// default the runtime's, or the CPU.
    pub fn expert_device(self, name: &str) -> Self {
        self.with(|options| options.set_expert_device(name))
    }

    /// Hears how far opening has come, on the thread that opens; a break cancels it.
    pub fn progress(self, progress: impl FnMut(Progress<'_>) -> ControlFlow<()> + Send + 'static) -> Self {
        self.with(|options| options.set_progress(raw::progress_slot(progress)))
    }

    /// Can cancel opening.
    pub fn cancel(self, cancel: &Cancel) -> Self {
        self.with(|options| options.set_cancel(cancel.raw()))
    }

    /// Opens the model. Reads headers only; weights are read when they are first used. What is wrong with a file that
    /// the model can do without (tokenizer, chat template, generation_config.json) is the error of the calls that need
    /// it.
    pub fn open(mut self) -> Result<Model> {
        let runtime = match self.runtime {
            OnRuntime::Own(builder) => builder.build()?,
            OnRuntime::Shared(runtime) => runtime,
        };
        self.options.set(|options| options.set_runtime(runtime.raw()));
        let (options, kept) = (self.options.get()?, runtime.raw().keep());
        let raw = match self.source {
            Source::Path(path) => raw::Model::open(&path, options, kept),
            Source::Memory(data) => raw::Model::open_memory(data, options, kept),
            Source::Descriptor(fd) => raw::Model::open_fd(fd, options, kept),
        }?;
        Ok(Model { raw: Arc::new(raw) })
    }
}
