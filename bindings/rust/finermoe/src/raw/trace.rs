//! Section 8 of the header: traces.

use super::*;

/// Arrays of one MoE layer.
macro_rules! arrays {
    ($($name:ident: $type:ty = $c:ident;)*) => {$(
        pub fn $name(&self, moe_layer: usize) -> Result<Vec<$type>> {
            fill(64, |values, capacity, needed, error| unsafe {
                sys::$c(self.ptr(), moe_layer, values, capacity, needed, error)
            })
        }
    )*};
}

impl Trace {
    pub fn create(model: &Model, what: Record) -> Result<Self> {
        Self::made(model.keep().clone(), |out, error| unsafe {
            sys::finermoe_trace_create(model.ptr(), what.bits(), out, error)
        })
    }

    pub fn clear(&self) -> Result<()> {
        check(|error| unsafe { sys::finermoe_trace_clear(self.ptr(), error) })
    }

    pub fn info(&self) -> Result<TraceInfo> {
        let info = read(|info, error| unsafe { sys::finermoe_trace_get_info(self.ptr(), info, error) })?;
        Ok(unsafe { TraceInfo::from_c(&info) })
    }

    pub fn layers(&self) -> Result<Vec<usize>> {
        fill(64, |layers, capacity, needed, error| unsafe {
            sys::finermoe_trace_layers(self.ptr(), layers, capacity, needed, error)
        })
    }

    pub fn positions(&self) -> Result<Vec<usize>> {
        fill(64, |positions, capacity, needed, error| unsafe {
            sys::finermoe_trace_positions(self.ptr(), positions, capacity, needed, error)
        })
    }

    arrays! {
        experts: i32 = finermoe_trace_experts;
        weights: f32 = finermoe_trace_weights;
        groups: i32 = finermoe_trace_groups;
        logits: f32 = finermoe_trace_logits;
        usage: u64 = finermoe_trace_usage;
    }

    pub fn balance_loss(&self, moe_layer: usize) -> Result<f64> {
        let mut loss = 0.0;
        check(|error| unsafe { sys::finermoe_trace_balance_loss(self.ptr(), moe_layer, &mut loss, error) })?;
        Ok(loss)
    }
}
