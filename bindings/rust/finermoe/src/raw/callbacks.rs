//! Closures that C calls. A panic does not unwind through C: it is kept, ends what can be ended, and goes on where the
//! call was made.

use finermoe_sys as sys;
use std::any::Any;
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_void};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, TryLockError};

thread_local! {
    /// Callbacks come on the thread that made the call, so this is where the call finds the panic of one.
    static PANIC: Cell<Option<Box<dyn Any + Send>>> = const { Cell::new(None) };
}

/// Runs a callback's body. After a panic, and in all callbacks of the same call that follow one, gives `otherwise`.
fn guarded<R>(otherwise: R, body: impl FnOnce() -> R) -> R {
    let before = PANIC.take();
    if before.is_some() {
        PANIC.set(before);
        return otherwise;
    }
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        PANIC.set(Some(panic));
        otherwise
    })
}

/// Goes on with the panic of a callback, if there was one.
pub(super) fn resume_panic() {
    if let Some(panic) = PANIC.take() {
        resume_unwind(panic);
    }
}

/// How far a long call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// What is being done, one or two words in lower case.
    pub phase: &'a str,
    /// Units (bytes, or tokens when prefilling) that are finished.
    pub done: u64,
    /// Units in this phase.
    pub total: u64,
}

pub(crate) type ProgressFn<'a> = Box<dyn FnMut(Progress<'_>) -> ControlFlow<()> + Send + 'a>;

/// A closure for progress, at an address that C can keep. The lock is for a session and its fork that report at once,
/// and for a closure that comes, by whatever way, to a call of itself: the second report is left out.
pub(crate) type ProgressSlot<'a> = Mutex<ProgressFn<'a>>;

pub(crate) fn progress_slot<'a>(progress: impl FnMut(Progress<'_>) -> ControlFlow<()> + Send + 'a) -> ProgressSlot<'a> {
    Mutex::new(Box::new(progress))
}

/// The function and the pointer that C gets for a slot.
pub(super) fn progress_for_c(slot: Option<&ProgressSlot<'_>>) -> (sys::finermoe_progress_fn, *mut c_void) {
    match slot {
        Some(slot) => (Some(on_progress), std::ptr::from_ref(slot).cast_mut().cast()),
        None => (None, std::ptr::null_mut()),
    }
}

/// `user` is a living ProgressSlot: whoever gives C the pointer keeps the slot for as long.
unsafe extern "C" fn on_progress(user: *mut c_void, phase: *const c_char, done: u64, total: u64) -> i32 {
    guarded(1, || {
        let slot = unsafe { &*user.cast::<ProgressSlot<'_>>() };
        let phase = unsafe { CStr::from_ptr(phase) }.to_string_lossy();
        i32::from(report(slot, Progress { phase: &phase, done, total }).is_break())
    })
}

/// Calls the closure, unless it is running.
pub(crate) fn report(slot: &ProgressSlot<'_>, progress: Progress<'_>) -> ControlFlow<()> {
    match slot.try_lock() {
        Ok(mut call) => call(progress),
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner()(progress),
        Err(TryLockError::WouldBlock) => ControlFlow::Continue(()),
    }
}

pub(crate) type LogFn = Box<dyn Fn(crate::LogLevel, &str) + Send + Sync>;
pub(crate) struct LogSlot(pub LogFn);

/// `user` is a living LogSlot.
pub(super) unsafe extern "C" fn on_log(user: *mut c_void, level: i32, message: *const c_char) {
    guarded((), || {
        let slot = unsafe { &*user.cast::<LogSlot>() };
        let message = unsafe { CStr::from_ptr(message) }.to_string_lossy();
        (slot.0)(crate::LogLevel::from_c(level), &message);
    });
}

/// The pieces of one parallel computation, for an executor of the host's own. Each piece runs once, on whichever thread
/// asks for it; whatever the executor leaves is done by the thread that called it.
pub struct Tasks<'a> {
    count: usize,
    next: AtomicUsize,
    run: &'a (dyn Fn(usize) + Sync),
}

