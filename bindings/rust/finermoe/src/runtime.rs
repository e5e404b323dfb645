//! Threads, memory, devices.

use crate::enums::{Isa, LogLevel};
use crate::error::Result;
use crate::model::Model;
use crate::options::Deferred;
use crate::raw::{self, DeviceInfo, Operation, RuntimeInfo, SystemInfo, Tasks};
use std::path::Path;
use std::sync::Arc;

/// What the library finds on this machine, and how it was built.
pub fn system_info() -> Result<SystemInfo> {
    SystemInfo::get()
}

/// The devices of this machine; the first is the processor. Opens none of them.
///
/// `module` is the path of a device module, a shared library built with this libfinermoe, whose devices count too. It
/// stays loaded. `None`: libfinermoe_cuda, where it is installed.
pub fn devices(module: Option<&Path>) -> Result<Vec<DeviceInfo>> {
    let module = module.map(raw::c_path).transpose()?;
    let module = module.as_deref();
    (0..DeviceInfo::count(module)?).map(|index| DeviceInfo::get(module, index)).collect()
}

/// Worker threads and memory accounts, shared by the models opened with it. A model opened without one gets its own.
///
/// A clone is the same runtime. Any number of threads may use it.
#[derive(Clone)]
pub struct Runtime {
    raw: Arc<raw::Runtime>,
}

impl Runtime {
    /// Options of a new runtime.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder { options: Deferred::new(raw::RuntimeOptions::create()) }
    }

    pub(crate) fn of_model(model: &Model) -> Result<Self> {
        Ok(Runtime { raw: Arc::new(raw::Runtime::open_model(model.raw())?) })
    }

    pub(crate) fn raw(&self) -> &raw::Runtime {
        &self.raw
    }

    /// Threads, memory and device.
    pub fn info(&self) -> Result<RuntimeInfo> {
        self.raw.info()
    }

    /// The operations of the models' steps, as a profile measures them; empty without [`RuntimeBuilder::profile`].
    pub fn operations(&self) -> Result<Vec<Operation>> {
        (0..self.raw.operation_count()).map(|index| self.raw.operation(index)).collect()
    }

    /// Measures from here on.
    pub fn reset_profile(&self) -> Result<()> {
        self.raw.reset_profile()
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("info", &self.info()).finish()
    }
}

/// Options of a runtime.
#[must_use = "nothing is made until `build`"]
pub struct RuntimeBuilder {
    options: Deferred<raw::RuntimeOptions>,
}

impl RuntimeBuilder {
    fn with(mut self, set: impl FnOnce(&mut raw::RuntimeOptions) -> Result<()>) -> Self {
        self.options.set(set);
        self
    }

    /// Threads that compute, the calling one among them; 0 (default): as many processors as this process may use.
    pub fn threads(self, n_threads: u32) -> Self {
        self.with(|options| options.set_threads(n_threads))
    }

    /// Instruction set of the kernels.
    pub fn isa(self, isa: Isa) -> Self {
        self.with(|options| options.set_isa(isa.to_c()))
    }

    /// Most bytes that models, sessions and their scratch may allocate together; 0 (default): no limit.
    pub fn memory_limit(self, bytes: u64) -> Self {
        self.with(|options| options.set_memory_limit(bytes))
    }

    /// Measures the operations of the models' steps.
    pub fn profile(self, profile: bool) -> Self {
        self.with(|options| options.set_profile(profile.into()))
    }

    /// Name of the device that models compute on, such as `"cuda:0"`, or `"cuda:GPU-"` and the beginning of its UUID;
    /// `"cpu"` by default.
    pub fn device(self, name: &str) -> Self {
        self.with(|options| options.set_device(name))
    }

    /// A device module, whose devices can be chosen too; by default libfinermoe_cuda, where it is installed and a device
    /// of it is named.
    pub fn device_module(self, path: impl AsRef<Path>) -> Self {
        self.with(|options| options.set_device_module(path.as_ref()))
    }

    /// OpenBLAS, for the products that it computes faster than the kernels of this processor. `None`: as the system
    /// finds it.
    pub fn blas(self, path: Option<&Path>) -> Self {
        self.with(|options| options.set_blas(path))
    }

    /// Takes the library's messages, on the thread that makes the call which they are about.
    pub fn log(self, sink: impl Fn(LogLevel, &str) + Send + Sync + 'static) -> Self {
        self.with(|options| options.set_log(Box::new(sink)))
    }

    /// The host's own threads instead of the library's. `executor` is called on the thread that made the API call; it
    /// has [`Tasks::run_next`] called by up to `n_threads` threads at once, and returns when they are done.
    ///
    /// ```
    /// # fn main() -> finermoe::Result<()> {
    /// let runtime = finermoe::Runtime::builder()
    ///     .executor(2, |tasks| {
    ///         std::thread::scope(|scope| {
    ///             scope.spawn(|| tasks.run_all());
    ///             tasks.run_all();
    ///         })
    ///     })
    ///     .build()?;
    /// assert_eq!(runtime.info()?.n_threads, 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn executor(self, n_threads: u32, executor: impl Fn(&Tasks<'_>) + Send + Sync + 'static) -> Self {
        self.with(|options| options.set_executor(Box::new(executor), n_threads))
    }

    /// Makes the runtime. Its threads start at the first computation.
    pub fn build(self) -> Result<Runtime> {
        Ok(Runtime { raw: Arc::new(raw::Runtime::create(self.options.get()?)?) })
    }
}
