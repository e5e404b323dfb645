//! An executor may be called by several threads.
fn main() -> finermoe::Result<()> {
    let calls = std::rc::Rc::new(std::cell::Cell::new(0));
    let runtime = finermoe::Runtime::builder().executor(1, move |tasks| {
        calls.set(calls.get() + 1);
        tasks.run_all();
    });
    drop(runtime.build()?);
    Ok(())
}
