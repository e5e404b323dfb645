//! Writers of models, and a check of them.

use crate::cancel::Cancel;
use crate::enums::{ConcatProj, DType, RouterInit};
use crate::error::Result;
use crate::options::Deferred;
use crate::raw::{self, Progress, VerifiedFile};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// What all writers can be told.
struct Output<'a> {
    out: PathBuf,
    options: Deferred<raw::WriterOptions>,
    progress: Option<raw::ProgressSlot<'a>>,
}

impl Output<'_> {
    fn new(out: &Path) -> Self {
        Output { out: out.to_owned(), options: Deferred::new(raw::WriterOptions::create()), progress: None }
    }
}

/// The setters that all writers have.
macro_rules! output_setters {
    ($name:ident) => {
        impl<'a> $name<'a> {
            /// Of every random draw; 0 by default. Equal inputs and seed give equal bytes.
            pub fn seed(mut self, seed: u64) -> Self {
                self.output.options.set(|options| options.set_seed(seed));
                self
            }

            /// Most bytes that a shard may hold; 5,000,000,000 by default.
            pub fn shard_size(mut self, bytes: u64) -> Self {
                self.output.options.set(|options| options.set_shard_size(bytes));
                self
            }

            /// Replaces an existing output when the new one is whole, if it is a model as the writers make it, an empty
            /// directory or, for a single file, a file; else every existing output is an error.
            pub fn overwrite(mut self, overwrite: bool) -> Self {
                self.output.options.set(|options| options.set_overwrite(overwrite.into()));
                self
            }

            /// Hears how far it has come, in bytes, on the thread that calls `run`; a break cancels.
            pub fn progress(mut self, progress: impl FnMut(Progress<'_>) -> ControlFlow<()> + Send + 'a) -> Self {
                self.output.progress = Some(raw::progress_slot(progress));
                self
            }

            /// Can cancel it; no file is left behind.
            pub fn cancel(mut self, cancel: &Cancel) -> Self {
                self.output.options.set(|options| options.set_cancel(cancel.raw()));
                self
            }
        }
    };
}

/// Makes a Mixture-of-Experts checkpoint from a dense one by streaming; memory stays small. The output is a directory,
/// or a single file if its name ends in ".safetensors".
///
/// ```no_run
/// # fn main() -> finermoe::Result<()> {
/// finermoe::Upcycle::new("dense", "moe").preset("finermoe").granularity_inter(8).seed(7).run()?;
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is written until `run`"]
pub struct Upcycle<'a> {
    dense: PathBuf,
    output: Output<'a>,
    options: Deferred<raw::UpcycleOptions>,
    shape: [usize; 5],
}

output_setters!(Upcycle);

impl Upcycle<'_> {
    /// From a dense model, with the preset `"finermoe"`.
    pub fn new(dense: impl AsRef<Path>, out: impl AsRef<Path>) -> Self {
        let options = Deferred::new(raw::UpcycleOptions::create(None));
        Upcycle { dense: dense.as_ref().to_owned(), output: Output::new(out.as_ref()), options, shape: [0; 5] }
    }

    fn with(mut self, set: impl FnOnce(&mut raw::UpcycleOptions) -> Result<()>) -> Self {
        self.options.set(set);
        self
    }

    fn dimension(mut self, index: usize, value: usize) -> Self {
        self.shape[index] = value;
        let shape = self.shape;
        self.with(|options| options.set_shape(shape))
    }

    /// `"finermoe"`, `"c32a2"`, `"s16a4"`, `"drop-upcycling"`, `"nvshard"`, `"no-fg"`, `"inter-fg"` or `"out-fg"`.
    /// Replaces what was set before it.
    pub fn preset(mut self, preset: &str) -> Self {
        self.options = Deferred::new(raw::UpcycleOptions::create(Some(preset)));
        self.shape = [0; 5];
        self
    }

    /// G_I; the preset's by default, as all parts of the shape.
    pub fn granularity_inter(self, value: usize) -> Self {
        self.dimension(0, value)
    }

    /// R_I
    pub fn expansion_inter(self, value: usize) -> Self {
        self.dimension(1, value)
    }

    /// G_O
    pub fn granularity_output(self, value: usize) -> Self {
        self.dimension(2, value)
    }

    /// R_O
    pub fn expansion_output(self, value: usize) -> Self {
        self.dimension(3, value)
    }

    /// T_I
    pub fn top_inter(self, value: usize) -> Self {
        self.dimension(4, value)
    }

    /// The dense FFN becomes the shared expert; else there is none.
    pub fn shared_expert(self, shared: bool) -> Self {
        self.with(|options| options.set_shared_expert(shared.into()))
    }

    /// The matrix behind the concatenated output components.
    pub fn concat_proj(self, concat_proj: ConcatProj) -> Self {
        self.with(|options| options.set_concat_proj(concat_proj.to_c()))
    }

    /// A second router for the output components.
    pub fn separate_router(self, separate: bool) -> Self {
        self.with(|options| options.set_separate_router(separate.into()))
    }

    /// The experts' down matrices are multiplied by it; 0: G_I without a shared expert, else 1.
    pub fn down_scale(self, scale: f64) -> Self {
        self.with(|options| options.set_down_scale(scale))
    }

    /// In [0, 1]: share of each expert's intermediate indices redrawn (Drop-Upcycling, arXiv 2502.19261).
    pub fn drop_ratio(self, ratio: f64) -> Self {
        self.with(|options| options.set_drop_ratio(ratio))
    }

    /// How the router is made.
    pub fn router_init(self, router_init: RouterInit) -> Self {
        self.with(|options| options.set_router_init(router_init.to_c()))
    }

    /// Writes the model.
    pub fn run(self) -> Result<()> {
        let options = self.options.get()?;
        options.run(&self.dense, &self.output.out, self.output.options.into_inner()?, self.output.progress.as_ref())
    }
}

