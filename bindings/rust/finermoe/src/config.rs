//! Everything that can be known of a model without its weights.

use crate::error::Result;
use crate::model::Model;
use crate::options::Deferred;
use crate::raw::{self, ConfigInfo, Plan};
use crate::runtime::Runtime;
use crate::session::SessionOptions;
use std::path::Path;
use std::sync::Arc;

/// A checked configuration. Immutable; a clone shares it.
#[derive(Clone)]
pub struct Config {
    raw: Arc<raw::Config>,
    info: Arc<ConfigInfo>,
}

impl Config {
    fn new(raw: raw::Config) -> Result<Self> {
        Ok(Config { info: Arc::new(raw.info()?), raw: Arc::new(raw) })
    }

    /// Of a model directory, a config.json, or a single-file model.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Config::new(raw::Config::open(path.as_ref())?)
    }

    /// Of the text of a config.json.
    pub fn from_json(json: impl AsRef<[u8]>) -> Result<Self> {
        Config::new(raw::Config::open_memory(json.as_ref())?)
    }

    pub(crate) fn of_model(model: &Model) -> Result<Self> {
        Config::new(raw::Config::open_model(model.raw())?)
    }

    /// The shape of the model.
    pub fn info(&self) -> &ConfigInfo {
        &self.info
    }

    /// The config.json that it was read from, every byte as it stands there.
    pub fn json(&self) -> Result<Vec<u8>> {
        self.raw.json()
    }

    /// Options of a plan: one session with the defaults, unless told otherwise.
    pub fn plan(&self) -> PlanBuilder {
        PlanBuilder { config: self.clone(), options: Deferred::new(raw::PlanOptions::create()) }
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Config").field(&self.info).finish()
    }
}

/// What a host intends to run.
#[must_use = "nothing is computed until `compute`"]
pub struct PlanBuilder {
    config: Config,
    options: Deferred<raw::PlanOptions>,
}

impl PlanBuilder {
    fn with(mut self, set: impl FnOnce(&mut raw::PlanOptions) -> Result<()>) -> Self {
        self.options.set(set);
        self
    }

    /// Context length, cache type and chunk of every session.
    pub fn session(self, session: &SessionOptions) -> Self {
        self.with(|options| options.set_session(session.raw()?))
    }

    /// Sessions that live at once; 1 by default.
    pub fn sessions(self, n_sessions: usize) -> Self {
        self.with(|options| options.set_sessions(n_sessions))
    }

    /// Threads that compute; 0 (default): as many processors as this process may use.
    pub fn threads(self, n_threads: u32) -> Self {
        self.with(|options| options.set_threads(n_threads))
    }

    /// A device, which need not be here, such as "cuda:0", and how many bytes of it the model and its sessions may take; 0:
    /// all it has. `module` is the shared library that has it; `None`: it is found.
    pub fn device(self, module: Option<&Path>, name: &str, memory: u64) -> Self {
        self.with(|options| options.set_device(module, name, memory))
    }

    /// Bytes of the device's memory into which chosen experts that are not there are fetched, as with
    /// [`expert_cache`](crate::ModelBuilder::expert_cache) of a model; 0 (default): none are.
    pub fn expert_cache(self, bytes: u64) -> Self {
        self.with(|options| options.set_expert_cache(bytes))
    }

    /// The threads and the device of a runtime that exists already.
    pub fn runtime(self, runtime: &Runtime) -> Self {
        self.with(|options| options.set_runtime(runtime.raw()))
    }

    /// How many bytes that takes. Starts no thread and opens no device.
    pub fn compute(self) -> Result<Plan> {
        Plan::compute(&self.config.raw, self.options.get()?)
    }
}
