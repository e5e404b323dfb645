//! The only module with `unsafe`: a safe function for each function of finermoe.h, with the types of Rust in place of
//! pointers, and the data that comes out. What is said of memory and threads here is what the header promises.
#![allow(unsafe_code)]

mod callbacks;
mod generation;
mod handle;
mod info;
mod model;
mod runtime;
mod session;
mod text;
mod trace;
mod writers;

use crate::enums::{Record, TextFlags, TokenKind};
use crate::error::{Error, ErrorCode, Result};
use finermoe_sys as sys;
use std::ffi::{CStr, CString, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::null_mut;

pub(crate) use callbacks::{ExecutorFn, LogFn, ProgressSlot, progress_slot, report};
use callbacks::{ExecutorSlot, LogSlot};
pub use callbacks::{Progress, Tasks};
pub(crate) use handle::{Close, Closer, Exclusive, Handle, Keep};
pub use info::*;
pub(crate) use model::Bytes;
pub(crate) use writers::synthesize;

type CError = *mut *mut sys::finermoe_error;

pub(crate) type Batch = Exclusive<sys::finermoe_batch>;
pub(crate) type Cancel = Handle<sys::finermoe_cancel>;
pub(crate) type Chat = Handle<sys::finermoe_chat>;
pub(crate) type Config = Handle<sys::finermoe_config>;
pub(crate) type Decoder = Handle<sys::finermoe_decoder>;
pub(crate) type Generation = Exclusive<sys::finermoe_generation>;
pub(crate) type GenerationOptions = Handle<sys::finermoe_generation_options>;
pub(crate) type Model = Handle<sys::finermoe_model>;
pub(crate) type ModelOptions = Handle<sys::finermoe_model_options>;
pub(crate) type PlanOptions = Handle<sys::finermoe_plan_options>;
pub(crate) type QuantizeOptions = Handle<sys::finermoe_quantize_options>;
pub(crate) type Runtime = Handle<sys::finermoe_runtime>;
pub(crate) type RuntimeOptions = Handle<sys::finermoe_runtime_options>;
pub(crate) type Sampler = Handle<sys::finermoe_sampler>;
pub(crate) type Session = Exclusive<sys::finermoe_session>;
pub(crate) type SessionOptions = Handle<sys::finermoe_session_options>;
pub(crate) type Tokenizer = Handle<sys::finermoe_tokenizer>;
pub(crate) type Trace = Handle<sys::finermoe_trace>;
pub(crate) type UpcycleOptions = Handle<sys::finermoe_upcycle_options>;
pub(crate) type Verification = Handle<sys::finermoe_verification>;
pub(crate) type WriterOptions = Handle<sys::finermoe_writer_options>;

/// Setters of an options object that take one value and can fail.
macro_rules! setters {
    ($($name:ident($ty:ty) = $c:ident;)*) => {$(
        pub fn $name(&mut self, value: $ty) -> Result<()> {
            check(|error| unsafe { sys::$c(self.ptr(), value, error) })
        }
    )*};
}
use setters;

/// Makes a call that can fail. A panic of a callback during the call goes on here.
fn check(call: impl FnOnce(CError) -> i32) -> Result<()> {
    let result = status_of(call);
    callbacks::resume_panic();
    result
}

/// The same with a panic left where it is kept, for a call whose result must be freed first.
fn status_of(call: impl FnOnce(CError) -> i32) -> Result<()> {
    let mut error = null_mut();
    let status = call(&mut error);
    if status == sys::FINERMOE_OK { Ok(()) } else { Err(unsafe { take_error(error) }) }
}

/// Turns the error of a failed call into ours, and frees it.
unsafe fn take_error(error: *mut sys::finermoe_error) -> Error {
    let text = |get: unsafe extern "C" fn(*const sys::finermoe_error) -> *const c_char| unsafe { text_of(get(error)) };
    let taken = Error::new(
        ErrorCode::from_c(unsafe { sys::finermoe_error_code(error) }),
        text(sys::finermoe_error_message),
        text(sys::finermoe_error_expected),
        text(sys::finermoe_error_found),
    );
    unsafe { sys::finermoe_error_free(error) };
    taken
}

/// Reads a struct that begins with its size. C is one of the structs of the header: integers, numbers and pointers, all
/// of which may be zero.
fn read<C: info::Readout>(call: impl FnOnce(*mut C, CError) -> i32) -> Result<C> {
    let mut values = C::empty();
    check(|error| call(&mut values, error))?;
    Ok(values)
}

/// Reads an array of which `guess` elements are expected; if there are more, they are asked for again. With a guess of
/// 0 the size is asked for first. `call` writes at most `capacity` elements, as the header's (buffer, capacity, needed)
/// says.
fn fill<T: Copy>(guess: usize, mut call: impl FnMut(*mut T, usize, *mut usize, CError) -> i32) -> Result<Vec<T>> {
    let mut needed = guess;
    if guess == 0 {
        call(null_mut(), 0, &mut needed, null_mut()); // what is wrong with the call, the next one says
    }
    let mut values = Vec::with_capacity(needed);
    loop {
        let mut needed = 0;
        let capacity = values.capacity();
        match check(|error| call(values.as_mut_ptr(), capacity, &mut needed, error)) {
            Ok(()) => {
                assert!(needed <= capacity);
                unsafe { values.set_len(needed) }; // all were written
                return Ok(values);
            }
            Err(error) if error.code() == ErrorCode::BufferTooSmall && needed > capacity => {
                values.reserve_exact(needed);
            }
            Err(error) => return Err(error),
        }
    }
}

/// The same for text.
fn fill_text(guess: usize, call: impl FnMut(*mut c_char, usize, *mut usize, CError) -> i32) -> Result<String> {
    let bytes = fill(guess, call)?.into_iter().map(|byte| byte as u8).collect();
    Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// A text of C that may be NULL.
unsafe fn text_of(text: *const c_char) -> String {
    if text.is_null() { String::new() } else { unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned() }
}

/// Elements of C, where none may be NULL.
unsafe fn elements_of<'a, T>(elements: *const T, count: usize) -> &'a [T] {
    if count == 0 { &[] } else { unsafe { std::slice::from_raw_parts(elements, count) } }
}

/// What C reads as bytes.
fn chars(bytes: &[u8]) -> *const c_char {
    bytes.as_ptr().cast()
}

pub(crate) fn c_text(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::with_nul(text))
}

pub(crate) fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::with_nul(&path.to_string_lossy()))
}