impl Tasks<'_> {
    fn new(count: usize, run: &(dyn Fn(usize) + Sync)) -> Tasks<'_> {
        Tasks { count, next: AtomicUsize::new(0), run }
    }

    /// How many pieces there are, those that have run included.
    #[allow(clippy::len_without_is_empty)] // there is always one
    pub fn len(&self) -> usize {
        self.count
    }

    /// Runs a piece that has not been begun. False where there is none.
    pub fn run_next(&self) -> bool {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        if index >= self.count {
            self.next.store(self.count, Ordering::Relaxed); // no wrapping round, however often one asks
            return false;
        }
        (self.run)(index);
        true
    }

    /// Runs pieces until all have been begun.
    pub fn run_all(&self) {
        while self.run_next() {}
    }
}

pub(crate) type ExecutorFn = Box<dyn Fn(&Tasks<'_>) + Send + Sync>;
pub(crate) struct ExecutorSlot(pub ExecutorFn);

/// A pointer of C that its tasks may use on any thread.
struct TaskData(*mut c_void);
unsafe impl Sync for TaskData {}

impl TaskData {
    fn get(&self) -> *mut c_void {
        self.0
    }
}

/// `user` is a living ExecutorSlot. C asks that each task runs exactly once and that all have returned when this does.
/// The counter in Tasks sees to the first; and since the closure only borrows the tasks, no thread of it can be in one
/// when it has returned or panicked, so that what is left can be run here.
pub(super) unsafe extern "C" fn on_execute(
    user: *mut c_void,
    n_tasks: usize,
    task: sys::finermoe_task_fn,
    task_data: *mut c_void,
) {
    let Some(task) = task else { return };
    let data = TaskData(task_data);
    let run = |index| unsafe { task(data.get(), index) };
    let tasks = Tasks::new(n_tasks, &run);
    guarded((), || {
        let slot = unsafe { &*user.cast::<ExecutorSlot>() };
        (slot.0)(&tasks);
    });
    tasks.run_all();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_task_runs_once_on_whichever_thread() {
        let ran: Vec<AtomicUsize> = (0..50).map(|_| AtomicUsize::new(0)).collect();
        let run = |index: usize| {
            ran[index].fetch_add(1, Ordering::Relaxed);
        };
        let tasks = Tasks::new(ran.len(), &run);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| tasks.run_all());
            }
        });
        assert!(!tasks.run_next());
        assert!(ran.iter().all(|count| count.load(Ordering::Relaxed) == 1));
    }

    #[test]
    fn a_panic_is_kept_until_the_call_has_returned() {
        let mut calls = 0;
        assert_eq!(guarded(7, || -> i32 { panic!("a callback") }), 7);
        guarded((), || calls += 1);
        assert_eq!(calls, 0, "no callback runs between a panic and the end of the call");
        let panic = catch_unwind(resume_panic).unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"a callback"));
        guarded((), || calls += 1);
        assert_eq!(calls, 1);
        resume_panic();
    }

    #[test]
    fn progress_reaches_the_closure_and_a_break_comes_back() {
        let mut seen = Vec::new();
        let slot = progress_slot(|progress| {
            seen.push((progress.phase.to_owned(), progress.done));
            if progress.done == progress.total { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let (function, user) = progress_for_c(Some(&slot));
        let report = |done| unsafe { function.unwrap()(user, c"reading".as_ptr(), done, 2) };
        assert_eq!((report(1), report(2)), (0, 1));
        drop(slot);
        assert_eq!(seen, [("reading".to_owned(), 1), ("reading".to_owned(), 2)]);
    }

    #[test]
    fn an_executor_that_panics_leaves_no_task_undone() {
        unsafe extern "C" fn count(data: *mut c_void, _: usize) {
            unsafe { &*data.cast::<AtomicUsize>() }.fetch_add(1, Ordering::Relaxed);
        }
        let ran = AtomicUsize::new(0);
        let slot = ExecutorSlot(Box::new(|tasks| {
            tasks.run_next();
            panic!("an executor");
        }));
        let user = std::ptr::from_ref(&slot).cast_mut().cast();
        unsafe { on_execute(user, 5, Some(count), std::ptr::from_ref(&ran).cast_mut().cast()) };
        assert_eq!(ran.load(Ordering::Relaxed), 5);
        assert!(catch_unwind(resume_panic).is_err());
    }
}
