//! Makes a Mixture-of-Experts model from a dense one: `upcycle DENSE OUT`.

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use std::ops::ControlFlow;
use std::path::PathBuf;

/// Makes a Mixture-of-Experts model from a dense one.
#[derive(Parser)]
struct Arguments {
    /// Folder of the dense model, or a single file
    dense: PathBuf,
    /// Where the new model goes: a folder, or a single file that ends in .safetensors
    out: PathBuf,
    /// "finermoe", "c32a2", "s16a4", "drop-upcycling", "nvshard", "no-fg", "inter-fg" or "out-fg"
    #[arg(long, default_value = "finermoe")]
    preset: String,
    /// G_I, the parts that the intermediate dimension is cut into
    #[arg(long, default_value_t = 0)]
    granularity_inter: usize,
    /// Of every random draw
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let bar = ProgressBar::new(0);
    bar.set_style(ProgressStyle::with_template("{msg:8} {wide_bar} {bytes}/{total_bytes} {eta}")?);
    finermoe::Upcycle::new(&arguments.dense, &arguments.out)
        .preset(&arguments.preset)
        .granularity_inter(arguments.granularity_inter)
        .seed(arguments.seed)
        .progress(|progress| {
            bar.set_message(progress.phase.to_owned());
            bar.set_length(progress.total);
            bar.set_position(progress.done);
            ControlFlow::Continue(())
        })
        .run()?;
    bar.finish();

    let config = finermoe::Config::open(&arguments.out)?;
    let info = config.info();
    println!(
        "{} experts in each of {} layers, {} of them for each token; {} parameters, {} active",
        info.n_experts, info.n_moe_layers, info.n_experts_per_token, info.parameters_total, info.parameters_active
    );
    Ok(())
}
