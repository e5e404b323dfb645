//! Sections 3 and 4 of the header: runtime, devices, configuration, plan.

use super::*;
use std::sync::Arc;

impl RuntimeOptions {
    pub fn create() -> Result<Self> {
        Self::made(Keep::default(), |out, error| unsafe { sys::finermoe_runtime_options_create(out, error) })
    }

    setters! {
        set_threads(u32) = finermoe_runtime_options_set_threads;
        set_isa(i32) = finermoe_runtime_options_set_isa;
        set_memory_limit(u64) = finermoe_runtime_options_set_memory_limit;
        set_profile(i32) = finermoe_runtime_options_set_profile;
    }

    pub fn set_device(&mut self, name: &str) -> Result<()> {
        let name = c_text(name)?;
        check(|error| unsafe { sys::finermoe_runtime_options_set_device(self.ptr(), name.as_ptr(), error) })
    }

    pub fn set_device_module(&mut self, path: &Path) -> Result<()> {
        let path = c_path(path)?;
        check(|error| unsafe { sys::finermoe_runtime_options_set_device_module(self.ptr(), path.as_ptr(), error) })
    }

    pub fn set_blas(&mut self, path: Option<&Path>) -> Result<()> {
        let path = path.map(c_path).transpose()?;
        let path = text_pointer(path.as_deref());
        check(|error| unsafe { sys::finermoe_runtime_options_set_blas(self.ptr(), path, error) })
    }

    pub fn set_log(&mut self, sink: LogFn) -> Result<()> {
        let slot = Arc::new(LogSlot(sink));
        let user = Arc::as_ptr(&slot).cast_mut().cast();
        self.keep_too(slot);
        let call = Some(callbacks::on_log as unsafe extern "C" fn(_, _, _));
        check(|error| unsafe { sys::finermoe_runtime_options_set_log(self.ptr(), call, user, error) })
    }

    pub fn set_executor(&mut self, executor: ExecutorFn, n_threads: u32) -> Result<()> {
        let slot = Arc::new(ExecutorSlot(executor));
        let user = Arc::as_ptr(&slot).cast_mut().cast();
        self.keep_too(slot);
        let call = Some(callbacks::on_execute as unsafe extern "C" fn(_, _, _, _));
        check(|error| unsafe { sys::finermoe_runtime_options_set_executor(self.ptr(), call, user, n_threads, error) })
    }
}

impl Runtime {
    pub fn create(options: &RuntimeOptions) -> Result<Self> {
        Self::made(options.keep().clone(), |out, error| unsafe {
            sys::finermoe_runtime_create(options.ptr(), out, error)
        })
    }

    pub fn open_model(model: &Model) -> Result<Self> {
        Self::made(model.keep().clone(), |out, error| unsafe {
            sys::finermoe_runtime_open_model(model.ptr(), out, error)
        })
    }

    pub fn info(&self) -> Result<RuntimeInfo> {
        let info = read(|info, error| unsafe { sys::finermoe_runtime_get_info(self.ptr(), info, error) })?;
        Ok(unsafe { RuntimeInfo::from_c(&info) })
    }

    pub fn operation_count(&self) -> usize {
        unsafe { sys::finermoe_runtime_operation_count(self.ptr()) }
    }

    pub fn operation(&self, index: usize) -> Result<Operation> {
        let operation = read(|operation, error| unsafe {
            sys::finermoe_runtime_get_operation(self.ptr(), index, operation, error)
        })?;
        Ok(unsafe { Operation::from_c(&operation) })
    }

    pub fn reset_profile(&self) -> Result<()> {
        check(|error| unsafe { sys::finermoe_runtime_reset_profile(self.ptr(), error) })
    }
}

impl SystemInfo {
    pub(crate) fn get() -> Result<Self> {
        let info = read(|info, error| unsafe { sys::finermoe_system_get_info(info, error) })?;
        Ok(unsafe { SystemInfo::from_c(&info) })
    }
}

impl DeviceInfo {
    pub(crate) fn count(module: Option<&CStr>) -> Result<usize> {
        let mut count = 0;
        check(|error| unsafe { sys::finermoe_device_count(text_pointer(module), &mut count, error) })?;
        Ok(count)
    }

    pub(crate) fn get(module: Option<&CStr>, index: usize) -> Result<Self> {
        let info =
            read(|info, error| unsafe { sys::finermoe_device_get_info(text_pointer(module), index, info, error) })?;
        Ok(unsafe { DeviceInfo::from_c(&info) })
    }
}

impl Config {
    pub fn open(path: &Path) -> Result<Self> {
        let path = c_path(path)?;
        Self::made(Keep::default(), |out, error| unsafe { sys::finermoe_config_open(path.as_ptr(), out, error) })
    }

    pub fn open_memory(json: &[u8]) -> Result<Self> {
        Self::made(Keep::default(), |out, error| unsafe {
            sys::finermoe_config_open_memory(chars(json), json.len(), out, error)
        })
    }

    pub fn open_model(model: &Model) -> Result<Self> {
        Self::made(model.keep().clone(), |out, error| unsafe {
            sys::finermoe_config_open_model(model.ptr(), out, error)
        })
    }

    pub fn info(&self) -> Result<ConfigInfo> {
        let info = read(|info, error| unsafe { sys::finermoe_config_get_info(self.ptr(), info, error) })?;
        Ok(unsafe { ConfigInfo::from_c(&info) })
    }

    pub fn json(&self) -> Result<Vec<u8>> {
        fill(0, |json: *mut u8, capacity, needed, error| unsafe {
            sys::finermoe_config_get_json(self.ptr(), json.cast(), capacity, needed, error)
        })
    }
}

impl PlanOptions {
    pub fn create() -> Result<Self> {
        Self::made(Keep::default(), |out, error| unsafe { sys::finermoe_plan_options_create(out, error) })
    }

    setters! {
        set_sessions(usize) = finermoe_plan_options_set_sessions;
        set_threads(u32) = finermoe_plan_options_set_threads;
        set_expert_cache(u64) = finermoe_plan_options_set_expert_cache;
    }

    pub fn set_session(&mut self, session: &SessionOptions) -> Result<()> {
        check(|error| unsafe { sys::finermoe_plan_options_set_session(self.ptr(), session.ptr(), error) })
    }

    pub fn set_runtime(&mut self, runtime: &Runtime) -> Result<()> {
        check(|error| unsafe { sys::finermoe_plan_options_set_runtime(self.ptr(), runtime.ptr(), error) })
    }

    pub fn set_device(&mut self, module: Option<&Path>, name: &str, memory: u64) -> Result<()> {
        let module = module.map(c_path).transpose()?;
        let name = c_text(name)?;
        check(|error| unsafe {
            sys::finermoe_plan_options_set_device(
                self.ptr(),
                text_pointer(module.as_deref()),
                name.as_ptr(),
                memory,
                error,
            )
        })
    }
}

impl Plan {
    pub(crate) fn compute(config: &Config, options: &PlanOptions) -> Result<Self> {
        let plan = read(|plan, error| unsafe { sys::finermoe_plan_compute(config.ptr(), options.ptr(), plan, error) })?;
        Ok(unsafe { Plan::from_c(&plan) })
    }
}
