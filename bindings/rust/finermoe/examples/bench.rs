//! What a generated token and a row of logits cost, for bench/bindings.py: `bench MODEL N_TOKENS REPEATS`.
//!
//! Prints one line of JSON: {"seconds_per_token": [one per repeat], "seconds_per_logits_row": [...]}.

use finermoe::{Logits, Model, Result};
use std::env;
use std::hint::black_box;
use std::time::Instant;

fn seconds_per_token(model: &Model, n_tokens: usize) -> Result<f64> {
    let mut session = model.session().create()?;
    let generation = session.generate("A lighthouse is").ignore_eos(true).max_tokens(n_tokens).start()?;
    let begin = Instant::now();
    let mut n = 0;
    for event in generation {
        black_box(event?);
        n += 1;
    }
    Ok(begin.elapsed().as_secs_f64() / f64::from(n))
}

fn seconds_per_logits_row(model: &Model) -> Result<f64> {
    const READS: u32 = 1000;
    let mut session = model.session().create()?;
    session.append(&[1], Logits::Last)?;
    let begin = Instant::now();
    for _ in 0..READS {
        black_box(session.logits(0)?);
    }
    Ok(begin.elapsed().as_secs_f64() / f64::from(READS))
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [path, n_tokens, repeats] = &arguments[..] else { return Err("usage: bench MODEL N_TOKENS REPEATS".into()) };
    let (n_tokens, repeats) = (n_tokens.parse()?, 0..repeats.parse::<usize>()?);
    let model = Model::builder(path).threads(1).open()?;
    let tokens = repeats.clone().map(|_| seconds_per_token(&model, n_tokens)).collect::<Result<Vec<_>>>()?;
    let rows = repeats.map(|_| seconds_per_logits_row(&model)).collect::<Result<Vec<_>>>()?;
    println!("{{\"seconds_per_token\": {tokens:?}, \"seconds_per_logits_row\": {rows:?}}}");
    Ok(())
}
