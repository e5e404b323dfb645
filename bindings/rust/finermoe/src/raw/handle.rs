//! Ownership of the C objects.

use super::callbacks::resume_panic;
use super::{CError, status_of};
use crate::error::Result;
use finermoe_sys::*;
use std::any::Any;
use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::{NonNull, null_mut};
use std::sync::{Arc, Weak};

/// A C object and how it is freed.
///
/// # Safety
/// `free` is the object's `_free` function.
pub(crate) unsafe trait Object {
    unsafe fn free(object: *mut Self);
}

/// An object that several threads may call: immutable, made for it, or one that answers FINERMOE_ERROR_BUSY.
///
/// # Safety
/// The header says so.
pub(crate) unsafe trait Shared: Object {}

macro_rules! objects {
    ($($name:ident: $free:ident $($shared:ident)?;)*) => {$(
        unsafe impl Object for $name {
            unsafe fn free(object: *mut Self) {
                unsafe { $free(object) }
            }
        }
        $(unsafe impl $shared for $name {})?
    )*};
}

objects! {
    finermoe_batch: finermoe_batch_free Shared;
    finermoe_cancel: finermoe_cancel_free Shared;
    finermoe_chat: finermoe_chat_free;
    finermoe_config: finermoe_config_free Shared;
    finermoe_decoder: finermoe_decoder_free;
    finermoe_generation: finermoe_generation_free Shared;
    finermoe_generation_options: finermoe_generation_options_free;
    finermoe_model: finermoe_model_free Shared;
    finermoe_model_options: finermoe_model_options_free;
    finermoe_plan_options: finermoe_plan_options_free;
    finermoe_quantize_options: finermoe_quantize_options_free;
    finermoe_runtime: finermoe_runtime_free Shared;
    finermoe_runtime_options: finermoe_runtime_options_free;
    finermoe_sampler: finermoe_sampler_free;
    finermoe_session: finermoe_session_free Shared;
    finermoe_session_options: finermoe_session_options_free;
    finermoe_tokenizer: finermoe_tokenizer_free Shared;
    finermoe_trace: finermoe_trace_free Shared;
    finermoe_upcycle_options: finermoe_upcycle_options_free;
    finermoe_verification: finermoe_verification_free Shared;
    finermoe_writer_options: finermoe_writer_options_free;
}

/// What must live as long as an object and all that is made from it: closures that C calls, a model's bytes.
#[derive(Clone, Default)]
pub(crate) struct Keep(Vec<Arc<dyn Any + Send + Sync>>);

impl Keep {
    pub fn add(&mut self, kept: Arc<dyn Any + Send + Sync>) {
        self.0.push(kept);
    }

    pub fn holds<T>(&self, kept: &Arc<T>) -> bool {
        self.0.iter().any(|one| std::ptr::addr_eq(Arc::as_ptr(one), Arc::as_ptr(kept)))
    }

    pub fn and(&self, other: &Keep) -> Keep {
        Keep(self.0.iter().chain(&other.0).cloned().collect())
    }
}

/// One C object, freed when this is dropped, and before what it needs.
pub(crate) struct Handle<T: Object> {
    object: NonNull<T>,
    keep: Keep,
}

// The objects of the header are not bound to a thread.
unsafe impl<T: Object> Send for Handle<T> {}
unsafe impl<T: Shared> Sync for Handle<T> {}

impl<T: Object> Handle<T> {
    /// Makes an object with a function that gives one when it succeeds.
    pub fn made(keep: Keep, create: impl FnOnce(*mut *mut T, CError) -> i32) -> Result<Self> {
        let mut object = null_mut();
        let created = status_of(|error| create(&mut object, error));
        let object = NonNull::new(object).map(|object| Handle { object, keep });
        resume_panic(); // with an object that is freed
        created?;
        Ok(object.expect("a call that succeeds gives an object"))
    }

    pub fn ptr(&self) -> *mut T {
        self.object.as_ptr()
    }

    pub fn keep(&self) -> &Keep {
        &self.keep
    }

    pub fn keep_too(&mut self, kept: Arc<dyn Any + Send + Sync>) {
        self.keep.add(kept);
    }
}

impl<T: Object> Drop for Handle<T> {
    fn drop(&mut self) {
        unsafe { T::free(self.object.as_ptr()) }
    }
}

/// An object that is for one caller at a time, which whoever has this is. Others can close it.
pub(crate) struct Exclusive<T: Object> {
    handle: Arc<Handle<T>>,
    /// Not for several threads at once: they would find it busy.
    one_thread: PhantomData<Cell<()>>,
}

impl<T: Object> Exclusive<T> {
    pub fn made(keep: Keep, create: impl FnOnce(*mut *mut T, CError) -> i32) -> Result<Self> {
        Ok(Exclusive { handle: Arc::new(Handle::made(keep, create)?), one_thread: PhantomData })
    }

    pub fn ptr(&self) -> *mut T {
        self.handle.ptr()
    }

    pub fn keep(&self) -> &Keep {
        self.handle.keep()
    }
}

impl<T: Object> Exclusive<T>
where
    Handle<T>: Close + 'static,
{
    pub fn closer(&self) -> Closer {
        let handle: Weak<Handle<T>> = Arc::downgrade(&self.handle);
        Closer(handle)
    }
}

/// What any thread may close.
pub(crate) trait Close: Send + Sync {
    fn close(&self);
}

macro_rules! closes {
    ($($name:ident: $close:ident;)*) => {$(
        impl Close for Handle<$name> {
            fn close(&self) {
                unsafe { $close(self.ptr()) }
            }
        }
    )*};
}

closes! {
    finermoe_batch: finermoe_batch_close;
    finermoe_generation: finermoe_generation_close;
    finermoe_model: finermoe_model_close;
    finermoe_session: finermoe_session_close;
}

/// Closes an object that may be gone.
#[derive(Clone)]
pub(crate) struct Closer(Weak<dyn Close>);

impl Closer {
    pub fn close(&self) {
        if let Some(object) = self.0.upgrade() {
            object.close();
        }
    }
}