/// Writes a random checkpoint of any shape, for tests and benchmarks at real size.
#[must_use = "nothing is written until `run`"]
pub struct Synthesize<'a> {
    config: PathBuf,
    output: Output<'a>,
    dtype: Option<DType>,
}

output_setters!(Synthesize);

impl Synthesize<'_> {
    /// Of the shape of a config.json, or of a directory that holds one; tokenizer files beside it are carried over.
    pub fn new(config: impl AsRef<Path>, out: impl AsRef<Path>) -> Self {
        Synthesize { config: config.as_ref().to_owned(), output: Output::new(out.as_ref()), dtype: None }
    }

    /// Type of the matrices; the configuration's own by default.
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = Some(dtype);
        self
    }

    /// Writes the model.
    pub fn run(self) -> Result<()> {
        let (dtype, options) = (self.dtype.map_or(-1, DType::to_c), self.output.options.into_inner()?);
        raw::synthesize(&self.config, &self.output.out, dtype, options, self.output.progress.as_ref())
    }
}

/// Writes a quantised copy of a model by streaming; memory stays small. Routers, gates, norms and biases keep their
/// type.
#[must_use = "nothing is written until `run`"]
pub struct Quantize<'a> {
    path: PathBuf,
    output: Output<'a>,
    options: Deferred<raw::QuantizeOptions>,
}

output_setters!(Quantize);

impl Quantize<'_> {
    /// Of a model, with a type ([`DType::Q8`] or [`DType::Q4`]) for all matrices but embeddings and head, which are Q8.
    pub fn new(path: impl AsRef<Path>, out: impl AsRef<Path>, dtype: DType) -> Self {
        let options = Deferred::new(raw::QuantizeOptions::create(dtype.to_c()));
        Quantize { path: path.as_ref().to_owned(), output: Output::new(out.as_ref()), options }
    }

    /// Another type for the matrices whose names match a pattern with * and ?, or none: as in the source. The last
    /// pattern that matches counts.
    pub fn with_override(mut self, pattern: &str, dtype: Option<DType>) -> Self {
        self.options.set(|options| options.add_override(pattern, dtype.map_or(-1, DType::to_c)));
        self
    }

    /// Writes the model.
    pub fn run(self) -> Result<()> {
        let options = self.options.get()?;
        options.run(&self.path, &self.output.out, self.output.options.into_inner()?, self.output.progress.as_ref())
    }
}

/// Reads every file of a model once: structure, SHA-256, NaN and infinity. Bad values are a finding, not an error.
///
/// ```
/// # fn main() -> finermoe::Result<()> {
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../examples/models/tiny-wordnet-finermoe");
/// for file in finermoe::Verify::new(path).run()? {
///     println!("{}  {}", file.sha256, file.name);
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is read until `run`"]
pub struct Verify<'a> {
    path: PathBuf,
    progress: Option<raw::ProgressSlot<'a>>,
    cancel: Option<Cancel>,
}

impl<'a> Verify<'a> {
    /// Of a model.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Verify { path: path.as_ref().to_owned(), progress: None, cancel: None }
    }

    /// Hears how far it has come, in bytes, on the thread that calls `run`; a break cancels.
    pub fn progress(mut self, progress: impl FnMut(Progress<'_>) -> ControlFlow<()> + Send + 'a) -> Self {
        self.progress = Some(raw::progress_slot(progress));
        self
    }

    /// Can cancel it.
    pub fn cancel(mut self, cancel: &Cancel) -> Self {
        self.cancel = Some(cancel.clone());
        self
    }

    /// What was found, file by file.
    pub fn run(self) -> Result<Vec<VerifiedFile>> {
        let cancel = self.cancel.as_ref().map(Cancel::raw);
        let found = raw::Verification::run(&self.path, self.progress.as_ref(), cancel)?;
        (0..found.count()).map(|index| found.file(index)).collect()
    }
}
