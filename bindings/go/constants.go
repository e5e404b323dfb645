package finermoe

// #include <finermoe.h>
import "C"

import "fmt"

// DType is the type of the elements of weights or of a KV cache.
type DType int32

const (
	F32  DType = C.FINERMOE_DTYPE_F32
	F16  DType = C.FINERMOE_DTYPE_F16
	BF16 DType = C.FINERMOE_DTYPE_BF16
	Q8   DType = C.FINERMOE_DTYPE_Q8 // blocks of 8 bits, 8.5 for a weight
	Q4   DType = C.FINERMOE_DTYPE_Q4 // blocks of 4 bits, 4.5 for a weight

	// SourceDType leaves a type as the configuration or the source has it; [Override] and [Synthesize] take it.
	SourceDType DType = -1
)

func (t DType) String() string { return name(t, "f32", "f16", "bf16", "q8", "q4") }

// ISA is an instruction set of CPU kernels. It is a [RuntimeOption]: one that the machine lacks is refused
// (ErrUnsupported).
type ISA int32

const (
	ISAAuto     ISA = C.FINERMOE_ISA_AUTO // the best that the machine has
	ISAPortable ISA = C.FINERMOE_ISA_PORTABLE
	ISAAVX2     ISA = C.FINERMOE_ISA_AVX2   // AVX2, FMA, F16C
	ISAAVX512   ISA = C.FINERMOE_ISA_AVX512 // AVX-512 F, BW, VL, DQ, VNNI, BF16
	ISAAMX      ISA = C.FINERMOE_ISA_AMX    // the same, and AMX with BF16
)

func (i ISA) String() string { return name(i, "auto", "portable", "avx2", "avx512", "amx") }

// DeviceKind is a kind of device.
type DeviceKind int32

const (
	DeviceCPU   DeviceKind = C.FINERMOE_DEVICE_CPU
	DeviceGPU   DeviceKind = C.FINERMOE_DEVICE_GPU
	DeviceOther DeviceKind = C.FINERMOE_DEVICE_OTHER
)

func (k DeviceKind) String() string { return name(k, "cpu", "gpu", "other") }

// LogLevel is the weight of a message for the host's log.
type LogLevel int32

const (
	LogDebug LogLevel = iota
	LogInformation
	LogWarning
)

func (l LogLevel) String() string { return name(l, "debug", "information", "warning") }

// Lock says which weights stay in memory while the model lives. It is a [ModelOption].
type Lock int32

const (
	LockNone       Lock = C.FINERMOE_LOCK_NONE
	LockEveryToken Lock = C.FINERMOE_LOCK_EVERY_TOKEN // what every token reads, which routed experts are not
	LockAll        Lock = C.FINERMOE_LOCK_ALL
)

// Prefetch says whether the experts that the router chose are read from the disk while the shared expert computes. It
// is a [ModelOption].
type Prefetch int32

const (
	PrefetchAuto Prefetch = C.FINERMOE_PREFETCH_AUTO // with a budget, and where the files are larger than the memory
	PrefetchOff  Prefetch = C.FINERMOE_PREFETCH_OFF
	PrefetchOn   Prefetch = C.FINERMOE_PREFETCH_ON
)

// TextFlag says how a text becomes ids, or ids a text. Those that mean something for a request (ParseSpecial,
// NoSpecialTokens, ShowSpecial; ContinueLast and NoGenerationPrompt for a chat) are a [GenerateOption] as well.
type TextFlag uint32

const (
	ParseSpecial       TextFlag = C.FINERMOE_TEXT_PARSE_SPECIAL        // special tokens in the text become their ids
	ShowSpecial        TextFlag = C.FINERMOE_TEXT_SHOW_SPECIAL         // special tokens are written out
	NoGenerationPrompt TextFlag = C.FINERMOE_TEXT_NO_GENERATION_PROMPT // the assistant's turn is not opened
	NoSpecialTokens    TextFlag = C.FINERMOE_TEXT_NO_SPECIAL_TOKENS    // no BOS or EOS around the text
	ContinueLast       TextFlag = C.FINERMOE_TEXT_CONTINUE_LAST        // the last message is left open, to be gone on with
)

// TokenKind says what an id stands for.
type TokenKind int32

