//! The choice of tokens alone.

use crate::error::Result;
use crate::options::GenerationOptions;
use crate::raw;

/// The choice of tokens alone, for logits that come from elsewhere: bias, penalties, bans, temperature and filters of
/// some options, and a random stream.
///
/// ```
/// # fn main() -> finermoe::Result<()> {
/// let options = finermoe::GenerationOptions::neutral().banned_token(1);
/// let mut sampler = finermoe::Sampler::new(&options)?;
/// let id = sampler.choose(&[0.5, 3.0, 1.0])?;
/// sampler.accept(id)?;
/// assert_eq!(id, 2);
/// # Ok(())
/// # }
/// ```
pub struct Sampler {
    raw: raw::Sampler,
}

impl Sampler {
    /// One with options, of which those that end or report a generation mean nothing here.
    pub fn new(options: &GenerationOptions) -> Result<Self> {
        Ok(Sampler { raw: raw::Sampler::create(options.raw()?)? })
    }

    /// Tokens of a prompt: the repetition penalty counts them, frequency and presence penalty do not.
    pub fn accept_prompt(&mut self, ids: &[i32]) -> Result<()> {
        self.raw.accept_prompt(ids)
    }

    /// A token that was generated, chosen here or elsewhere.
    pub fn accept(&mut self, id: i32) -> Result<()> {
        self.raw.accept(id)
    }

    /// Chooses a token from one logit for each id of the vocabulary, and does not accept it.
    pub fn choose(&mut self, logits: &[f32]) -> Result<i32> {
        self.raw.choose(logits)
    }
}

impl std::fmt::Debug for Sampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sampler")
    }
}
