//! What a word means, as the answer comes: `define MODEL WORD`.

use clap::Parser;
use std::path::PathBuf;

/// Says what a word means
#[derive(Parser)]
struct Arguments {
    /// Folder of the model, or a single file
    model: PathBuf,
    /// A noun
    word: String,
}

fn main() -> Result<(), finermoe::Error> {
    let Arguments { model: path, word } = Arguments::parse();
    let question = format!("Define the noun {word:?}.");

    let model = finermoe::Model::open(path)?;
    let mut session = model.session().create()?;
    for event in session.chat(&[finermoe::Message::user(&question)])?.start()? {
        print!("{}", event?.text);
    }
    println!();
    Ok(())
}
