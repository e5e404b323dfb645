//! The constants of the header as enums.

use finermoe_sys as sys;

/// An enum whose variants are constants of the header, and one for what a newer library may answer.
macro_rules! c_enum {
    ($(#[$doc:meta])* pub enum $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $constant:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
            /// A number that a newer library gave.
            Unknown(i32),
        }

        impl $name {
            #[allow(dead_code)] // some only come out, others only go in
            pub(crate) fn from_c(number: i32) -> Self {
                $(if number == sys::$constant as i32 { return Self::$variant; })*
                Self::Unknown(number)
            }

            #[allow(dead_code)]
            pub(crate) fn to_c(self) -> i32 {
                match self {
                    $(Self::$variant => sys::$constant as i32,)*
                    Self::Unknown(number) => number,
                }
            }
        }
    };
}
pub(crate) use c_enum;

c_enum! {
    /// Instruction sets that the processor's kernels are compiled for.
    pub enum Isa {
        /// The best that the machine has.
        Auto = FINERMOE_ISA_AUTO,
        /// Plain code for any processor.
        Portable = FINERMOE_ISA_PORTABLE,
        /// AVX2, FMA, F16C.
        Avx2 = FINERMOE_ISA_AVX2,
        /// AVX-512 F, BW, VL, DQ, VNNI, BF16.
        Avx512 = FINERMOE_ISA_AVX512,
        /// The same, and AMX with BF16.
        Amx = FINERMOE_ISA_AMX,
    }
}

c_enum! {
    /// What a device is.
    pub enum DeviceKind {
        /// The processor.
        Cpu = FINERMOE_DEVICE_CPU,
        /// A graphics processor.
        Gpu = FINERMOE_DEVICE_GPU,
        /// Something else.
        Other = FINERMOE_DEVICE_OTHER,
    }
}

c_enum! {
    /// Element types. `F32`, `F16` and `Bf16` can stand in a checkpoint and a KV cache; a KV cache can be `Q8` too.
    pub enum DType {
        /// 32 bits.
        F32 = FINERMOE_DTYPE_F32,
        /// 16 bits, IEEE half precision.
        F16 = FINERMOE_DTYPE_F16,
        /// 16 bits, bfloat16.
        Bf16 = FINERMOE_DTYPE_BF16,
        /// Blocks with 8.5 bits for a weight.
        Q8 = FINERMOE_DTYPE_Q8,
        /// Blocks with 4.5 bits for a weight.
        Q4 = FINERMOE_DTYPE_Q4,
    }
}

c_enum! {
    /// Weights that stay in memory while the model lives.
    pub enum Lock {
        /// None.
        None = FINERMOE_LOCK_NONE,
        /// What every token reads: not the routed experts, nor an untied embedding.
        EveryToken = FINERMOE_LOCK_EVERY_TOKEN,
        /// All.
        All = FINERMOE_LOCK_ALL,
    }
}

c_enum! {
    /// Reading the experts that the router chose from the disk while the shared expert computes.
    pub enum Prefetch {
        /// With an expert budget, and where the mapped files are larger than the memory available.
        Auto = FINERMOE_PREFETCH_AUTO,
        /// Never.
        Off = FINERMOE_PREFETCH_OFF,
        /// Always.
        On = FINERMOE_PREFETCH_ON,
    }
}

c_enum! {
    /// What kind of token an id stands for.
    pub enum TokenKind {
        /// One of the vocabulary.
        Normal = FINERMOE_TOKEN_NORMAL,
        /// Added, matched in any text.
        Added = FINERMOE_TOKEN_ADDED,
        /// Added and special: matched only with [`TextFlags::PARSE_SPECIAL`](crate::TextFlags::PARSE_SPECIAL).
        Special = FINERMOE_TOKEN_SPECIAL,
        /// An id without a token.
        Unused = FINERMOE_TOKEN_UNUSED,
    }
}

c_enum! {
    /// How the products with weights are computed.
    pub enum Precision {
        /// With float32 activations.
        Exact = FINERMOE_PRECISION_EXACT,
        /// With activations rounded to the weights' own kind; the router stays float32.
        Fast = FINERMOE_PRECISION_FAST,
    }
}

