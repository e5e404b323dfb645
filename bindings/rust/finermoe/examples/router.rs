//! What the router does with each token of a text: `router MODEL "A ship at sea"`.

use clap::Parser;
use finermoe::{Logits, Record, TextFlags};
use std::path::PathBuf;

/// Shows which experts the router chooses for each token.
#[derive(Parser)]
struct Arguments {
    /// Folder of the model, or a single file
    model: PathBuf,
    /// The text
    text: String,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let model = finermoe::Model::open(arguments.model)?;
    let tokenizer = model.tokenizer()?;
    let ids = tokenizer.encode(&arguments.text)?;

    let mut session = model.session().create()?;
    let trace = session.trace(Record::ROUTES | Record::USAGE)?;
    session.append(&ids, Logits::None)?;

    let info = trace.info()?;
    let layers = trace.layers()?;
    let cell = 4 * info.n_experts_per_token;
    print!("{:16}", "token");
    for layer in &layers {
        print!("{:>cell$}", format!("layer {layer}"));
    }
    println!();
    // [moe_layer][n_tokens, n_experts_per_token]
    let experts = (0..layers.len()).map(|layer| trace.experts(layer)).collect::<Result<Vec<_>, _>>()?;
    for (token, &id) in ids.iter().enumerate() {
        print!("{:16}", format!("{:?}", tokenizer.decode_with(&[id], TextFlags::SHOW_SPECIAL)?));
        for layer in &experts {
            let chosen = &layer[token * info.n_experts_per_token..][..info.n_experts_per_token];
            print!("{}", chosen.iter().map(|expert| format!("{expert:>4}")).collect::<String>());
        }
        println!();
    }
    print!("{:16}", "experts used");
    for layer in 0..layers.len() {
        let used = trace.usage(layer)?.iter().filter(|&&count| count > 0).count();
        print!("{:>cell$}", format!("{used}/{}", info.n_experts));
    }
    println!();
    print!("{:16}", "balance loss");
    for layer in 0..layers.len() {
        print!("{:>cell$}", format!("{:.2}", trace.balance_loss(layer)?));
    }
    println!();
    Ok(())
}
