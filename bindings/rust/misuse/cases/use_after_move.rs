//! A generation that owns a session has taken it.
fn main() -> finermoe::Result<()> {
    let session = finermoe::Model::open("model")?.session().create()?;
    let generation = session.into_generate("A ship").start()?;
    println!("{}", session.info()?.length);
    drop(generation);
    Ok(())
}