/// A pointer that may be NULL.
fn pointer_to<T: handle::Object>(object: Option<&Handle<T>>) -> *mut T {
    object.map_or(null_mut(), Handle::ptr)
}

fn text_pointer(text: Option<&CStr>) -> *const c_char {
    text.map_or(std::ptr::null(), CStr::as_ptr)
}

pub(crate) fn status_name(status: i32) -> &'static str {
    // Static, and letters only.
    unsafe { CStr::from_ptr(sys::finermoe_status_name(status)) }.to_str().unwrap_or_default()
}

pub(crate) fn version() -> &'static str {
    unsafe { CStr::from_ptr(sys::finermoe_version()) }.to_str().unwrap_or_default()
}

pub(crate) fn abi_version() -> u32 {
    unsafe { sys::finermoe_abi_version() }
}

impl Cancel {
    pub fn create() -> Result<Self> {
        Self::made(Keep::default(), |out, error| unsafe { sys::finermoe_cancel_create(out, error) })
    }

    pub fn request(&self) {
        unsafe { sys::finermoe_cancel_request(self.ptr()) }
    }

    pub fn reset(&self) {
        unsafe { sys::finermoe_cancel_reset(self.ptr()) }
    }

    pub fn requested(&self) -> bool {
        unsafe { sys::finermoe_cancel_requested(self.ptr()) != 0 }
    }
}
