//! Goes on with a text: `generate MODEL "A lighthouse is"`.

use clap::Parser;
use std::io::Write;
use std::path::PathBuf;

/// Goes on with a text.
#[derive(Parser)]
struct Arguments {
    /// Folder of the model, or a single file
    model: PathBuf,
    /// What the text begins with
    prompt: String,
    /// Most tokens to generate
    #[arg(long, default_value_t = 40)]
    max_tokens: usize,
    /// 0 always takes the likeliest token
    #[arg(long, default_value_t = 0.0)]
    temperature: f64,
    /// Of the random choice
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let model = finermoe::Model::open(arguments.model)?;
    let mut session = model.session().create()?;
    let request = session
        .generate(&arguments.prompt)
        .max_tokens(arguments.max_tokens)
        .temperature(arguments.temperature)
        .seed(arguments.seed);

    let mut stdout = std::io::stdout();
    print!("{}", arguments.prompt);
    let mut generation = request.start()?;
    for event in &mut generation {
        print!("{}", event?.text);
        stdout.flush()?; // each piece is shown when it is there
    }
    println!();

    let info = generation.info()?;
    let per_second = info.n_generated as f64 / info.decode_seconds;
    eprintln!("{} tokens, {per_second:.0} a second", info.n_generated);
    Ok(())
}
