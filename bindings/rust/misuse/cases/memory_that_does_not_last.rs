//! The bytes of a model live as long as what is made from it.
fn main() -> finermoe::Result<()> {
    let bytes = vec![0u8; 64];
    let model = finermoe::Model::from_memory(&bytes).open()?;
    drop(model);
    Ok(())
}
