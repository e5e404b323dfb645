//! Options of a generation, and how builders keep an error until they end.

use crate::error::{Error, Result};
use crate::model::Model;
use crate::raw::{self, GenerationOptionsInfo};

/// An options object, or the first error of making and setting it.
pub(crate) struct Deferred<T>(Result<T>);

impl<T> Deferred<T> {
    pub fn new(options: Result<T>) -> Self {
        Deferred(options)
    }

    pub fn set(&mut self, set: impl FnOnce(&mut T) -> Result<()>) {
        if let Ok(options) = &mut self.0 {
            if let Err(error) = set(options) {
                self.0 = Err(error);
            }
        }
    }

    pub fn get(&self) -> Result<&T> {
        self.0.as_ref().map_err(Error::clone)
    }

    pub fn into_inner(self) -> Result<T> {
        self.0
    }
}

/// How tokens are chosen and when the choice ends. A value that the library refuses is the error of the call that uses
/// the options.
///
/// ```
/// # fn main() -> finermoe::Result<()> {
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../examples/models/tiny-wordnet-finermoe");
/// # let model = finermoe::Model::open(path)?;
/// let options = model.generation_options().max_tokens(20).temperature(0.8).stop("\n");
/// let mut session = model.session().create()?;
/// for prompt in ["A ship", "A poem"] {
///     session.reset()?;
///     println!("{}", session.generate(prompt).options(&options).text()?);
/// }
/// # Ok(())
/// # }
/// ```
pub struct GenerationOptions {
    options: Deferred<raw::GenerationOptions>,
}

impl GenerationOptions {
    /// Greedy, no penalties, no stop tokens, no limit.
    pub fn neutral() -> Self {
        GenerationOptions { options: Deferred::new(raw::GenerationOptions::create(None)) }
    }

    pub(crate) fn of_model(model: &Model) -> Self {
        GenerationOptions { options: Deferred::new(raw::GenerationOptions::create(Some(model.raw()))) }
    }

    pub(crate) fn raw(&self) -> Result<&raw::GenerationOptions> {
        self.options.get()
    }

    pub(crate) fn with(mut self, set: impl FnOnce(&mut raw::GenerationOptions) -> Result<()>) -> Self {
        self.options.set(set);
        self
    }

    /// The options that are numbers, or what is wrong with the options.
    pub fn info(&self) -> Result<GenerationOptionsInfo> {
        self.raw()?.info()
    }
}

impl Clone for GenerationOptions {
    fn clone(&self) -> Self {
        GenerationOptions { options: Deferred::new(self.raw().and_then(raw::GenerationOptions::copy)) }
    }
}

impl std::fmt::Debug for GenerationOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("GenerationOptions").field(&self.info()).finish()
    }
}

/// The setters, once for the options and once for a request that has options.
macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident($($argument:ident: $type:ty),*) = $set:expr;)*) => {
        impl GenerationOptions {
            $($(#[$doc])* #[must_use] pub fn $name(self $(, $argument: $type)*) -> Self {
                self.with(|options| $set(options $(, $argument)*))
            })*
        }

        /// What can be said of [`GenerationOptions`] can be said of a request.
        impl<S> crate::request::Request<'_, S> {
            $($(#[$doc])* pub fn $name(self $(, $argument: $type)*) -> Self {
                self.with(|options| options.$name($($argument),*))
            })*
        }
    };
}

use raw::GenerationOptions as Raw;

setters! {
    /// Most tokens to generate; 0: until a stop or the end of the context.
    max_tokens(n: usize) = Raw::set_max_tokens;
    /// Before this many tokens, stop tokens are never chosen (unless [`Self::ignore_eos`] is set) and stop strings are
    /// ignored.
    min_tokens(n: usize) = Raw::set_min_tokens;
    /// 0: greedy; else divides the logits.
    temperature(temperature: f64) = Raw::set_temperature;
    /// Keep the k largest logits; 0: all.
    top_k(k: usize) = Raw::set_top_k;
    /// In (0, 1]: keep the smallest set whose probability reaches p; 1: all.
    top_p(p: f64) = Raw::set_top_p;
    /// In [0, 1): drop what is less likely than p times the likeliest; 0: nothing.
    min_p(p: f64) = Raw::set_min_p;
    /// In (0, 1]: locally typical sampling (arXiv 2202.00666); 1: off.
    typical_p(p: f64) = Raw::set_typical_p;
    /// 1e-6 to 1e6: logits of tokens that stand in prompt or output are divided by it (multiplied if negative); 1: off.
    repetition_penalty(penalty: f64) = Raw::set_repetition_penalty;
    /// Subtracted from a token's logit for each time it was generated; 0: off.
    frequency_penalty(penalty: f64) = Raw::set_frequency_penalty;
    /// Subtracted once from the logits of tokens that were generated; 0: off.
    presence_penalty(penalty: f64) = Raw::set_presence_penalty;
    /// Of the random stream, which is the same on every platform; 0 by default.
    seed(seed: u64) = Raw::set_seed;
    /// Added to the token's logit; a second bias for an id replaces the first.
    logit_bias(id: i32, bias: f32) = Raw::add_logit_bias;
    /// Never sample this token.
    banned_token(id: i32) = Raw::add_banned_token;
    /// One more token that ends the generation when it is chosen.
    stop_token(id: i32) = Raw::add_stop_token;
    /// Forgets all stop tokens, those of the model's defaults too. A chat still ends at its template's end of turn.
    clear_stop_tokens() = Raw::clear_stop_tokens;
    /// One more string before which the text ends.
    stop(text: &str) = Raw::add_stop_string;
    /// Stop tokens do not end the generation, nor does a chat's end of turn.
    ignore_eos(ignore: bool) = |options: &mut Raw, ignore: bool| options.set_ignore_eos(ignore.into());
    /// Alternatives reported with each token; the chosen token's own log-probability always is.
    top_logprobs(n: usize) = Raw::set_top_logprobs;
    /// Special tokens appear in the text.
    show_special(show: bool) = |options: &mut Raw, show: bool| options.set_show_special(show.into());
    /// Drafts up to so many tokens, at most 64, for one pass: what followed the text's last tokens where they stood
    /// before. The tokens are those that the request has without, sooner where the text repeats itself; 0: none.
    lookup(n: usize) = Raw::set_lookup;
    /// Drafts up to so many tokens, at most 64, for one pass with another model of the same vocabulary, such as the
    /// dense one that an upcycled model came from. The tokens are those that the request has without, sooner; 0: none.
    draft(model: &Model, n: usize) = |options: &mut Raw, model: &Model, n: usize| options.set_draft(model.raw(), n);
}
