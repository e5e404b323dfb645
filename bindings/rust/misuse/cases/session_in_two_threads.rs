//! A session is for one thread at a time.
fn main() -> finermoe::Result<()> {
    let session = finermoe::Model::open("model")?.session().create()?;
    std::thread::scope(|scope| {
        scope.spawn(|| session.tokens());
        scope.spawn(|| session.tokens());
    });
    Ok(())
}
