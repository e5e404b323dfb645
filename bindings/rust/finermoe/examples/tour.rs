//! The main things in one program: `tour MODEL`.
use std::env;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = env::args().nth(1).ok_or("usage: tour MODEL")?;

    let model = finermoe::Model::builder(path).threads(2).open()?;
    let mut session = model.session().context_length(512).create()?;
    for event in session.generate("A ship").max_tokens(20).temperature(0.8).seed(7).start()? {
        print!("{}", event?.text);
    }
    println!();

    let answer: String = session.chat(&[finermoe::Message::user("Define the noun \"compass\".")])?.text()?;
    println!("{answer}");

    session.reset()?;
    let logits = session.append(&model.tokenizer()?.encode("A ship")?, finermoe::Logits::All)?; // rows as &[f32]
    println!("{} rows of {} logits, the first begins with {:?}", logits.len(), logits.width(), &logits[0][..3]);

    match finermoe::Model::builder("/no/such").open() {
        Err(error) if error.code() == finermoe::ErrorCode::FileNotFound => eprintln!("{error}"),
        other => drop(other?),
    }
    Ok(())
}
