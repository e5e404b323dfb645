//! One session has one request at a time, in a batch too.
fn main() -> finermoe::Result<()> {
    let model = finermoe::Model::open("model")?;
    let mut session = model.session().create()?;
    let mut batch = model.batch()?;
    batch.add(session.generate("A ship").start()?)?;
    batch.add(session.generate("A poem").start()?)?;
    Ok(())
}
