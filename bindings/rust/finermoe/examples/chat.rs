//! A conversation in the terminal: `chat MODEL`. An empty line or the end of the input ends it.

use clap::Parser;
use finermoe::Message;
use std::io::{BufRead, Write};
use std::path::PathBuf;

/// Talks with a model, line by line.
#[derive(Parser)]
struct Arguments {
    /// Folder of the model, or a single file
    model: PathBuf,
    /// What the model is told before the conversation
    #[arg(long)]
    system: Option<String>,
    /// Most tokens of an answer
    #[arg(long, default_value_t = 200)]
    max_tokens: usize,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let model = finermoe::Model::open(arguments.model)?;
    let mut session = model.session().create()?;
    let mut messages: Vec<Message> = arguments.system.map(Message::system).into_iter().collect();

    let mut stdout = std::io::stdout();
    let mut lines = std::io::stdin().lock().lines();
    loop {
        print!("> ");
        stdout.flush()?;
        let line = lines.next().transpose()?.unwrap_or_default();
        if line.is_empty() {
            return Ok(());
        }
        messages.push(Message::user(line));
        let mut answer = String::new();
        // What the session holds of the conversation is not computed again.
        for event in session.chat(&messages)?.max_tokens(arguments.max_tokens).start()? {
            let text = event?.text;
            print!("{text}");
            stdout.flush()?;
            answer += &text;
        }
        println!();
        messages.push(Message::assistant(answer));
    }
}
