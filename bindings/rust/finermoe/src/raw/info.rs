//! Plain data that comes out of the library: a struct for each of the header's, with Rust's types.

use super::{elements_of, text_of};
use crate::enums::*;
use finermoe_sys as sys;
use std::ffi::c_char;

/// A struct of the header that the library fills.
///
/// # Safety
/// It begins with `uint32_t struct_size`, and its fields may be zero.
pub(super) unsafe trait Readout: Sized {
    fn empty() -> Self {
        let mut values: Self = unsafe { std::mem::zeroed() };
        let size = u32::try_from(size_of::<Self>()).expect("structs are small");
        unsafe { std::ptr::from_mut(&mut values).cast::<u32>().write(size) };
        values
    }
}

macro_rules! readouts {
    ($($name:ident)*) => { $(unsafe impl Readout for sys::$name {})* };
}
readouts! {
    finermoe_chat_message finermoe_config_info finermoe_device_info finermoe_event
    finermoe_expert_cache_info finermoe_generation_info finermoe_generation_options_info finermoe_plan finermoe_runtime_info finermoe_runtime_operation
    finermoe_session_info finermoe_system_info finermoe_tokenizer_info finermoe_trace_info finermoe_verification_file
}

/// A field of Rust made from one of C.
trait Field<C> {
    /// # Safety
    /// Pointers are what the header says they are.
    unsafe fn from_c(value: &C) -> Self;
}

macro_rules! same {
    ($($number:ty)*) => {$(
        impl Field<$number> for $number {
            unsafe fn from_c(value: &$number) -> Self {
                *value
            }
        }
    )*};
}
same! { u32 u64 usize f32 f64 }

macro_rules! enums {
    ($($name:ident)*) => {$(
        impl Field<i32> for $name {
            unsafe fn from_c(value: &i32) -> Self {
                $name::from_c(*value)
            }
        }
    )*};
}
enums! { DType DeviceKind Isa Precision }

impl Field<i32> for bool {
    unsafe fn from_c(value: &i32) -> Self {
        *value != 0
    }
}

/// An id, where -1 is none.
impl Field<i32> for Option<i32> {
    unsafe fn from_c(value: &i32) -> Self {
        (*value >= 0).then_some(*value)
    }
}

impl Field<i32> for Option<FinishReason> {
    unsafe fn from_c(value: &i32) -> Self {
        FinishReason::of_c(*value)
    }
}

/// A status, where FINERMOE_OK is none.
impl Field<i32> for Option<crate::ErrorCode> {
    unsafe fn from_c(value: &i32) -> Self {
        (*value != sys::FINERMOE_OK).then(|| crate::ErrorCode::from_c(*value))
    }
}

impl Field<*const c_char> for String {
    unsafe fn from_c(value: &*const c_char) -> Self {
        unsafe { text_of(*value) }
    }
}

