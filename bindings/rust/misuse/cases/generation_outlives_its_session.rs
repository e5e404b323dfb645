//! A generation that borrows a session cannot outlive it.
fn start(model: &finermoe::Model) -> finermoe::Result<finermoe::Generation<&mut finermoe::Session>> {
    let mut session = model.session().create()?;
    session.generate("A ship").start()
}

fn main() {
    drop(start(&finermoe::Model::open("model").unwrap()));
}
