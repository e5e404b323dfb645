//! Many prompts at once: `batch MODEL PROMPTS`, where PROMPTS has one in each line.

use clap::Parser;
use std::collections::VecDeque;
use std::path::PathBuf;

/// Goes on with each line of a file, many at once.
#[derive(Parser)]
struct Arguments {
    /// Folder of the model, or a single file
    model: PathBuf,
    /// File with one prompt in each line
    prompts: PathBuf,
    /// Requests that advance together
    #[arg(long, default_value_t = 8)]
    at_once: usize,
    /// Most tokens for each
    #[arg(long, default_value_t = 40)]
    max_tokens: usize,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let text = std::fs::read_to_string(&arguments.prompts)?;
    let prompts: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    let mut texts = vec![String::new(); prompts.len()];
    let mut waiting: VecDeque<usize> = (0..prompts.len()).collect();

    let model = finermoe::Model::open(&arguments.model)?;
    let mut batch = model.batch()?;
    let mut free: Vec<finermoe::Session> = Vec::new();
    for _ in 0..arguments.at_once.min(prompts.len()) {
        free.push(model.session().create()?);
    }
    loop {
        // Whoever finishes leaves its session to the next one.
        while let (Some(mut session), true) = (free.pop(), !waiting.is_empty()) {
            let index = waiting.pop_front().unwrap_or_default();
            session.reset()?;
            let request = session.into_generate(prompts[index]).max_tokens(arguments.max_tokens).tag(index as u64);
            batch.add(request.start()?)?;
        }
        let Some(item) = batch.next_event()? else { return Ok(()) };
        let index = item.tag as usize;
        texts[index] += &item.event.text;
        if let Some(error) = item.error {
            eprintln!("{}: {error}", prompts[index]);
        }
        if let Some(generation) = item.finished {
            println!("{}{}", prompts[index], texts[index].replace('\n', " "));
            free.push(generation.into_session());
        }
    }
}
