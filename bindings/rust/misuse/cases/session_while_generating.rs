//! A session is its generation's while that runs.
fn main() -> finermoe::Result<()> {
    let mut session = finermoe::Model::open("model")?.session().create()?;
    for event in session.generate("A ship").start()? {
        println!("{}", session.info()?.length);
        drop(event?);
    }
    Ok(())
}