const (
	TokenNormal  TokenKind = C.FINERMOE_TOKEN_NORMAL
	TokenAdded   TokenKind = C.FINERMOE_TOKEN_ADDED   // added, matched in any text
	TokenSpecial TokenKind = C.FINERMOE_TOKEN_SPECIAL // matched only with ParseSpecial
	TokenUnused  TokenKind = C.FINERMOE_TOKEN_UNUSED  // an id without a token
)

func (k TokenKind) String() string { return name(k, "normal", "added", "special", "unused") }

// Precision says how the products with weights are computed. It is a [SessionOption].
type Precision int32

const (
	PrecisionExact Precision = C.FINERMOE_PRECISION_EXACT // float32 activations
	PrecisionFast  Precision = C.FINERMOE_PRECISION_FAST  // activations rounded to the weights' own kind
)

func (p Precision) String() string { return name(p, "exact", "fast") }

// Hidden says what is kept of the rows that an append names. It is a [SessionOption].
type Hidden int32

const (
	HiddenNone Hidden = C.FINERMOE_HIDDEN_NONE // their logits
	HiddenKeep Hidden = C.FINERMOE_HIDDEN_KEEP // their logits and hidden states
	HiddenOnly Hidden = C.FINERMOE_HIDDEN_ONLY // their hidden states; no logits are computed
)

// Logits says which rows of logits an append keeps.
type Logits int32

const (
	LogitsNone Logits = C.FINERMOE_LOGITS_NONE
	LogitsLast Logits = C.FINERMOE_LOGITS_LAST
	LogitsAll  Logits = C.FINERMOE_LOGITS_ALL
)

// TraceWhat says what a trace records; the values can be or'ed. Routes and logits grow with every token.
type TraceWhat uint32

const (
	TraceRoutes TraceWhat = C.FINERMOE_TRACE_ROUTES
	TraceLogits TraceWhat = C.FINERMOE_TRACE_LOGITS
	TraceUsage  TraceWhat = C.FINERMOE_TRACE_USAGE
)

// FinishReason says why a request has ended.
type FinishReason int32

const (
	FinishNone        FinishReason = C.FINERMOE_FINISH_NONE       // it goes on
	FinishStopToken   FinishReason = C.FINERMOE_FINISH_STOP_TOKEN // the id is in the event, its text is not
	FinishStopString  FinishReason = C.FINERMOE_FINISH_STOP_STRING
	FinishMaxTokens   FinishReason = C.FINERMOE_FINISH_MAX_TOKENS
	FinishContextFull FinishReason = C.FINERMOE_FINISH_CONTEXT_FULL // the session is full
	FinishHost        FinishReason = C.FINERMOE_FINISH_HOST         // Generation.Finish
	FinishError       FinishReason = C.FINERMOE_FINISH_ERROR        // of a member of a batch: BatchEvent.Err says why
)

func (r FinishReason) String() string {
	return name(r, "none", "stop_token", "stop_string", "max_tokens", "context_full", "host", "error")
}

// ConcatProj says how upcycling begins the projection of concatenated components. It is an [UpcycleOption].
type ConcatProj int32

const (
	ConcatProjNone   ConcatProj = C.FINERMOE_CONCAT_PROJ_NONE
	ConcatProjNormal ConcatProj = C.FINERMOE_CONCAT_PROJ_NORMAL
	ConcatProjZero   ConcatProj = C.FINERMOE_CONCAT_PROJ_ZERO
)

// RouterInit says how upcycling begins the router. It is an [UpcycleOption].
type RouterInit int32

const (
	RouterInitNormal       RouterInit = C.FINERMOE_ROUTER_INIT_NORMAL
	RouterInitVirtualGroup RouterInit = C.FINERMOE_ROUTER_INIT_VIRTUAL_GROUP
)

// name is the text of an enumerator, or its number where it has none.
func name[E ~int32](value E, names ...string) string {
	if value >= 0 && int(value) < len(names) {
		return names[value]
	}
	return fmt.Sprint(int32(value))
}

// flagsOf is the flags or'ed.
func flagsOf(flags []TextFlag) uint32 {
	var all TextFlag
	for _, flag := range flags {
		all |= flag
	}
	return uint32(all)
}

// number is a flag of the C API, 0 or 1.
func number(flag bool) int32 {
	if flag {
		return 1
	}
	return 0
}