c_enum! {
    /// What a session keeps of the rows that an append names.
    pub enum Hidden {
        /// Their logits.
        None = FINERMOE_HIDDEN_NONE,
        /// Their logits and hidden states.
        Keep = FINERMOE_HIDDEN_KEEP,
        /// Their hidden states; no logits are computed.
        Only = FINERMOE_HIDDEN_ONLY,
    }
}

c_enum! {
    /// Why a generation ended.
    pub enum FinishReason {
        /// A stop token was chosen. Its id is in the event, its text is not.
        StopToken = FINERMOE_FINISH_STOP_TOKEN,
        /// A stop string came up.
        StopString = FINERMOE_FINISH_STOP_STRING,
        /// As many tokens as were asked for.
        MaxTokens = FINERMOE_FINISH_MAX_TOKENS,
        /// The session is full: this token took its last place, or, without a token, the prompt or appended tokens
        /// already had.
        ContextFull = FINERMOE_FINISH_CONTEXT_FULL,
        /// [`Generation::finish`](crate::Generation::finish).
        Host = FINERMOE_FINISH_HOST,
        /// Only in a batch: the event's error says why.
        Error = FINERMOE_FINISH_ERROR,
    }
}

impl FinishReason {
    /// None while it goes on.
    pub(crate) fn of_c(number: i32) -> Option<Self> {
        (number != sys::FINERMOE_FINISH_NONE as i32).then(|| Self::from_c(number))
    }
}

c_enum! {
    /// The matrix behind the concatenated output components that upcycling makes.
    pub enum ConcatProj {
        /// None.
        None = FINERMOE_CONCAT_PROJ_NONE,
        /// Drawn from a normal distribution.
        Normal = FINERMOE_CONCAT_PROJ_NORMAL,
        /// Zero.
        Zero = FINERMOE_CONCAT_PROJ_ZERO,
    }
}

c_enum! {
    /// How upcycling makes a router.
    pub enum RouterInit {
        /// Drawn from a normal distribution.
        Normal = FINERMOE_ROUTER_INIT_NORMAL,
        /// Rows repeated, so that virtual groups begin alike.
        VirtualGroup = FINERMOE_ROUTER_INIT_VIRTUAL_GROUP,
    }
}

/// How important a message of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum LogLevel {
    /// For who looks for a fault.
    Debug,
    /// What may interest someone.
    Information,
    /// Something that should be looked at.
    Warning,
}

impl LogLevel {
    /// The header has numbers for these, and no names.
    pub(crate) fn from_c(level: i32) -> Self {
        match level {
            0 => LogLevel::Debug,
            1 => LogLevel::Information,
            _ => LogLevel::Warning,
        }
    }
}

bitflags::bitflags! {
    /// How texts become ids, ids become text, and chats become prompts.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
    pub struct TextFlags: u32 {
        /// Encoding: special tokens in the text become their ids.
        const PARSE_SPECIAL = sys::FINERMOE_TEXT_PARSE_SPECIAL;
        /// Decoding: special tokens are written out instead of left out.
        const SHOW_SPECIAL = sys::FINERMOE_TEXT_SHOW_SPECIAL;
        /// Chat: do not open the assistant's turn at the end.
        const NO_GENERATION_PROMPT = sys::FINERMOE_TEXT_NO_GENERATION_PROMPT;
        /// Encoding: leave out the special tokens that the tokenizer puts around a text.
        const NO_SPECIAL_TOKENS = sys::FINERMOE_TEXT_NO_SPECIAL_TOKENS;
        /// Chat: the last message is left open at its end, to be gone on with, and no turn is opened behind it.
        const CONTINUE_LAST = sys::FINERMOE_TEXT_CONTINUE_LAST;
    }
}

bitflags::bitflags! {
    /// What a trace records. `ROUTES` and `LOGITS` grow with every token; `USAGE` does not.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
    pub struct Record: u32 {
        /// Experts, their weights, and the winning groups of each token.
        const ROUTES = sys::FINERMOE_TRACE_ROUTES;
        /// The router's logits.
        const LOGITS = sys::FINERMOE_TRACE_LOGITS;
        /// How often each expert was chosen.
        const USAGE = sys::FINERMOE_TRACE_USAGE;
    }
}
