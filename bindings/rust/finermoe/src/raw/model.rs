//! Section 5 of the header: models.

use super::*;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

impl ModelOptions {
    pub fn create() -> Result<Self> {
        Self::made(Keep::default(), |out, error| unsafe { sys::finermoe_model_options_create(out, error) })
    }

    setters! {
        set_copy(i32) = finermoe_model_options_set_copy;
        set_verify(i32) = finermoe_model_options_set_verify;
        set_lock(i32) = finermoe_model_options_set_lock;
        set_expert_budget(u64) = finermoe_model_options_set_expert_budget;
        set_device_weights(u64) = finermoe_model_options_set_device_weights;
        set_expert_cache(u64) = finermoe_model_options_set_expert_cache;
        set_prefetch(i32) = finermoe_model_options_set_prefetch;
    }

    pub fn set_expert_device(&mut self, name: &str) -> Result<()> {
        let name = c_text(name)?;
        check(|error| unsafe { sys::finermoe_model_options_set_expert_device(self.ptr(), name.as_ptr(), error) })
    }

    pub fn set_progress(&mut self, progress: ProgressSlot<'static>) -> Result<()> {
        let slot = Arc::new(progress);
        let (call, user) = callbacks::progress_for_c(Some(&slot));
        self.keep_too(slot);
        check(|error| unsafe { sys::finermoe_model_options_set_progress(self.ptr(), call, user, error) })
    }

    pub fn set_cancel(&mut self, cancel: &Cancel) -> Result<()> {
        check(|error| unsafe { sys::finermoe_model_options_set_cancel(self.ptr(), cancel.ptr(), error) })
    }

    pub fn set_runtime(&mut self, runtime: &Runtime) -> Result<()> {
        check(|error| unsafe { sys::finermoe_model_options_set_runtime(self.ptr(), runtime.ptr(), error) })
    }
}

/// Bytes that stay where they are while they are shared.
pub(crate) type Bytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

impl Model {
    pub fn open(path: &Path, options: &ModelOptions, runtime: &Keep) -> Result<Self> {
        let path = c_path(path)?;
        Self::made(options.keep().and(runtime), |out, error| unsafe {
            sys::finermoe_model_open(path.as_ptr(), options.ptr(), out, error)
        })
    }

    pub fn open_fd(fd: BorrowedFd<'_>, options: &ModelOptions, runtime: &Keep) -> Result<Self> {
        Self::made(options.keep().and(runtime), |out, error| unsafe {
            sys::finermoe_model_open_fd(fd.as_raw_fd(), options.ptr(), out, error)
        })
    }

    /// The model, and all that is made from it, keeps `data`.
    pub fn open_memory(data: Bytes, options: &ModelOptions, runtime: &Keep) -> Result<Self> {
        let mut keep = options.keep().and(runtime);
        keep.add(Arc::new(data.clone()));
        // Asked for once: the slice lives as long as the shared object, whatever a second call would answer.
        let bytes: &[u8] = (*data).as_ref();
        Self::made(keep, |out, error| unsafe {
            sys::finermoe_model_open_memory(bytes.as_ptr().cast(), bytes.len(), options.ptr(), out, error)
        })
    }

    pub fn expert_cache(&self) -> Result<ExpertCacheInfo> {
        let info = read(|info, error| unsafe { sys::finermoe_model_get_expert_cache(self.ptr(), info, error) })?;
        Ok(unsafe { ExpertCacheInfo::from_c(&info) })
    }

    pub fn expert_similarity(&self, layer: usize, cancel: Option<&Cancel>) -> Result<f64> {
        let mut similarity = 0.0;
        check(|error| unsafe {
            sys::finermoe_model_expert_similarity(self.ptr(), layer, pointer_to(cancel), &mut similarity, error)
        })?;
        Ok(similarity)
    }
}