impl<const N: usize> Field<[c_char; N]> for String {
    unsafe fn from_c(value: &[c_char; N]) -> Self {
        let bytes: Vec<u8> = value.iter().take_while(|&&byte| byte != 0).map(|&byte| byte as u8).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Bits, of which 1 << n stands for the constant n.
fn bits(set: u32) -> impl Iterator<Item = i32> {
    (0..32).filter(move |bit| set >> bit & 1 != 0)
}

impl Field<u32> for Vec<DType> {
    unsafe fn from_c(value: &u32) -> Self {
        bits(*value).map(DType::from_c).collect()
    }
}

impl Field<u32> for Vec<Isa> {
    unsafe fn from_c(value: &u32) -> Self {
        bits(*value).map(Isa::from_c).collect()
    }
}

impl Field<u32> for Record {
    unsafe fn from_c(value: &u32) -> Self {
        Record::from_bits_retain(*value)
    }
}

/// A struct with the names of one of C, and how it is made from that.
macro_rules! infos {
    ($(
        $(#[$doc:meta])*
        pub struct $name:ident = $c:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[non_exhaustive]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl $name {
            /// # Safety
            /// `c` was filled by the library, and what it points to is alive.
            pub(super) unsafe fn from_c(c: &sys::$c) -> Self {
                Self { $($field: unsafe { Field::from_c(&c.$field) },)* }
            }
        }
    )*};
}

infos! {
    /// What the library finds on this machine, and how it was built: what a bug report needs.
    pub struct SystemInfo = finermoe_system_info {
        /// The instruction set that [`Isa::Auto`] takes.
        isa: Isa,
        /// Its kernels: `"portable"`, `"avx2"`, `"avx2-vnni"`, `"avx512"` or `"amx"`.
        kernels: String,
        /// `"GCC 12.2.0"`, `"Clang 14.0.6"`.
        compiler: String,
        /// The type of the build: `"release"`, `"debug"`.
        build: String,
        /// Those that the processor can execute.
        isas: Vec<Isa>,
        /// Threads of a runtime that is not told otherwise.
        n_threads: u32,
        /// Processors that the control groups of this process grant; 0: no limit.
        processor_quota: f64,
        /// Bytes that they grant; 0: no limit.
        memory_quota: u64,
        /// Bytes that this process could use at this moment, that limit included.
        memory_available: u64,
    }

    /// A device that models can compute on.
    pub struct DeviceInfo = finermoe_device_info {
        /// What it is.
        kind: DeviceKind,
        /// The name by which it is chosen: `"cpu"`, …
        name: String,
        /// Of the hardware.
        description: String,
        /// Of what computes on it: the kernels of the CPU, a driver.
        version: String,
        /// Bytes that it has; of the CPU: what this process may use.
        memory: u64,
        /// Of these, free at this moment.
        memory_available: u64,
        /// Types of weights that it computes with.
        weight_dtypes: Vec<DType>,
        /// Types of KV caches.
        kv_dtypes: Vec<DType>,
        /// Weights are copied into memory of its own when a model is opened; else they are used where they are.
        copies_weights: bool,
    }

    /// A runtime's threads and memory.
    pub struct RuntimeInfo = finermoe_runtime_info {
        /// Threads that compute.
        n_threads: u32,
        /// The instruction set in use, never [`Isa::Auto`].
        isa: Isa,
        /// Bytes; 0: none.
        memory_limit: u64,
        /// Bytes now counted against it.
        memory_used: u64,
        /// The most that was ever counted.
        memory_peak: u64,
        /// The name of the device.
        device: String,
        /// A BLAS library computes products here.
        uses_blas: bool,
        /// What the library says of itself; empty if none was opened.
        blas: String,
    }

    /// One operation's part of the steps that were computed since the runtime was made or its profile was reset.
    pub struct Operation = finermoe_runtime_operation {
        /// `"qkv"`, `"attention"`, `"moe_ffn"`, …
        name: String,
        /// How often it ran.
        n_calls: u64,
        /// How long that took.
        seconds: f64,
        /// Bytes of weights or cache that the calls had to read, each once in a call.
        bytes: u64,
        /// Multiplications with an addition, of matrix products; 2 operations each.
        macs: u64,
    }

    /// The shape of a model, in the terms of the paper (arXiv 2603.13364) and of config.json.
    pub struct ConfigInfo = finermoe_config_info {
        /// Type of the bulk of the weights.
        dtype: DType,
        /// `"finer_moe"`, `"qwen2"`, `"qwen2_moe"`.
        model_type: String,
        /// h
        hidden_size: usize,
        /// H: width of a dense FFN.
        intermediate_size: usize,
        /// Layers.
        n_layers: usize,
        /// Of these, layers with experts.
        n_moe_layers: usize,
        /// Attention heads.
        n_heads: usize,
        /// Heads of keys and values.
        n_kv_heads: usize,
        /// `hidden_size / n_heads`, or what head_dim says.
        head_size: usize,
        /// Rows of the embedding; may exceed the tokenizer's ids.
        vocab_size: usize,
        /// max_position_embeddings, or more: those that a rope scaling is for.
        max_positions: usize,
        /// G_I; 0 in a dense model, as all of the next eight.
        granularity_inter: usize,
        /// R_I
        expansion_inter: usize,
        /// G_O
        granularity_output: usize,
        /// R_O
        expansion_output: usize,
        /// N = G_O R_O G_I R_I (Eq. 5)
        n_experts: usize,
        /// G_O T_I
        n_experts_per_token: usize,
        /// H_e
        expert_width: usize,
        /// h_e = h / G_O
        expert_output_width: usize,
        /// 0: no shared expert.
        shared_expert_width: usize,
        /// A matrix stands behind the concatenated output components.
        has_concat_proj: bool,
        /// A second router chooses the output components.
        has_separate_router: bool,
        /// The weights of the chosen experts are normalised.
        norm_topk_prob: bool,
        /// The head is the embedding.
        tied_embeddings: bool,
        /// Of the norms.
        rms_norm_eps: f64,
        /// Of the rotary positions.
        rope_theta: f64,
        /// In the checkpoint: embeddings and head counted as stored.
        parameters_total: u64,
        /// Of these, the ones that one token uses.
        parameters_active: u64,
        /// Of the rotary frequencies: `"none"`, `"linear"`, `"yarn"`, `"llama3"`.
        rope_scaling: String,
        /// 1 without a scaling, as `rope_attention_factor`.
        rope_factor: f64,
        /// Positions that the model was trained for (`"yarn"`, `"llama3"`), else 0.
        rope_original_positions: usize,
        /// Of queries and keys (`"yarn"`).
        rope_attention_factor: f64,
        /// Positions that a token sees in some layers, itself included; 0: all layers see all.
        sliding_window: usize,
        /// Layers with a sliding window.
        n_sliding_layers: usize,
    }

    /// Bytes that a model and its sessions take, before anything is loaded. Weights are mapped, not allocated.
    pub struct Plan = finermoe_plan {
        /// Embedding and, where it is not tied, head.
        weights_embeddings: u64,
        /// With biases, and all norms.
        weights_attention: u64,
        /// FFNs of dense layers.
        weights_dense: u64,
        /// Shared experts, their gates, and concat projections.
        weights_shared: u64,
        /// Routed experts.
        weights_routed: u64,
        /// Router matrices, concat gates included.
        weights_router: u64,
        /// All of these.
        weights_total: u64,
        /// Of all sessions.
        kv_cache: u64,
        /// Activations of the largest step, on all threads.
        scratch: u64,
        /// These, `device_weights` and `expert_cache`: what a memory limit is compared with.
        allocated_total: u64,
        /// Weight bytes that decoding one token reads.
        bytes_per_token: u64,
        /// The weights that every token reads, which should stay in memory.
        weights_every_token: u64,
        /// What this process could use at this moment, limits of its control groups included.
        memory_available: u64,
        /// Of the device planned for: what was given, or all it has. 0 for one that uses the machine's memory, as are
        /// the next six, and the last three.
        device_memory: u64,
        /// Copies on the device, for [`device_weights`](crate::ModelBuilder::device_weights).
        device_weights: u64,
        /// `device_weights`, `expert_cache`, and what the device has of `kv_cache` and `scratch`; more than
        /// `device_memory` if not even one layer fits.
        device_total: u64,
        /// Layers on the device, from the last; the CPU computes the others.
        device_layers: u64,
        /// Of these, MoE layers whose routed experts are there too, from the last.
        device_moe_layers: u64,
        /// Of `weights_routed`, the experts of these MoE layers.
        device_routed: u64,
        /// Of `bytes_per_token`, what the device reads, fetched experts too; the CPU reads the rest.
        device_bytes_per_token: u64,
        /// Of `weights_total`, what is used or fetched where it is mapped.
        host_weights: u64,
        /// Bytes of the device for experts that are fetched, in whole slots; 0 if none is.
        expert_cache: u64,
        /// Experts that it holds.
        expert_cache_slots: u64,
        /// What decoding one token copies to the device, if experts are chosen evenly.
        fetched_bytes_per_token: u64,
    }

    /// What became of the experts that a model fetches; all 0 if it fetches none.
    pub struct ExpertCacheInfo = finermoe_expert_cache_info {
        /// Of the device.
        bytes: u64,
        /// Experts that it holds.
        n_slots: u64,
        /// Chosen experts that were there, each counted once per layer and pass, since the model was opened.
        n_hits: u64,
        /// Those that were copied.
        n_misses: u64,
    }

    /// A tokenizer's special ids and size.
    pub struct TokenizerInfo = finermoe_tokenizer_info {
        /// Begin of a text.
        bos_id: Option<i32>,
        /// End of a text.
        eos_id: Option<i32>,
        /// Padding.
        pad_id: Option<i32>,
        /// Largest id with a token, plus one.
        vocab_size: usize,
        /// Added tokens, special or not.
        n_added: usize,
        /// Chats can be encoded.
        has_chat: bool,
        /// The token with which the chat template ends a message, such as `<|im_end|>`. A generation from ids of
        /// [`Chat::encode`](crate::Chat::encode) needs it as a stop token; a chat adds it itself.
        end_of_turn_id: Option<i32>,
    }

    /// What a session holds.
    pub struct SessionInfo = finermoe_session_info {
        /// How its KV cache stores keys and values.
        kv_dtype: DType,
        /// Tokens held.
        length: usize,
        /// Most it can hold.
        context_length: usize,
        /// Rows of logits kept by the last append.
        n_logits: usize,
        /// Bytes of its KV cache.
        kv_bytes: u64,
        /// How its products are computed.
        precision: Precision,
        /// Types of weights whose products use quantized activations; with the others `Fast` is as `Exact` here.
        quantized_dtypes: Vec<DType>,
        /// Of `length`: the others wait for the next call that computes.
        n_computed: usize,
        /// Rows of hidden states kept by the last append.
        n_hidden: usize,
    }

    /// What a trace has recorded.
    pub struct TraceInfo = finermoe_trace_info {
        /// What it records.
        what: Record,
        /// Layers with experts.
        n_moe_layers: usize,
        /// Recorded so far.
        n_tokens: usize,
        /// N
        n_experts: usize,
        /// G_O T_I
        n_experts_per_token: usize,
        /// G_O
        n_components: usize,
    }

    /// The options of a generation that are numbers.
    pub struct GenerationOptionsInfo = finermoe_generation_options_info {
        /// Stop tokens do not end the generation.
        ignore_eos: bool,
        /// Most tokens to generate; 0: no limit.
        max_tokens: usize,
        /// Before this many tokens there is no stop.
        min_tokens: usize,
        /// 0: greedy.
        temperature: f64,
        /// 0: all.
        top_k: usize,
        /// 1: all.
        top_p: f64,
        /// 0: all.
        min_p: f64,
        /// 1: off.
        typical_p: f64,
        /// 1: off.
        repetition_penalty: f64,
        /// 0: off.
        frequency_penalty: f64,
        /// 0: off.
        presence_penalty: f64,
        /// Of the random stream.
        seed: u64,
        /// Stop tokens, those of the model's defaults included.
        n_stop_tokens: usize,
    }

    /// How far a generation has come.
    pub struct GenerationInfo = finermoe_generation_info {
        /// Why it ended, if it has.
        finish_reason: Option<FinishReason>,
        /// The next token's logits are computed: the next event is only chosen.
        prepared: bool,
        /// What the next event would answer, as far as that is known: it cannot go on.
        status: Option<crate::ErrorCode>,
        /// Tokens of the prompt, the part that the session already held included.
        n_prompt: usize,
        /// Tokens generated.
        n_generated: usize,
        /// Of `n_prompt`: those that the session held already.
        n_kept: usize,
        /// The number of the host's own.
        tag: u64,
        /// Spent in passes over the prompt and appended tokens.
        prefill_seconds: f64,
        /// Spent in passes over generated tokens, and in choosing.
        decode_seconds: f64,
        /// Tokens computed ahead ([`crate::GenerationOptions::lookup`], [`crate::GenerationOptions::draft`]).
        n_drafted: u64,
        /// Those of them that were then chosen.
        n_accepted: u64,
    }

    /// What a verification found in one file.
    pub struct VerifiedFile = finermoe_verification_file {
        /// Its name.
        name: String,
        /// 64 hexadecimal digits.
        sha256: String,
        /// The first tensor that holds a NaN or infinity, or nothing.
        first_bad: String,
        /// Bytes.
        size: u64,
        /// 0 for files that hold none.
        n_tensors: usize,
        /// Parameters that are NaN.
        n_nan: u64,
        /// Parameters that are infinite.
        n_infinite: u64,
    }
}

/// One step of a generation.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Event {
    /// Complete characters, safe to show: what might become a stop string is held back. Often nothing.
    pub text: String,
    /// The token chosen; none where the generation had ended before.
    pub token: Option<i32>,
    /// Natural logarithm of that token's probability, in the model's own distribution before any processing.
    pub logprob: f32,
    /// Why the generation ended, in its last event.
    pub finish_reason: Option<FinishReason>,
    /// The likeliest tokens of the same distribution and their log-probabilities, likeliest first; as many as
    /// `top_logprobs` asked for.
    pub top: Vec<(i32, f32)>,
}

impl Event {
    /// # Safety
    /// `c` was filled by the library, and what it points to is alive.
    pub(super) unsafe fn from_c(c: &sys::finermoe_event) -> Self {
        let text = unsafe { elements_of(c.text.cast::<u8>(), c.text_length) };
        let ids = unsafe { elements_of(c.top_ids, c.n_top) };
        let logprobs = unsafe { elements_of(c.top_logprobs, c.n_top) };
        Event {
            text: String::from_utf8_lossy(text).into_owned(),
            token: (c.token >= 0).then_some(c.token),
            logprob: c.logprob,
            finish_reason: FinishReason::of_c(c.finish_reason),
            top: ids.iter().copied().zip(logprobs.iter().copied()).collect(),
        }
    }
}

/// One message of a chat.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Message {
    /// `"system"`, `"user"` or `"assistant"`.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// # Safety
    /// `c` was filled by the library, and what it points to is alive.
    pub(super) unsafe fn from_c(c: &sys::finermoe_chat_message) -> Self {
        let content = unsafe { elements_of(c.text.cast::<u8>(), c.text_length) };
        Message { role: unsafe { text_of(c.role) }, content: String::from_utf8_lossy(content).into_owned() }
    }
}
