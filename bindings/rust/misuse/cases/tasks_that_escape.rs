//! No task runs when its executor has returned.
fn main() -> finermoe::Result<()> {
    let runtime = finermoe::Runtime::builder().executor(2, |tasks| {
        std::thread::spawn(|| tasks.run_all());
    });
    drop(runtime.build()?);
    Ok(())
}
