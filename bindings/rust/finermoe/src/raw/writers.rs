//! Section 10 of the header: writers and checks.

use super::*;

impl WriterOptions {
    pub fn create() -> Result<Self> {
        Self::made(Keep::default(), |out, error| unsafe { sys::finermoe_writer_options_create(out, error) })
    }

    setters! {
        set_seed(u64) = finermoe_writer_options_set_seed;
        set_shard_size(u64) = finermoe_writer_options_set_shard_size;
        set_overwrite(i32) = finermoe_writer_options_set_overwrite;
    }

    pub fn set_cancel(&mut self, cancel: &Cancel) -> Result<()> {
        check(|error| unsafe { sys::finermoe_writer_options_set_cancel(self.ptr(), cancel.ptr(), error) })
    }
}

/// Makes one call of a writer. The options are this call's alone, so that the slot lives as long as they do.
fn write(
    mut options: WriterOptions,
    progress: Option<&ProgressSlot<'_>>,
    call: impl FnOnce(*const sys::finermoe_writer_options, CError) -> i32,
) -> Result<()> {
    let (function, user) = callbacks::progress_for_c(progress);
    options.set_progress(function, user)?;
    check(|error| call(options.ptr(), error))
}

impl WriterOptions {
    fn set_progress(&mut self, call: sys::finermoe_progress_fn, user: *mut std::ffi::c_void) -> Result<()> {
        check(|error| unsafe { sys::finermoe_writer_options_set_progress(self.ptr(), call, user, error) })
    }
}

impl UpcycleOptions {
    pub fn create(preset: Option<&str>) -> Result<Self> {
        let preset = preset.map(c_text).transpose()?;
        Self::made(Keep::default(), |out, error| unsafe {
            sys::finermoe_upcycle_options_create(text_pointer(preset.as_deref()), out, error)
        })
    }

    setters! {
        set_shared_expert(i32) = finermoe_upcycle_options_set_shared_expert;
        set_concat_proj(i32) = finermoe_upcycle_options_set_concat_proj;
        set_separate_router(i32) = finermoe_upcycle_options_set_separate_router;
        set_down_scale(f64) = finermoe_upcycle_options_set_down_scale;
        set_drop_ratio(f64) = finermoe_upcycle_options_set_drop_ratio;
        set_router_init(i32) = finermoe_upcycle_options_set_router_init;
    }

    /// G_I, R_I, G_O, R_O and T_I; 0 leaves the preset's value.
    pub fn set_shape(&mut self, [g_i, r_i, g_o, r_o, t_i]: [usize; 5]) -> Result<()> {
        check(|error| unsafe { sys::finermoe_upcycle_options_set_shape(self.ptr(), g_i, r_i, g_o, r_o, t_i, error) })
    }

    pub fn run(
        &self,
        dense: &Path,
        out: &Path,
        options: WriterOptions,
        progress: Option<&ProgressSlot<'_>>,
    ) -> Result<()> {
        let (dense, out) = (c_path(dense)?, c_path(out)?);
        write(options, progress, |options, error| unsafe {
            sys::finermoe_upcycle_run(dense.as_ptr(), out.as_ptr(), self.ptr(), options, error)
        })
    }
}

/// `dtype` is one of the header, or -1.
pub(crate) fn synthesize(
    config: &Path,
    out: &Path,
    dtype: i32,
    options: WriterOptions,
    progress: Option<&ProgressSlot<'_>>,
) -> Result<()> {
    let (config, out) = (c_path(config)?, c_path(out)?);
    write(options, progress, |options, error| unsafe {
        sys::finermoe_synthesize_run(config.as_ptr(), out.as_ptr(), dtype, options, error)
    })
}

impl QuantizeOptions {
    pub fn create(dtype: i32) -> Result<Self> {
        Self::made(Keep::default(), |out, error| unsafe { sys::finermoe_quantize_options_create(dtype, out, error) })
    }

    pub fn add_override(&mut self, pattern: &str, dtype: i32) -> Result<()> {
        let pattern = c_text(pattern)?;
        check(|error| unsafe {
            sys::finermoe_quantize_options_add_override(self.ptr(), pattern.as_ptr(), dtype, error)
        })
    }

    pub fn run(
        &self,
        path: &Path,
        out: &Path,
        options: WriterOptions,
        progress: Option<&ProgressSlot<'_>>,
    ) -> Result<()> {
        let (path, out) = (c_path(path)?, c_path(out)?);
        write(options, progress, |options, error| unsafe {
            sys::finermoe_quantize_run(path.as_ptr(), out.as_ptr(), self.ptr(), options, error)
        })
    }
}

impl Verification {
    pub fn run(path: &Path, progress: Option<&ProgressSlot<'_>>, cancel: Option<&Cancel>) -> Result<Self> {
        let path = c_path(path)?;
        let (function, user) = callbacks::progress_for_c(progress);
        Self::made(Keep::default(), |out, error| unsafe {
            sys::finermoe_verification_run(path.as_ptr(), function, user, pointer_to(cancel), out, error)
        })
    }

    pub fn count(&self) -> usize {
        unsafe { sys::finermoe_verification_count(self.ptr()) }
    }

    pub fn file(&self, index: usize) -> Result<VerifiedFile> {
        let file = read(|file, error| unsafe { sys::finermoe_verification_get_file(self.ptr(), index, file, error) })?;
        Ok(unsafe { VerifiedFile::from_c(&file) })
    }
}
