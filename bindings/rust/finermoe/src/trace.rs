//! What the router did.

use crate::enums::Record;
use crate::error::Result;
use crate::model::Model;
use crate::raw::{self, TraceInfo};

/// What the router does with the tokens of a session, from [`Session::set_trace`](crate::Session::set_trace) on. The
/// session shares it; while the session computes on another thread, it may answer
/// [`ErrorCode::Busy`](crate::ErrorCode::Busy).
///
/// `moe_layer` counts the model's MoE layers. Arrays have one row for each recorded token, in
/// the order in which they were computed.
///
/// ```
/// # fn main() -> finermoe::Result<()> {
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../examples/models/tiny-wordnet-finermoe");
/// # let model = finermoe::Model::open(path)?;
/// use finermoe::{Logits, Record};
/// let mut session = model.session().create()?;
/// let trace = session.trace(Record::ROUTES | Record::USAGE)?;
/// session.append(&model.tokenizer()?.encode("A ship at sea")?, Logits::None)?;
/// let info = trace.info()?;
/// for (token, experts) in trace.experts(0)?.chunks(info.n_experts_per_token).enumerate() {
///     println!("token {token}: {experts:?}");
/// }
/// # Ok(())
/// # }
/// ```
pub struct Trace {
    raw: raw::Trace,
}

impl Trace {
    pub(crate) fn new(model: &Model, what: Record) -> Result<Self> {
        Ok(Trace { raw: raw::Trace::create(model.raw(), what)? })
    }

    pub(crate) fn raw(&self) -> &raw::Trace {
        &self.raw
    }

    /// Forgets what was recorded.
    pub fn clear(&self) -> Result<()> {
        self.raw.clear()
    }

    /// What it has recorded.
    pub fn info(&self) -> Result<TraceInfo> {
        self.raw.info()
    }

    /// The model's own indices of its MoE layers: `[n_moe_layers]`.
    pub fn layers(&self) -> Result<Vec<usize>> {
        self.raw.layers()
    }

    /// The position in its session of each token: `[n_tokens]`. A token that was computed twice is listed twice.
    pub fn positions(&self) -> Result<Vec<usize>> {
        self.raw.positions()
    }

    /// The experts of each token, ascending: `[n_tokens, n_experts_per_token]`.
    pub fn experts(&self, moe_layer: usize) -> Result<Vec<i32>> {
        self.raw.experts(moe_layer)
    }

    /// Their weights, in the order of the experts: `[n_tokens, n_experts_per_token]`.
    pub fn weights(&self, moe_layer: usize) -> Result<Vec<f32>> {
        self.raw.weights(moe_layer)
    }

    /// The winning group of each output component, of all G_O R_O groups: `[n_tokens, n_components]`.
    pub fn groups(&self, moe_layer: usize) -> Result<Vec<i32>> {
        self.raw.groups(moe_layer)
    }

    /// The router's logits: `[n_tokens, n_experts]`.
    pub fn logits(&self, moe_layer: usize) -> Result<Vec<f32>> {
        self.raw.logits(moe_layer)
    }

    /// How often each expert was chosen: `[n_experts]`.
    pub fn usage(&self, moe_layer: usize) -> Result<Vec<u64>> {
        self.raw.usage(moe_layer)
    }

    /// Load-balancing loss (Eq. 11 without its factor alpha), all recorded tokens taken as one sequence: 1 when
    /// perfectly even.
    pub fn balance_loss(&self, moe_layer: usize) -> Result<f64> {
        self.raw.balance_loss(moe_layer)
    }
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trace").field("info", &self.info()).finish()
    }
}
